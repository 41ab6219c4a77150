"""`AsyncBatch`: the results of many prompts, for ``async for``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

from h2o_client.aio.offload import finished, in_thread, is_cancelled
from h2o_client.errors import ConfigurationError

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from h2o_client.batch.batch import Batch
    from h2o_client.batch.progress import Progress
    from h2o_client.batch.results import Result

_LOOK_EVERY = 0.5  # seconds, so that a thread of a task that was cancelled ends


class AsyncBatch:
    """`h2o_client.batch.Batch` for async code: ``async for`` its results, ``async with`` it.

    It begins when it is first iterated or entered.
    """

    def __init__(self, begin: Callable[[], Batch]) -> None:
        self._begin = begin
        self._batch: Batch | None = None
        self._is_begun = False
        self._is_closed = False
        self._stop_within: float | None = None  # of a `stop` before the start

    @property
    def progress(self) -> Progress | None:
        """How many prompts are answered, and what the batch waits for; None before its start."""
        return None if self._batch is None else self._batch.progress

    def __aiter__(self) -> AsyncIterator[Result]:
        return self

    async def __anext__(self) -> Result:
        batch = self._batch or await self._begun()
        while True:
            row = batch.next_row(0.0)  # what is there needs no thread
            if row is None:
                if batch.is_over:
                    raise StopAsyncIteration
                row = await in_thread(lambda: batch.next_row(_LOOK_EVERY))
            if row is not None:
                return row.result()

    def stop(self, seconds: float = 2.0) -> None:
        """Send nothing more, and end the batch within so many seconds. Returns at once."""
        self._stop_within = seconds
        if self._batch is not None:
            self._batch.stop(seconds)

    async def aclose(self) -> None:
        """Stop the batch if it is running, and wait for its end. Idempotent."""
        self._is_begun = self._is_closed = True
        if self._batch is not None:
            await finished(self._batch.close)

    async def __aenter__(self) -> Self:
        await self._begun()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, _: TracebackType | None
    ) -> None:
        if self._batch is not None:
            await finished(self._batch.close, quickly=is_cancelled(exc))

    async def _begun(self) -> Batch:
        if self._is_begun:
            raise ConfigurationError(
                "This batch has already been started or closed: iterate it in one task."
            )
        self._is_begun = True
        self._batch = await in_thread(self._begin)
        if self._stop_within is not None:
            self._batch.stop(self._stop_within)
        if self._is_closed:  # by another task, in the meantime
            await finished(self._batch.close)
        return self._batch
