"""Checkpoints in long work on a document, where the caller's check can end the work.

Pure: the caller supplies the check, for example one that reads a clock. Without a check, the work
runs to completion.
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
    """Call ``check`` at every checkpoint inside the block. If it raises, the work ends."""
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
    """Yield the same items, with a checkpoint before the first and every 1024th one."""
    for number, item in enumerate(items):
        if not number % _EVERY:
            checkpoint()
        yield item
