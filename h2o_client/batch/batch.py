"""`Batch`: an iterator over the results of many prompts, which a background thread sends."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from h2o_client.batch.dispatcher import Engine
from h2o_client.batch.journal import Journal, Row
from h2o_client.batch.progress import Progress
from h2o_client.batch.results import Result
from h2o_client.errors import ConfigurationError
from h2o_client.timeouts import monotonic

if TYPE_CHECKING:
    from typing_extensions import Self

    from h2o_client.session import H2oSession

_STOP_WITHIN = 2.0  # seconds
_POLL_EVERY = 0.2
_JOIN_WITHIN = 10.0

MakeEngine = Callable[[Callable[[], None]], Engine]
"""Makes the engine. Its argument is called when there are results."""


class Batch(Iterator[Result]):
    """An iterator over the results of a batch, as they arrive or in the order of the prompts.

    The results of earlier runs come first. If you may leave the iteration early, use the batch in a
    ``with`` block. With a journal, servers since July 2026 then continue unfinished answers, for
    the next run. Otherwise unfinished answers are stopped and deleted. If nothing more
    can be sent (no login works any more, or the server was down for too long), the iteration
    returns all results and then raises the error. So it does if one of the sessions was closed.
    """

    def __init__(
        self,
        journal: Journal,
        make_engine: MakeEngine,
        sessions: Iterable[H2oSession],
        *,
        ordered: bool,
    ) -> None:
        self._run = _Run(journal, make_engine)
        self._ordered = ordered
        self._after = -1 if ordered else 0
        self._page: deque[Row] = deque()
        self._abandoned = weakref.finalize(self, self._run.abandon)
        self._abandoned.atexit = False  # the run itself notices the end of the program
        self._run.start()
        for session in sessions:
            session._backend.add_batch(self._run)

    @property
    def progress(self) -> Progress:
        """How many prompts are answered, and what the batch waits for."""
        return self._run.engine.progress()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Result:
        try:
            row = self.next_row()
        except KeyboardInterrupt:
            self.stop()  # a notebook keeps this object, so that no finalizer stops it
            raise
        if row is None:
            raise StopIteration
        return row.result()

    def stop(self, seconds: float = _STOP_WITHIN) -> None:
        """Send no more prompts, and end within ``seconds``. Returns at once.

        The iteration then returns the remaining results and ends.
        """
        self._run.stop(seconds)

    def close(self) -> None:
        """Stop the batch if it has not ended, and wait for its end. Idempotent."""
        self._run.stop(_STOP_WITHIN)
        self._run.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        found = self.progress
        return f"<Batch {found.answered} answered, {found.failed} failed, {found.waiting} waiting>"

    @property
    def is_over(self) -> bool:
        """Whether all results were returned, and no more will come."""
        return self._run.is_over and not self._page

    def next_row(self, seconds: float | None = None) -> Row | None:
        """Return the next result as the journal stores it; None at the end, or after ``seconds``.

        At the end, raises once the error that left prompts without a result.
        """
        if not self._page:
            self._page.extend(self._run.results(self._after, self._ordered, seconds))
        if not self._page:
            return None
        row = self._page.popleft()
        self._after = row.index if self._ordered else row.number
        return row


class _Run:
    """Runs the engine in a thread. It has no reference to the `Batch`, which may be collected."""

    def __init__(self, journal: Journal, make_engine: MakeEngine) -> None:
        self._journal = journal
        self._changed = threading.Condition()  # guards is_over; notified when there are results
        self._pid = os.getpid()
        self._is_over = False
        self._is_abandoned = False  # whether the results are no longer read
        self._is_raised = False
        self._loop: asyncio.AbstractEventLoop | None = None
        # The last call for the loop, in case it came before the loop existed.
        self._posted: Callable[[], None] | None = None
        self.engine = make_engine(self._notify)
        # Not a daemon thread: the program waits for its end.
        self._thread = threading.Thread(target=self._work, name="h2o_client-batch", daemon=False)

    def start(self) -> None:
        self._thread.start()

    @property
    def is_over(self) -> bool:
        """Whether the engine has ended."""
        return self._is_over

    def results(self, after: int, ordered: bool, seconds: float | None) -> list[Row]:
        """Return results after the position ``after``, as soon as there are any; [] at the end."""
        if os.getpid() != self._pid:
            raise ConfigurationError(
                "A batch cannot be read in a forked process",
                hint="Read it in the process that has started it.",
            )
        with self._changed:
            while True:
                is_over = self._is_over
                if not is_over or not self._journal.is_closed:
                    found = self._journal.results(after, ordered=ordered)
                    if found:
                        return found
                if is_over:
                    break
                if not self._changed.wait(seconds) and seconds is not None:
                    return []
        self._journal.close()
        self._raise()
        return []

    def _raise(self) -> None:
        failure = self.engine.failure
        if failure is not None and not self._is_raised:
            self._is_raised = True
            raise failure

    def abandon(self) -> None:
        """Stop the engine, and close the journal at its end. For a finalizer."""
        self._is_abandoned = True
        self.stop(_STOP_WITHIN)
        if self._is_over:
            self._journal.close()

    def stop(self, seconds: float) -> None:
        """Stop the engine within ``seconds``, from any thread or finalizer."""
        self._post(partial(self.engine.stop, seconds))

    def end(self, *, until: float | None = None) -> None:
        """Stop the engine and wait for its end: a session of the batch is being closed."""
        if not self._thread.is_alive():
            return
        self._post(partial(self.engine.end, _STOP_WITHIN))
        self._thread.join(None if until is None else max(0.0, until - monotonic()))

    def forget(self) -> None:
        """Do nothing: in a forked child, the thread of the batch does not exist."""

    def join(self) -> None:
        self._thread.join(_JOIN_WITHIN)
        if not self._thread.is_alive():
            self._journal.close()

    def _post(self, call: Callable[[], None]) -> None:
        self._journal.end_soon()
        self._posted = call
        loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(call)

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _work(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as exc:
            if self.engine.failure is None:
                self.engine.failure = exc
        finally:
            with self._changed:
                self._is_over = True
                self._changed.notify_all()
            self._journal.end()
            if self._is_abandoned:
                self._journal.close()

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        if self._posted is not None:
            self._posted()
        watch = asyncio.create_task(self._watch_program())
        try:
            await self.engine.run()
        finally:
            watch.cancel()

    async def _watch_program(self) -> None:
        """Stop when the program ends, for example after Ctrl-C."""
        while threading.main_thread().is_alive():
            await asyncio.sleep(_POLL_EVERY)
        self.engine.stop(_STOP_WITHIN)
