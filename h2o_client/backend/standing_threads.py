"""Reuse threads for short work, because starting a thread costs as much as a short request."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress

_IDLE_FOR = 2.0  # seconds that a thread waits for more work
NAME = "h2o_client-standing"

_idle: list[_StandingThread] = []  # appending and popping are atomic: no lock


def run_in_standing_thread(work: Callable[[], object]) -> None:
    """Run ``work``, which must not raise, in a daemon thread.

    Raises RuntimeError if no thread can be started.
    """
    thread = None
    with suppress(IndexError):
        thread = _idle.pop()
    if thread is None:
        _StandingThread(work).start()
    else:
        thread.give(work)


class _StandingThread(threading.Thread):
    """A thread that is in the list of idle threads, or runs the work of one caller."""

    def __init__(self, work: Callable[[], object]) -> None:
        super().__init__(name=NAME, daemon=True)
        self._work: Callable[[], object] | None = work
        self._given = threading.Lock()  # released when there is work
        self._given.acquire()

    def give(self, work: Callable[[], object]) -> None:
        """Run ``work``. Only the caller that took the thread out of the list may call this."""
        self._work = work
        self._given.release()

    def run(self) -> None:
        while (work := self._work) is not None:
            self._work = None
            work()
            del work  # release the objects that the function refers to
            _idle.append(self)
            if not self._given.acquire(timeout=_IDLE_FOR):
                try:
                    _idle.remove(self)
                except ValueError:  # a caller has just taken this thread, and will give it work
                    self._given.acquire()


if hasattr(os, "register_at_fork"):
    # A child has none of these threads.
    os.register_at_fork(after_in_child=_idle.clear)
