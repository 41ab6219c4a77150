"""Run blocking work in threads, so that it does not block the event loop."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from typing import TypeVar, cast

import anyio
import anyio.lowlevel
import anyio.to_thread

from h2o_client.backend.background import uninterruptible
from h2o_client.backend.standing_threads import run_in_standing_thread
from h2o_client.timeouts import monotonic
from h2o_client.transport.call import Waker

T = TypeVar("T")

_STARTED_WITHIN = 0.1  # seconds that the slow start of one thread delays the next one
_QUICK = 0.25  # seconds that a cancelled caller waits for the cleanup


class ThreadStart:
    """The start of one piece of work. Its thread sets ``has_begun``."""

    def __init__(self, at: float, *, has_begun: bool = False) -> None:
        self.has_begun: bool = has_begun
        self.at: float = at


class Pace:
    """Limits how many threads start at the same time, to ``most``.

    A hundred threads that start at once block the event loop for a third of a second. A thread that
    has not begun still competes with earlier threads for the interpreter, and more threads would
    slow down all of them. So the next one waits while ``most`` have not begun.
    """

    def __init__(self, most: int, poll_every: float) -> None:
        self._poll_every = poll_every
        self._next_poll = 0.0
        self._last = deque((ThreadStart(0.0, has_begun=True) for _ in range(most)), maxlen=most)

    async def wait(self) -> ThreadStart:
        """Wait until a thread may start. Returns at once if fewer than ``most`` are starting."""
        while True:
            now = monotonic()
            oldest = self._last[0]
            if oldest.has_begun or now - oldest.at > _STARTED_WITHIN:
                start = ThreadStart(now)
                self._last.append(start)
                return start
            # The polls of all waiting tasks are spaced out: there may be thousands of tasks.
            self._next_poll = max(now, self._next_poll) + self._poll_every
            await anyio.sleep(self._next_poll - now)


async def in_thread(work: Callable[[], T]) -> T:
    """Run ``work`` in a thread and return its result. Calls do not wait for each other."""

    def uninterrupted() -> T:
        with uninterruptible():
            return work()

    if _runs_asyncio():
        return await _in_standing_thread(uninterrupted)
    # A limiter for each call: no call waits for another, and anyio's own limiter is not used.
    limiter = anyio.CapacityLimiter(1)
    return await anyio.to_thread.run_sync(uninterrupted, abandon_on_cancel=True, limiter=limiter)


def _runs_asyncio() -> bool:
    """Whether asyncio runs this task. (trio can be a guest in a loop of asyncio.)"""
    try:
        return asyncio.current_task() is not None
    except RuntimeError:
        return False


async def _in_standing_thread(work: Callable[[], T]) -> T:
    """Run ``work`` without anyio's threads, which can keep the program from exiting.

    anyio's threads end with the outermost task. They do not notice its end after `sys.exit` in a
    signal handler, or with nest_asyncio, which runs one loop in another.
    """
    await anyio.lowlevel.checkpoint_if_cancelled()
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[T] = loop.create_future()
    context = copy_context()

    def set_outcome(result: T | None, exc: BaseException | None) -> None:
        if outcome.cancelled():
            return
        if exc is None:
            outcome.set_result(cast(T, result))
        else:
            outcome.set_exception(exc)

    def run() -> None:
        result, failed = None, None
        try:
            result = context.run(work)
        except BaseException as exc:
            failed = exc
        with suppress(RuntimeError):  # the loop may have been closed
            loop.call_soon_threadsafe(set_outcome, result, failed)

    run_in_standing_thread(run)
    return await outcome


async def call_in_thread(work: Callable[[], T]) -> T:
    """Run ``work`` in a thread. If the caller is cancelled, the requests of ``work`` are ended."""
    waker = Waker()

    def watched() -> T:
        with waker.watching():
            return work()

    try:
        return await in_thread(watched)
    except BaseException:
        waker.wake()
        raise


async def run_to_completion(work: Callable[[], object], *, quickly: bool = False) -> None:
    """Run ``work`` to completion, shielded from cancellation. ``work`` needs its own timeout.

    If the caller is cancelled, or with ``quickly``, this returns after a short time; ``work`` still
    runs to completion.
    """
    quickly = quickly or anyio.current_effective_deadline() == -math.inf
    with anyio.move_on_after(_QUICK if quickly else None, shield=True):
        await in_thread(work)


def is_cancelled(exc: BaseException | None) -> bool:
    """Whether an ``async with`` ends because its task was cancelled, or by Ctrl-C."""
    return exc is not None and not isinstance(exc, Exception)
