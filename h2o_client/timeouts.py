"""The four timeouts of an answer, and the clock that measures them."""

from __future__ import annotations

import sys
import threading
import time
from functools import partial
from typing import NoReturn

import msgspec

from h2o_client.errors import ConfigurationError, Hint, TimeoutName


def monotonic() -> float:
    """Seconds on a clock that tests cannot freeze: connections wait in real time.

    Libraries that freeze clocks replace ``time.monotonic``. A time read from the frozen clock could
    be far in the future for the rest of the process.
    """
    return _now()


if sys.platform == "win32":
    _now = time.monotonic
else:
    _now = partial(time.clock_gettime, time.CLOCK_MONOTONIC)


class Timeouts(msgspec.Struct, frozen=True, kw_only=True):
    """Timeouts in seconds; None means no limit.

    ``connect``: the time to open the connection to each IP address; the DNS lookup has no timeout.
    ``first_token``: the time from the prompt to the first token. ``idle``: the time between two
    signs of progress: text, reasoning, and updates of tools, web searches, files, routes and
    elicitations, but not heartbeats. ``total``: the time for the whole answer. The time that the
    caller spends between two tokens counts towards ``total`` only.
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
                    f"Invalid timeout {name}={seconds!r}",
                    hint="Pass seconds above 0, or None for no limit.",
                    argument=name,
                )

    @classmethod
    def of(cls, value: Timeouts | float | None) -> Timeouts:
        """Parse a timeout: a number sets all but ``total``; None means no limit."""
        if isinstance(value, Timeouts):
            return value
        if value is not None and not _is_time(value):
            raise ConfigurationError(
                f"Invalid timeout {value!r}",
                hint=Hint("Pass {seconds above 0, a Timeouts, or None for no limit}."),
                argument="timeout",
            )
        return cls(connect=value, first_token=value, idle=value)


def _is_time(seconds: object) -> bool:
    # No thread can wait longer than TIMEOUT_MAX.
    return (
        isinstance(seconds, int | float)
        and not isinstance(seconds, bool)
        and 0 < seconds <= threading.TIMEOUT_MAX
    )


class Expired(TimeoutError):
    """A timeout of a `Clock` expired: ``which`` it was, and its ``seconds``."""

    def __init__(self, which: TimeoutName, seconds: float) -> None:
        super().__init__(which, seconds)
        self.which = which
        self.seconds = seconds


class Clock:
    """Measures the time spent waiting for the server, and compares it with several budgets.

    One budget, set by `allow`, is for the current wait. `bind`, `expect` and ``total`` set longer
    ones, which run in parallel. The caller's own time does not count: `hold` stops the clock, `go`
    starts it again. ``total`` also counts the caller's time.
    """

    def __init__(self, total: float | None = None) -> None:
        self.which: TimeoutName = "connect"
        self._seconds: float | None = None
        self._used = 0.0
        self._lasting: tuple[TimeoutName, float] | None = None
        self._lasting_used = 0.0
        self._silence: float | None = None
        self._since: float | None = monotonic()
        self._heard_at = self._since
        self._total = total
        self._end = None if total is None else monotonic() + total
        self._binding: tuple[TimeoutName, float] = ("connect", 0.0)

    @property
    def spent(self) -> float:
        """The used part of the budget, in seconds."""
        return self._used + (0.0 if self._since is None else monotonic() - self._since)

    @property
    def silent_for(self) -> float:
        """Seconds since the last byte arrived, or since `go`."""
        return monotonic() - self._heard_at

    def allow(self, which: TimeoutName, seconds: float | None, *, spent: float = 0.0) -> None:
        """Start the budget ``which`` of ``seconds``. ``spent`` seconds of it are already used."""
        self.which = which
        self._seconds = seconds
        self.renew()
        self._used = spent

    def renew(self) -> None:
        """Start the same budget again, after a sign of progress."""
        now = monotonic()
        self._count(now)
        self._used, self._since = 0.0, now

    def renew_idle(self) -> None:
        """Like `renew`, but only if the budget is ``idle``: in a document each byte is progress."""
        if self.which == "idle":
            self.renew()

    def bind(self, which: TimeoutName, seconds: float | None, *, spent: float = 0.0) -> None:
        """Start a budget that runs in parallel to those of `allow`; None ends it."""
        self._count(monotonic())
        self._lasting = None if seconds is None else (which, seconds)
        self._lasting_used = spent

    @property
    def is_bound(self) -> bool:
        """Whether a budget of `bind` is running."""
        return self._lasting is not None

    def expect(self, seconds: float | None) -> None:
        """Require a byte within ``seconds``, again after each byte. None ends this."""
        self._silence = seconds
        self.heard()

    def heard(self) -> None:
        """Note that bytes have arrived."""
        self._heard_at = monotonic()

    def hold(self) -> None:
        """Stop the clock while no thread waits for the server."""
        self._count(monotonic())
        self._since = None

    def go(self) -> None:
        """Start the clock again."""
        if self._since is None:
            self._since = self._heard_at = monotonic()

    def within(self, seconds: float) -> Clock:
        """A clock with a total of ``seconds``, or what is left of this clock's total, if less."""
        if self._end is None:
            return Clock(seconds)
        return Clock(max(0.001, min(seconds, self._end - monotonic())))

    def left(self) -> float | None:
        """The seconds that the next wait may take; None for no limit. Raises `Expired`."""
        now = monotonic()
        passed = 0.0 if self._since is None else now - self._since
        left = None
        self._binding = (self.which, self._seconds or 0.0)
        if self._seconds is not None:
            left = self._seconds - self._used - passed
        if self._lasting is not None:
            left = self._bounded(left, self._lasting, self._lasting_used + passed)
        if self._silence is not None and self._since is not None:
            left = self._bounded(left, ("silence", self._silence), now - self._heard_at)
        if self._end is not None and (left is None or self._end - now < left):
            left = self._end - now
            self._binding = ("total", self._total or 0.0)
        if left is not None and left <= 0:
            self.expire()
        return left

    def expire(self) -> NoReturn:
        """Raise `Expired` for the budget that limited the last `left`."""
        raise Expired(*self._binding)

    def _count(self, now: float) -> None:
        if self._since is not None:
            self._used += now - self._since
            self._lasting_used += now - self._since
            self._since = now

    def _bounded(self, left: float | None, budget: tuple[TimeoutName, float], used: float) -> float:
        bound = budget[1] - used
        if left is not None and left <= bound:
            return left
        self._binding = budget
        return bound
