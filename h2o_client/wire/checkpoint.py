"""Places in long work on a document where whoever waits for it can end it.

Pure: what is checked, a clock for example, is the caller's. Without a caller that checks, the work
goes on to its end.
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
    """Call ``check`` at every checkpoint inside; what it raises ends the work."""
    token = _check.set(check)
    try:
        yield
    finally:
        _check.reset(token)


def checkpoint() -> None:
    """Raise what the caller's check raises."""
    check = _check.get()
    if check is not None:
        check()


def checked(items: Iterable[T]) -> Iterator[T]:
    """The same items, with a checkpoint now and then."""
    for number, item in enumerate(items):
        if not number % _EVERY:
            checkpoint()
        yield item
