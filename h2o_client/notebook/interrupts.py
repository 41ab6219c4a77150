"""Interrupts of the kernel that come while an earlier one is still being seen to."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def interrupts_noted() -> Iterator[threading.Event]:
    """Meanwhile an interrupt sets the event, and raises nothing: what is begun comes to its end."""
    again = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield again  # no interrupt comes here
        return
    former = signal.signal(signal.SIGINT, lambda *_: again.set())
    try:
        yield again
    finally:
        signal.signal(signal.SIGINT, former or signal.default_int_handler)
