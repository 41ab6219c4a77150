"""What is piped in: text whatever its bytes, and no more than a message can hold."""

from __future__ import annotations

import sys
from collections.abc import Callable

import click

_MOST = 16 * 2**20  # bytes


def piped() -> str:
    """All of it."""
    return _text(sys.stdin.buffer.read)


def piped_line() -> str:
    """The next line, with its end; "" when there are no more."""
    return _text(sys.stdin.buffer.readline)


def _text(read: Callable[[int], bytes]) -> str:
    try:
        found = read(_MOST + 1)
    except OSError as exc:
        raise click.UsageError(f"What is piped in cannot be read: {exc.strerror or exc}.") from exc
    if len(found) > _MOST:
        raise click.UsageError(
            f"More than {_MOST >> 20} MiB are piped in for one message: send a --file, or less."
        )
    return found.decode("utf-8", "replace")
