"""The end that others want: SIGTERM, and the SIGHUP of a terminal that is closed."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_NAMES = ("SIGTERM", "SIGHUP")  # Windows has but one of them


class Terminated(SystemExit):
    """One of them came; the ``code`` is the exit status that says which.

    It is a SystemExit, for event loops let that through and no other exception.
    """


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

    def end(number: int, frame: FrameType | None) -> None:
        for each in heeded:
            signal.signal(each, signal.SIG_IGN)
        raise Terminated(128 + number)

    for number in heeded:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in heeded:
            signal.signal(number, former[number])
