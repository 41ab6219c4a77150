"""Checkpoints in long work on a document, at which the caller can end it.

Pure: the caller decides what is checked, a clock for example. If no caller checks anything, the
work runs to its end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")

_EVERY = 1024

_check: ContextVar[Callable[[], object] | None] = ContextVar("h2o_client.checkpoint", default=None)


@contextmanager
def checked_by(check: Callable[[], object]) -> Iterator[None]:
    """Call ``check`` at every checkpoint inside. An exception that it raises ends the work."""
    token = _check.set(check)
    try:
        yield
    finally:
        _check.reset(token)


def checkpoint() -> None:
    """Call the caller's check, which may raise."""
    check = _check.get()
    if check is not None:
        check()


def checked(items: Iterable[T]) -> Iterator[T]:
    """The same items, with a checkpoint at the first and then at every 1024th."""
    for number, item in enumerate(items):
        if not number % _EVERY:
            checkpoint()
        yield item
