"""The four times that bound an answer, and the clock that counts what is waited for."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import NoReturn

from h2o_client.errors import ConfigurationError


@dataclass(frozen=True, kw_only=True)
class Timeouts:
    """Seconds; None means no limit.

    ``connect``: until the connection stands (for each address tried; the name's look-up is not
    bounded). ``first_token``: from the prompt to the first token. ``idle``: between the server's
    updates; those it sends only to keep the connection alive do not count. ``total``: the whole
    answer. The time that the caller takes between two tokens counts for ``total`` only.
    """

    connect: float | None = 10.0
    first_token: float | None = 300.0
    idle: float | None = 60.0
    total: float | None = None

    def __post_init__(self) -> None:
        for name in ("connect", "first_token", "idle", "total"):
            seconds = getattr(self, name)
            if seconds is not None and not _is_time(seconds):
                raise ConfigurationError(
                    f"Timeouts({name}={seconds!r}): give seconds above 0, or None for no limit."
                )

    @classmethod
    def of(cls, value: Timeouts | float | None) -> Timeouts:
        """A number means all but ``total``; None means no limit at all."""
        if isinstance(value, Timeouts):
            return value
        return cls(connect=value, first_token=value, idle=value)


def _is_time(seconds: object) -> bool:
    # Not sys.maxsize, either: no thread can wait so long.
    return (
        isinstance(seconds, int | float)
        and not isinstance(seconds, bool)
        and 0 < seconds <= threading.TIMEOUT_MAX
    )


class Expired(TimeoutError):
    """A `Clock` ran out; it says which time in its ``expired``."""


class Clock:
    """One budget of waiting at a time, and an end to it all.

    A budget is used up only by waiting: whoever waits asks `left` before and reports to `waited`
    after. So a reader that comes back late finds what it would have found in time.
    """

    def __init__(self, total: float | None = None) -> None:
        self.expired: tuple[str, float] | None = None
        self._which = "connect"
        self._seconds: float | None = None
        self._left: float | None = None
        self._total = total
        self._end = None if total is None else time.monotonic() + total
        self._binding = ("connect", 0.0)

    def allow(self, which: str, seconds: float | None) -> None:
        """Begins a new budget of ``seconds`` for ``which``."""
        self._which = which
        self._seconds = seconds
        self._left = seconds

    def renew(self) -> None:
        """Begins the same budget anew: the server gave a sign of life."""
        self._left = self._seconds

    def left(self) -> float | None:
        """How long the next wait may last. Raises `Expired`."""
        left = self._left
        self._binding = (self._which, self._seconds or 0.0)
        if self._end is not None:
            until_end = self._end - time.monotonic()
            if left is None or until_end < left:
                left = until_end
                self._binding = ("total", self._total or 0.0)
        if left is not None and left <= 0:
            self.expire()
        return left

    def waited(self, seconds: float) -> None:
        """Takes ``seconds`` off the budget."""
        if self._left is not None:
            self._left -= seconds

    def expire(self) -> NoReturn:
        """The time that `left` gave last has passed. Raises `Expired`."""
        self.expired = self._binding
        raise Expired(self._binding[0])
