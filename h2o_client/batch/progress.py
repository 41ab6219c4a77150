"""The progress of a batch."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import msgspec

from h2o_client.batch.journal import Counts

_AVERAGED_OVER = 60.0  # seconds


class AccountProgress(msgspec.Struct, frozen=True):
    """An account: its server, its number of prompts in flight, and what it is waiting for."""

    server: str
    in_flight: int
    state: str


class Progress(msgspec.Struct, frozen=True):
    """The progress of a batch.

    ``per_second`` is the average of the last minute. ``left`` is the estimated time in seconds,
    None if it is unknown.
    """

    total: int
    answered: int
    failed: int
    per_second: float
    left: float | None
    accounts: tuple[AccountProgress, ...]

    @property
    def waiting(self) -> int:
        """The number of prompts without a result."""
        return self.total - self.answered - self.failed


class Tally:
    """Counts results. One thread adds them; other threads may read."""

    def __init__(self, counts: Counts) -> None:
        self.counts: Counts = counts
        self._times: deque[float] = deque()

    def add(self, now: float, *, has_failed: bool) -> None:
        """Count a result."""
        before = self.counts
        self.counts = Counts(
            before.total, before.answered + (not has_failed), before.failed + has_failed
        )
        self._times.append(now)
        while self._times[0] < now - _AVERAGED_OVER:
            self._times.popleft()

    def progress(self, now: float, accounts: Iterable[AccountProgress]) -> Progress:
        """The progress at the time ``now``."""
        counts = self.counts
        recent = [each for each in list(self._times) if each > now - _AVERAGED_OVER]
        per_second = len(recent) / max(1.0, now - recent[0]) if recent else 0.0
        return Progress(
            total=counts.total,
            answered=counts.answered,
            failed=counts.failed,
            per_second=per_second,
            left=counts.waiting / per_second if per_second else None,
            accounts=tuple(accounts),
        )
