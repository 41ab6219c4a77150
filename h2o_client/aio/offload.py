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

_BEGUN_WITHIN = 0.1  # seconds that the start of a thread holds up the next one
_QUICK = 0.25  # seconds that a cancelled caller waits for the cleanup


class Turn:
    """The turn of one piece of work: its thread sets ``has_begun``."""

    def __init__(self, taken_at: float, *, has_begun: bool = False) -> None:
        self.has_begun: bool = has_begun
        self.taken_at: float = taken_at


class Pace:
    """Starts many pieces of work in threads, a few at a time.

    A hundred threads that start at once block the event loop for a third of a second. If a thread
    has not begun, those before it still compete for the interpreter. More threads would slow down
    all of them, so the next one waits while ``most`` have not begun.
    """

    def __init__(self, most: int, look_every: float) -> None:
        self._look_every = look_every
        self._next_look = 0.0
        self._last = deque((Turn(0.0, has_begun=True) for _ in range(most)), maxlen=most)

    async def turn(self) -> Turn:
        """Wait for the turn. Returns at once if no other work waits to begin."""
        while True:
            now = monotonic()
            before = self._last[0]
            if before.has_begun or now - before.taken_at > _BEGUN_WITHIN:
                turn = Turn(now)
                self._last.append(turn)
                return turn
            # The polls of all waiting tasks are spaced out: there may be thousands of tasks.
            self._next_look = max(now, self._next_look) + self._look_every
            await anyio.sleep(self._next_look - now)


async def in_thread(work: Callable[[], T]) -> T:
    """Run ``work`` in a thread and return its result. Calls do not wait for each other."""

    def left_alone() -> T:
        with uninterruptible():
            return work()

    if _runs_asyncio():
        return await _in_thread_of_its_own(left_alone)
    # A limiter for each call: no call waits for another, and anyio's own limiter is not used.
    limiter = anyio.CapacityLimiter(1)
    return await anyio.to_thread.run_sync(left_alone, abandon_on_cancel=True, limiter=limiter)


def _runs_asyncio() -> bool:
    """Whether asyncio runs this task. (trio can be a guest in a loop of asyncio.)"""
    try:
        return asyncio.current_task() is not None
    except RuntimeError:
        return False


async def _in_thread_of_its_own(work: Callable[[], T]) -> T:
    """Run ``work`` with asyncio's own means, because anyio's threads could outlive the program.

    anyio's threads wait for the end of the outermost task. They do not notice it after `sys.exit`
    in a signal handler, or with nest_asyncio, which runs one loop in another.
    """
    await anyio.lowlevel.checkpoint_if_cancelled()
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[T] = loop.create_future()
    context = copy_context()

    def tell(result: T | None, exc: BaseException | None) -> None:
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
            loop.call_soon_threadsafe(tell, result, failed)

    run_in_standing_thread(run)
    return await outcome


async def called(work: Callable[[], T]) -> T:
    """Run ``work`` in a thread. If the caller is cancelled, its requests are ended."""
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
    """Run ``work`` to completion, shielded from cancellation. ``work`` needs its own timeout.

    A cancelled caller waits for a short time only; the work still runs to completion.
    """
    quickly = quickly or anyio.current_effective_deadline() == -math.inf
    with anyio.move_on_after(_QUICK if quickly else None, shield=True):
        await in_thread(work)


def is_cancelled(exc: BaseException | None) -> bool:
    """Whether an ``async with`` ends because its task was cancelled, or by Ctrl-C."""
    return exc is not None and not isinstance(exc, Exception)
