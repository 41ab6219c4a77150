"""The end that others want: SIGTERM, and the SIGHUP of a terminal that is closed."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_NAMES = ("SIGTERM", "SIGHUP")  # Windows has but one of them


class Terminated(SystemExit):
    """One of them came; the ``code`` is the exit status that says which.

    It is a SystemExit, for event loops let that through and no other exception.
    """


_AT_LAST = 20.0  # seconds; cleaning up takes five at most
_asked_to_leave: list[Callable[[Terminated], bool]] = []


@contextmanager
def leaving(leave: Callable[[Terminated], bool]) -> Iterator[None]:
    """``leave`` is asked, and tells whether it ends what goes on; else `Terminated` is raised.

    For an event loop that would not survive the exception in the middle of it.
    """
    _asked_to_leave.append(leave)
    try:
        yield
    finally:
        _asked_to_leave.remove(leave)


@contextmanager
def orderly_ends() -> Iterator[None]:
    """Has them raise `Terminated`, so that all that cleans up does. Those that follow are ignored.

    One that is ignored from the beginning, as under nohup, stays so.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
    former = {number: signal.getsignal(number) for number in numbers}
    heeded = [number for number in numbers if former[number] == signal.SIG_DFL]
    lasts: list[threading.Timer] = []

    def end(number: int, frame: FrameType | None) -> None:
        for each in heeded:
            signal.signal(each, signal.SIG_IGN)
        # Nobody is there to see a program that hangs: it must not stay for ever.
        last = threading.Timer(_AT_LAST, os._exit, (128 + number,))
        last.daemon = True
        lasts.append(last)
        last.start()
        terminated = Terminated(128 + number)
        if not any(leave(terminated) for leave in _asked_to_leave):
            raise terminated

    for number in heeded:
        signal.signal(number, end)
    try:
        yield
    finally:
        for last in lasts:
            last.cancel()
        for number in heeded:
            signal.signal(number, former[number])
