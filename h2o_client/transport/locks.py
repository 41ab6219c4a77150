"""Locks that an interrupt cannot leave locked forever.

Ctrl-C can raise KeyboardInterrupt between any two steps of the main thread, even between the end of
a ``with`` block and the release of its lock.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from h2o_client.transport.call import Call

T = TypeVar("T")

_LONGEST = 1.0  # seconds that a `Guard` can be held, unless an interrupt left it locked
_POLL_EVERY = 0.05  # seconds


class Guard:
    """A lock that threads hold briefly, and never while they wait for anything.

    Entering it takes at most a second. If it is still locked then, an interrupt has left it so, and
    the block runs without it.
    """

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire(timeout=_LONGEST)

    def __exit__(self, *exc_info: object) -> None:
        try:  # noqa: SIM105 - `suppress` costs more than the lock
            self._lock.release()
        except RuntimeError:
            pass  # another thread also entered after a second, and has already released it


class Flag:
    """An event that is set once, with a tenth of the memory of `threading.Event`.

    Waiting threads are released one after another. If one of them is interrupted at that moment,
    the others are not released. Therefore `wait` needs a timeout.
    """

    __slots__ = ("_is_set", "_lock")

    def __init__(self) -> None:
        self._is_set = False  # never becomes False again
        self._lock = threading.Lock()  # held until the flag is set
        self._lock.acquire()

    def is_set(self) -> bool:
        """Whether it is set."""
        return self._is_set

    def set(self) -> None:
        """Set it, and release all waiting threads. Idempotent."""
        self._is_set = True
        self._release()

    def wait(self, seconds: float) -> bool:
        """Wait until it is set, for at most ``seconds``. Return whether it is."""
        if not self._is_set and self._lock.acquire(timeout=max(0.0, seconds)):
            self._release()
        return self._is_set

    def _release(self) -> None:
        with suppress(RuntimeError):  # it is free already
            self._lock.release()


class ReaderLock:
    """The lock of the reading thread. Other threads take it only if it is free.

    If a thread already owns the lock when it enters, an interrupt kept it from releasing the lock;
    it then keeps it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Set by the thread that holds the lock. A thread compares it only with its own identifier,
        # which no other thread sets, so no lock is needed.
        self._owner = 0

    def __enter__(self) -> None:
        if self._owner != threading.get_ident():
            self._lock.acquire()
        self._owner = threading.get_ident()

    def __exit__(self, *exc_info: object) -> None:
        self.release()

    def release(self) -> None:
        """Release the lock."""
        self._owner = 0
        with suppress(RuntimeError):
            self._lock.release()

    @property
    def is_own(self) -> bool:
        """Whether this thread holds it."""
        return self._owner == threading.get_ident()

    def acquire_if_free(self) -> bool:
        """Acquire it without waiting. Return False if any thread, this one included, holds it."""
        if not self._lock.acquire(blocking=False):
            return False
        self._owner = threading.get_ident()
        return True


class CallLock:
    """A lock that a call holds while it sends requests. Other calls wait within their timeouts.

    If an interrupt keeps a call from releasing it, the lock becomes free when the call is
    garbage-collected; the interrupted thread can acquire it again at once.
    """

    def __init__(self) -> None:
        # Guards `_holder` and `_thread`. `_is_held_by` reads `_holder` without it: only the call
        # itself can set it to that call, and no other call can then replace it.
        self._guard = Guard()
        self._holder: weakref.ref[Call] | None = None
        self._thread = 0

    def hold(self, call: Call, work: Callable[[], T]) -> T:
        """Run ``work`` while ``call`` holds the lock, and return its result.

        The same call may nest. Raises `Woken` and `Expired` while it waits.
        """
        if self._is_held_by(call):
            return work()
        if not self._is_taken(call):
            call.clock.allow(call.waits_within, getattr(call.timeouts, call.waits_within))
            while not self._is_taken(call):
                with call.alarm() as alarm:
                    alarm.wait(_POLL_EVERY)
                call.check_timeouts()
        try:
            return work()
        finally:
            self._release(call)

    def hold_if_free(self, call: Call, work: Callable[[], object]) -> None:
        """Run ``work`` while ``call`` holds the lock. Do nothing if another call holds it."""
        if self._is_held_by(call):
            work()
        elif self._is_taken(call):
            try:
                work()
            finally:
                self._release(call)

    def is_free_for(self, call: Call) -> bool:
        """Whether ``call`` holds the lock, or it is free."""
        return self._holding_call() in (None, call)

    def _is_held_by(self, call: Call) -> bool:
        return self._holding_call() is call

    def _holding_call(self) -> Call | None:
        holder = self._holder
        return None if holder is None else holder()

    def _is_taken(self, call: Call) -> bool:
        with self._guard:
            if self._holding_call() is None or self._thread == threading.get_ident():
                self._holder, self._thread = weakref.ref(call), threading.get_ident()
                return True
            return False

    def _release(self, call: Call) -> None:
        with self._guard:
            if self._holding_call() is call:
                self._holder, self._thread = None, 0


class Slots:
    """Allows at most ``most`` answers at once. Others wait, within the first token's timeout.

    If an interrupt keeps a call from releasing its slot, the slot becomes free when the call is
    garbage-collected.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._guard = Guard()  # guards `_holders` and `_waiting`
        self._holders: weakref.WeakSet[Call] = weakref.WeakSet()
        self._waiting: list[threading.Event] = []

    def renewed(self) -> Slots:
        """Return the same number of slots, all free."""
        return Slots(self._most)

    def take(self, call: Call) -> None:
        """Wait for a free slot, unless ``call`` has one. Raises `Woken`, `Expired`."""
        if self._is_taken(call):
            return
        call.clock.allow("first_token", call.timeouts.first_token)
        freed = threading.Event()
        with self._guard:
            self._waiting.append(freed)
        try:
            while not self._is_taken(call):
                call.check_timeouts()
                # This event is not set when the call is woken, or when another one is collected.
                freed.wait(_POLL_EVERY)
                freed.clear()
        finally:
            with self._guard, suppress(ValueError):
                self._waiting.remove(freed)

    def release(self, call: Call) -> None:
        """Free the slot of ``call``, if it has one."""
        with self._guard:
            self._holders.discard(call)
            waiting = list(self._waiting)
        for freed in waiting:
            freed.set()

    def _is_taken(self, call: Call) -> bool:
        with self._guard:
            if call not in self._holders and len(self._holders) >= self._most:
                return False
            self._holders.add(call)
            return True
