"""Locks that an interrupt cannot leave locked for good.

Ctrl-C raises KeyboardInterrupt between any two steps of the main thread, also between the end of a
``with`` block and the release of its lock.
"""

from __future__ import annotations

import threading
from contextlib import suppress

_LONGEST = 1.0


class Guard:
    """A lock that is held for moments only, never while anything is waited for.

    One that is found locked for a second was left so by an interrupt: it is passed.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire(timeout=_LONGEST)

    def __exit__(self, *exc_info: object) -> None:
        with suppress(RuntimeError):  # another thread has passed it too, and was faster
            self._lock.release()


class ReaderLock:
    """The lock of one reader, which others take if it is free.

    A thread that finds it its own has lost it by an interrupt, and goes on with it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owner = 0

    def __enter__(self) -> None:
        if self._owner != threading.get_ident():
            self._lock.acquire()
        self._owner = threading.get_ident()

    def __exit__(self, *exc_info: object) -> None:
        self.give_back()

    def give_back(self) -> None:
        """It is free."""
        self._owner = 0
        with suppress(RuntimeError):
            self._lock.release()

    @property
    def is_own(self) -> bool:
        """Whether this thread has it."""
        return self._owner == threading.get_ident()

    def take_if_free(self) -> bool:
        """Take it without waiting; False also if this thread has it."""
        if not self._lock.acquire(blocking=False):
            return False
        self._owner = threading.get_ident()
        return True
