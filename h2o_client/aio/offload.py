"""Waiting that does not hold the event loop up: in threads, and for sockets."""

from __future__ import annotations

import asyncio
import math
import sys
from collections.abc import Callable
from typing import TypeVar

import anyio
import anyio.to_thread

from h2o_client.background import undisturbed
from h2o_client.transport import Waker

T = TypeVar("T")

_QUICK = 0.25  # seconds that a cancelled caller waits for what is cleaned up behind it


async def in_thread(work: Callable[[], T]) -> T:
    """What ``work`` gives, in a thread that nobody else has to wait for."""

    def left_alone() -> T:
        with undisturbed():
            return work()

    # A limiter for each call: none of them waits for another, and anyio's own is left alone.
    limiter = anyio.CapacityLimiter(1)
    return await anyio.to_thread.run_sync(left_alone, abandon_on_cancel=True, limiter=limiter)


async def called(work: Callable[[], T]) -> T:
    """What ``work`` gives; a caller that is cancelled ends its requests, and so its thread."""
    waker = Waker()

    def watched() -> T:
        with waker.watching():
            return work()

    try:
        return await in_thread(watched)
    except BaseException:
        waker.wake()
        raise


async def finished(work: Callable[[], object], *, quickly: bool = False) -> None:
    """Has ``work``, which is bounded by itself, done although the caller may be cancelled.

    A cancelled caller waits for a short time only; the work goes on to its end.
    """
    quickly = quickly or anyio.current_effective_deadline() == -math.inf
    with anyio.move_on_after(_QUICK if quickly else None, shield=True):
        await in_thread(work)


class Readiness:
    """Waits for a socket, again and again, in whichever event loop runs.

    In asyncio it does what anyio does too, at half its cost for each token: there is one timer for
    all the waits, which is set again only when it has rung.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._deadline = math.inf

    async def wait(self, descriptor: int, seconds: float | None) -> None:
        """Returns when there is something to read, or when the time is over."""
        loop = _asyncio_loop()
        if loop is None:
            with anyio.move_on_after(seconds):
                await anyio.wait_readable(descriptor)
            return
        self._set_timer(loop, seconds)
        self._waiter = waiter = loop.create_future()
        loop.add_reader(descriptor, _set, waiter)
        try:
            await waiter
        finally:
            loop.remove_reader(descriptor)
            self._waiter = None

    def close(self) -> None:
        """There will be no more waits."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set_timer(self, loop: asyncio.AbstractEventLoop, seconds: float | None) -> None:
        if loop is not self._loop:
            self._loop, self._timer = loop, None
        self._deadline = math.inf if seconds is None else loop.time() + seconds
        if self._timer is not None and self._timer.when() > self._deadline:
            self.close()
        if self._timer is None and seconds is not None:
            self._timer = loop.call_at(self._deadline, self._ring)

    def _ring(self) -> None:
        assert self._loop is not None
        self._timer = None
        if self._waiter is None or self._deadline == math.inf:
            return
        if self._loop.time() >= self._deadline:
            _set(self._waiter)
        else:
            self._timer = self._loop.call_at(self._deadline, self._ring)


def _asyncio_loop() -> asyncio.AbstractEventLoop | None:
    """The loop of asyncio's that runs this task, if it can wait for a descriptor."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return None
    # trio can be a guest in a loop, and Windows' own loop knows no descriptors.
    if asyncio.current_task() is None or isinstance(loop, _NO_DESCRIPTORS):
        return None
    return loop


_NO_DESCRIPTORS = (getattr(asyncio, "ProactorEventLoop", ()),) if sys.platform == "win32" else ()


def _set(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def is_cancelled(exc: BaseException | None) -> bool:
    """Whether an ``async with`` is left because its task is cancelled, or by Ctrl-C."""
    return exc is not None and not isinstance(exc, Exception)
