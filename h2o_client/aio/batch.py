"""`AsyncBatch`: `Batch` for asyncio and trio."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

from h2o_client.aio.offload import in_thread, is_cancelled, run_to_completion
from h2o_client.errors import ConfigurationError

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from h2o_client.batch.batch import Batch
    from h2o_client.batch.progress import Progress
    from h2o_client.batch.results import Result

_POLL_EVERY = 0.5  # seconds of each wait in a thread, so that the thread of a cancelled task ends


class AsyncBatch:
    """`h2o_client.batch.Batch` for async code: use ``async for`` for its results, ``async with``.

    The batch starts when it is first iterated or entered.
    """

    def __init__(self, run: Callable[[], Batch]) -> None:
        self._run = run
        self._batch: Batch | None = None
        self._is_started = False
        self._is_closed = False
        self._stop_within: float | None = None  # seconds, if `stop` was called before the start

    @property
    def progress(self) -> Progress | None:
        """How many prompts are answered, and what the batch waits for; None before it starts."""
        return None if self._batch is None else self._batch.progress

    def __aiter__(self) -> AsyncIterator[Result]:
        return self

    async def __anext__(self) -> Result:
        batch = self._batch or await self._start()
        while True:
            row = batch.next_row(0.0)  # a result that is ready needs no thread
            if row is None:
                if batch.is_over:
                    raise StopAsyncIteration
                row = await in_thread(lambda: batch.next_row(_POLL_EVERY))
            if row is not None:
                return row.result()

    def stop(self, seconds: float = 2.0) -> None:
        """Stop sending, and end the batch within ``seconds``. Returns at once."""
        self._stop_within = seconds
        if self._batch is not None:
            self._batch.stop(seconds)

    async def aclose(self) -> None:
        """Stop the batch if it is running, and wait for its end. Idempotent."""
        self._is_started = self._is_closed = True
        if self._batch is not None:
            await run_to_completion(self._batch.close)

    async def __aenter__(self) -> Self:
        await self._start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, _: TracebackType | None
    ) -> None:
        if self._batch is not None:
            await run_to_completion(self._batch.close, quickly=is_cancelled(exc))

    async def _start(self) -> Batch:
        if self._is_started:
            raise ConfigurationError(
                "This batch has already been started or closed", hint="Iterate it in one task only."
            )
        self._is_started = True
        self._batch = await in_thread(self._run)
        if self._stop_within is not None:
            self._batch.stop(self._stop_within)
        if self._is_closed:  # by another task, in the meantime
            await run_to_completion(self._batch.close)
        return self._batch
