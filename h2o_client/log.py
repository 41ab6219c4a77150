"""The log lines and warnings of the package.

The logger is ``h2o_client``. It writes nothing unless the program configures logging or
H2O_CLIENT_LOG is set. Warnings point to the caller's line, even if another thread does the work.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from h2o_client.errors import H2oError, ProtocolError
from h2o_client.printable import printable

E = TypeVar("E", bound=BaseException)

_PACKAGE = os.path.join(os.path.dirname(__file__), "")


class _Printable(logging.Filter):
    """Turns each record into one printable line, because it may quote a server's text."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = printable(record.getMessage()), ()
        return True


log: logging.Logger = logging.getLogger("h2o_client")
log.addHandler(logging.NullHandler())
log.addFilter(_Printable())


def show(level: str) -> None:
    """Write what this package logs at ``level`` and above to stderr."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
    log.addHandler(handler)
    log.setLevel(level.upper())


if os.environ.get("H2O_CLIENT_LOG", "").upper() in ("DEBUG", "INFO", "WARNING", "ERROR"):
    show(os.environ["H2O_CLIENT_LOG"])


def without_frames(error: E) -> E:
    """Remove the frames that an `H2oError` came through, and return the error.

    A script that fails then shows the caller's line and the message. The frames stay if debug
    messages are logged, and for a `ProtocolError`, because they help when one is reported.
    """
    is_short = isinstance(error, H2oError) and not isinstance(error, ProtocolError)
    if is_short and not log.isEnabledFor(logging.DEBUG):
        for each in (error, error.__cause__):
            if isinstance(each, H2oError):
                each.__traceback__ = None
    return error


class _Thread(threading.local):
    kept: list[str] | None = None


_this_thread = _Thread()


def warn(message: str) -> None:
    """Issue a warning. Inside `collected_warnings`, keep its text for another thread instead."""
    if _this_thread.kept is not None:
        _this_thread.kept.append(message)
    else:
        warnings.warn(message, stacklevel=_levels_to_the_caller())


@contextmanager
def collected_warnings() -> Iterator[list[str]]:
    """Collect this thread's warnings instead of issuing them."""
    kept: list[str] = []
    _this_thread.kept = kept
    try:
        yield kept
    finally:
        _this_thread.kept = None


def _levels_to_the_caller() -> int:
    """The ``stacklevel`` of the first frame outside this package: the caller's own line."""
    frame, level = sys._getframe(1), 1
    while frame is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame, level = frame.f_back, level + 1  # type: ignore[assignment]
    return level
