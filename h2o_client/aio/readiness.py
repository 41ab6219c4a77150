"""Wait for an answer's socket in the event loop, and read it there."""

from __future__ import annotations

import asyncio
import math
import sys
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from h2o_client.answer.reader import AnswerReader
    from h2o_client.answer.steps import AnswerSteps

_NO_DESCRIPTORS = (getattr(asyncio, "ProactorEventLoop", ()),) if sys.platform == "win32" else ()


class Readiness:
    """Waits for the socket of one answer, in asyncio or trio.

    In asyncio the socket stays registered between waits, with one timer for all of them. This costs
    half as much per token as anyio's `wait_readable`. A thread that closes the socket first waits
    until it is no longer registered, because another socket could get the same descriptor.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._reader: AnswerReader | None = None  # whose descriptor is registered
        # Set only during a wait: the event loop and the reader refer to this object, which would
        # keep an abandoned reply's answer alive.
        self._steps: AnswerSteps | None = None
        self._descriptor: int | None = None  # while it is registered
        self._waiter: asyncio.Future[bool | None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._deadline = math.inf

    async def wait(self, steps: AnswerSteps) -> bool | None:
        """Wait for bytes, and return the result of `AnswerSteps.advance_ready`; None at a timeout.

        Raises `TimeoutError` if the timeout expired before the call.
        """
        reader = steps.reader
        watched = None if reader is None else reader.watch(self._is_alive)
        if reader is None or watched is None:
            return False
        descriptor, seconds = watched
        loop = self._asyncio_loop()
        if loop is None:
            return await _wait_in_anyio(steps, reader, descriptor, seconds)
        if self._descriptor != descriptor or self._loop is not loop:
            self.close()
            self._loop, self._reader, self._descriptor = loop, reader, descriptor
            loop.add_reader(descriptor, self._on_readable)
        self._set_timer(loop, seconds)
        self._waiter, self._steps = loop.create_future(), steps
        try:
            return await self._waiter
        finally:
            self._waiter = self._steps = None

    def close(self) -> None:
        """Unregister the socket. Call this in the event loop, if the loop is still running."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._descriptor is None:
            return
        if self._is_alive():
            assert self._loop is not None
            self._loop.remove_reader(self._descriptor)
        self._descriptor = None
        if self._reader is not None:
            self._reader.unwatch()
            self._reader = None

    def _on_readable(self) -> None:
        waiter = self._waiter
        if waiter is None or waiter.done() or self._steps is None:
            self.close()  # no task is waiting: the bytes stay in the socket
            return
        try:
            ready = self._steps.advance_ready()
        except BaseException as exc:
            self.close()
            waiter.set_exception(exc)
            return
        if ready is False:
            self.close()
        if ready is not None:
            waiter.set_result(ready)

    def _set_timer(self, loop: asyncio.AbstractEventLoop, seconds: float | None) -> None:
        self._deadline = math.inf if seconds is None else loop.time() + seconds
        if self._timer is not None and self._timer.when() > self._deadline:
            self._timer.cancel()
            self._timer = None
        if self._timer is None and seconds is not None:
            self._timer = loop.call_at(self._deadline, self._on_timer)

    def _on_timer(self) -> None:
        assert self._loop is not None
        self._timer = None
        if self._waiter is None or self._waiter.done() or self._deadline == math.inf:
            return
        if self._loop.time() >= self._deadline:
            self._waiter.set_result(None)
        else:
            self._timer = self._loop.call_at(self._deadline, self._on_timer)

    def _is_alive(self) -> bool:
        return self._loop is None or not self._loop.is_closed()

    def _asyncio_loop(self) -> asyncio.AbstractEventLoop | None:
        """The asyncio loop that runs this task, if it can wait for a descriptor."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return None
        if loop is self._loop:
            return loop
        # trio can be a guest in an asyncio loop. Windows' default loop cannot watch descriptors.
        if asyncio.current_task() is None or isinstance(loop, _NO_DESCRIPTORS):
            return None
        return loop


async def _wait_in_anyio(
    steps: AnswerSteps, reader: AnswerReader, descriptor: int, seconds: float | None
) -> bool | None:
    try:
        with anyio.move_on_after(seconds):
            await anyio.wait_readable(descriptor)
    finally:
        reader.unwatch()
    return steps.advance_ready()
