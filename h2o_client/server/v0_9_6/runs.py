"""Running answers. Each continues to its end and is stored, also if its client disconnects."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from h2o_client.server.engine import Turn
from h2o_client.server.failure_log import log_failure
from h2o_client.server.generation import Cut, Generation, Generations, Refused
from h2o_client.server.race import Overtaken, unless
from h2o_client.server.records import Update
from h2o_client.server.v0_9_6.answer_updates import AnswerUpdates
from h2o_client.server.v0_9_6.outbox import Outbox
from h2o_client.wire import updates
from h2o_client.wire.events import Failure, Final, Status, Title, Token

Keep = Callable[[str, Sequence[Update], bool | None], None]
"""Stores an answer: its text, its updates, and whether it was interrupted (None without a final
update)."""


class Runs:
    """All running answers. Call `close` when the server ends.

    An answer is stored every ``kept_every`` seconds and when its client disconnects; if None, only
    at its end.
    """

    def __init__(self, generations: Generations, *, kept_every: float | None = None) -> None:
        self._generations = generations
        self._kept_every = kept_every
        self._running: dict[asyncio.Task[None], Run] = {}

    def begin(
        self,
        name: str,
        turns: Sequence[Turn],
        parameters: Mapping[str, object],
        *,
        title: str,
        keep: Keep,
        updates: AnswerUpdates,
    ) -> Run:
        """Start an answer to ``turns``. The data for its client is put into its outbox.

        `Generations.stop` and `of` find it by its ``name``. May raise `Overloaded`.
        """
        with ExitStack() as stack:
            generation = stack.enter_context(self._generations.begin(name, turns, parameters))
            run = Run(
                name, generation, updates, title=title, keep=keep, kept_every=self._kept_every
            )
            task = asyncio.get_running_loop().create_task(_run_with(run, stack.pop_all()))
        self._running[task] = run
        task.add_done_callback(self._running.pop)
        return run

    def of(self, name: str) -> list[Run]:
        """The running answers with that name."""
        return [run for run in self._running.values() if run.name == name]

    async def close(self) -> None:
        """Wait for the end of all stopped answers."""
        if self._running:
            await asyncio.wait(self._running)


class Run:
    """One answer: turns the events of a generation into updates, and stores the text."""

    def __init__(
        self,
        name: str,
        generation: Generation,
        updates: AnswerUpdates,
        *,
        title: str,
        keep: Keep,
        kept_every: float | None,
    ) -> None:
        self.name = name
        self.updates = updates
        self.outbox: Outbox = Outbox()
        self._generation = generation
        self._title = title
        self._keep = keep
        self._kept_every = kept_every
        self._cut: Callable[[str], str] = str
        self._texts: list[str] = []

    @property
    def is_running(self) -> bool:
        """Whether it has neither ended nor been stopped."""
        return not self._generation.stopped.is_set()

    def abort(self) -> None:
        """Stop the answer."""
        self._generation.stopped.set()

    async def stop(self, cut: Callable[[str], str]) -> None:
        """Stop the answer, and wait until it is stored with the text that ``cut`` returns."""
        self._cut = cut
        self.abort()
        await self._generation.ended.wait()

    async def run(self) -> None:
        """Run until the answer has ended in any way."""
        background = [asyncio.ensure_future(each) for each in self._background_tasks()]
        try:
            self._send(Status("started"))
            self.outbox.put(_KEEP_ALIVE)
            if self._title:
                self._send(Title(self._title))
            self._end(await self._until_stopped())
        finally:
            for each in background:
                each.cancel()
            self.updates.close()
            self.outbox.close()

    @property
    def _text(self) -> str:
        return "".join(self._texts)

    async def _until_stopped(self) -> Final | Failure | None:
        try:
            end = await unless(self._answer(), self._generation.stopped.wait())
        except Overtaken:
            end = None
        except Exception as exc:
            log_failure("An answer", exc)
            return Failure("An error occurred")
        # A stopped engine may end before the stop is noticed here, normally or with an error.
        if not isinstance(end, Final) and self._generation.stopped.is_set():
            return Final(self._cut(self._text), interrupted=True)
        if not self._text.strip() and not isinstance(end, Failure):
            return Failure("No output was generated. Something went wrong.")
        return end

    async def _answer(self) -> Final | Failure | None:
        while isinstance(event := await self._generation.next(), Token):
            if event.special or not event.text:
                continue
            self.outbox.put(updates.write(event))
            self.updates.add_text(event.text)
            self._texts.append(event.text)
            await self.outbox.room()
        if isinstance(event, Final):
            return Final(self._text.rstrip(), interrupted=False)
        if isinstance(event, Refused):
            return self._refused(event)
        if isinstance(event, Cut):
            return Failure("terminated" if self._texts else "Connection error.")
        return None

    def _refused(self, refused: Refused) -> Failure:
        # After the first token a failure has no status; before it, the message contains the status.
        if self._texts or refused.status is None:
            return Failure(refused.message)
        return Failure(f"{refused.status} {refused.message}", status=refused.status)

    def _end(self, end: Final | Failure | None) -> None:
        text = (end.text or "") if isinstance(end, Final) else self._text
        closing = () if isinstance(end, Failure) else (Status("finished"),)
        last = () if end is None else (end,)
        for each in (*last, *closing):
            self.updates.add(each)
        # Store the text before the client sees the end, so that it can read the same text.
        interrupted = end.interrupted if isinstance(end, Final) else None
        self._keep(text, self.updates.all(), interrupted)
        padding = updates.ANSWER_PADDING if isinstance(end, Final) else b""
        lines = [updates.write(each) for each in (*last, *closing)]
        lines.insert(len(last), padding)
        self.outbox.put(b"".join(lines))

    def _send(self, update: Status | Title) -> None:
        self.updates.add(update)
        self.outbox.put(updates.write(update))

    def _background_tasks(self) -> list[Coroutine[Any, Any, None]]:
        if self._kept_every is None:
            return [self._send_keep_alives()]
        return [
            self._send_keep_alives(),
            self._store_every(self._kept_every),
            self._store_when_disconnected(),
        ]

    async def _send_keep_alives(self) -> None:
        while True:
            await asyncio.sleep(_ALIVE_EVERY)
            if self.outbox.empty:
                self.outbox.put(_KEEP_ALIVE)

    async def _store_every(self, seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds)
            self._keep(self._text, self.updates.all(), None)

    async def _store_when_disconnected(self) -> None:
        await self.outbox.left.wait()
        self._keep(self._text, self.updates.all(), None)


_KEEP_ALIVE = updates.write(Status("keepAlive"))
_ALIVE_EVERY = 0.1


async def _run_with(run: Run, ending: ExitStack) -> None:
    with ending:
        await run.run()
