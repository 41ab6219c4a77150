"""Warnings that name the caller's own line, also where the work is done in another thread."""

from __future__ import annotations

import os
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_PACKAGE = os.path.join(os.path.dirname(__file__), "")


class _Thread(threading.local):
    kept: list[str] | None = None


_this_thread = _Thread()


def warn(message: str) -> None:
    """Warns now, or, where warnings are `kept_back`, when whoever keeps them does."""
    if _this_thread.kept is not None:
        _this_thread.kept.append(message)
    else:
        warnings.warn(message, stacklevel=_levels_to_the_caller())


@contextmanager
def kept_back() -> Iterator[list[str]]:
    """This thread's warnings, for another thread to give."""
    kept: list[str] = []
    _this_thread.kept = kept
    try:
        yield kept
    finally:
        _this_thread.kept = None


def _levels_to_the_caller() -> int:
    """The ``stacklevel`` of the first frame that is not this package's: the caller's own line."""
    frame, level = sys._getframe(1), 1
    while frame is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame, level = frame.f_back, level + 1  # type: ignore[assignment]
    return level
