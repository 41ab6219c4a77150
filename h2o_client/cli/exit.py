"""How the command ends: its exit statuses, and the signals SIGTERM and SIGHUP."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from h2o_client import errors
from h2o_client.errors import (
    ConfigurationError,
    GenerationError,
    H2oError,
    IncompleteAnswerError,
    TransportError,
    UnsupportedError,
)

UNWRITTEN, BAD_CALL, REFUSED, NETWORK, BROKEN_OFF = 1, 2, 3, 4, 5
INTERRUPTED, NOBODY_READS = 130, 141

EPILOG = """\b
Exit status: 0 success, 1 the answer could not be written, 2 invalid arguments,
3 the server refused, 4 the network failed, 5 the answer is incomplete, 129 the
terminal was closed, 130 Ctrl-C, 141 stdout was closed, 143 SIGTERM.
"""

_SIGNALS = ("SIGTERM", "SIGHUP")  # Windows has only the first
_MOST_CLEANUP = 20.0  # seconds; cleanup has a deadline of five


def status_of(error: H2oError) -> int:
    """The exit status for ``error``."""
    return _status_of(type(error))


def status_of_kind(name: str) -> int:
    """The exit status for an error whose class has that ``name``."""
    return _status_of(getattr(errors, name, H2oError))


def _status_of(kind: type[H2oError]) -> int:
    if issubclass(kind, ConfigurationError | UnsupportedError):
        return BAD_CALL
    if issubclass(kind, TransportError):
        return NETWORK
    if issubclass(kind, IncompleteAnswerError | GenerationError):
        return BROKEN_OFF
    return REFUSED


class Terminated(SystemExit):
    """SIGTERM or SIGHUP was received. ``code`` is the exit status: 128 plus the signal's number.

    It is a SystemExit, because event loops handle other exceptions themselves.
    """


_handlers: list[Callable[[Terminated], bool]] = []


@contextmanager
def handling_termination(handler: Callable[[Terminated], bool]) -> Iterator[None]:
    """Within the block, SIGTERM and SIGHUP call ``handler``.

    If it returns False, `Terminated` is raised as usual. Event loops need this, because they do not
    survive an exception from a signal handler.
    """
    _handlers.append(handler)
    try:
        yield
    finally:
        _handlers.remove(handler)


@contextmanager
def signals_as_exceptions() -> Iterator[None]:
    """Within the block, SIGTERM and SIGHUP raise `Terminated`, so that cleanup runs.

    Later signals are ignored. A signal that was ignored before, as under nohup, stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [getattr(signal, name) for name in _SIGNALS if hasattr(signal, name)]
    former = {number: signal.getsignal(number) for number in numbers}
    handled = [number for number in numbers if former[number] == signal.SIG_DFL]
    timers: list[threading.Timer] = []

    def terminate(number: int, frame: FrameType | None) -> None:
        for each in handled:
            signal.signal(each, signal.SIG_IGN)
        # A cleanup that blocks must not keep the process alive.
        timer = threading.Timer(_MOST_CLEANUP, os._exit, (128 + number,))
        timer.daemon = True
        timers.append(timer)
        timer.start()
        terminated = Terminated(128 + number)
        if not any(handler(terminated) for handler in _handlers):
            raise terminated

    for number in handled:
        signal.signal(number, terminate)
    try:
        yield
    finally:
        for timer in timers:
            timer.cancel()
        for number in handled:
            signal.signal(number, former[number])
