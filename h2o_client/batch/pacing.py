"""How fast one account may send: pure, with the time as an argument.

Chat-ui counts the messages of the last minute, refused ones too on some versions, and does not say
when it takes the next. So the window of a minute is counted here as well; at a refusal it becomes
what was taken, and the number of prompts at once is halved, to grow again by one a round.
"""

from __future__ import annotations

from collections import deque

MINUTE = 60.0
_MARGIN = 0.25  # seconds by which the server's clock of a message may be behind ours
_LONGEST_PAUSE = 900.0
_FIRST_BACKOFF = 1.0
_LONGEST_BACKOFF = 60.0
_FAILURES_IN_A_ROW = 3  # after which a server counts as down
_GROWS_AFTER = 5 * MINUTE
_MOST_REMEMBERED = 10_000


class Pace:
    """When an account may send the next prompt, and how many at once (``most``).

    ``per_minute`` is the most that are sent in any minute, None if that is not known.
    """

    def __init__(self, most: int, per_minute: int | None) -> None:
        self._most = most
        self._said = per_minute
        self._learned: int | None = None
        self._learned_at = 0.0
        self._step = 1  # by which it grows again
        self._window = float(most)
        self._sent: deque[float] = deque()
        self._paused_until = 0.0
        self._refusals = 0  # in a row
        self._refused_at = -1.0
        self._failures = 0  # in a row
        self._down_since: float | None = None

    @property
    def at_once(self) -> int:
        """How many prompts may be under way now."""
        if self._failures >= _FAILURES_IN_A_ROW:
            return 1  # to look whether the server is there again
        return max(1, min(self._most, int(self._window)))

    @property
    def refusals(self) -> int:
        """How many in a row, each after a pause."""
        return self._refusals

    def wait(self, now: float) -> float:
        """Seconds until the next prompt may be sent; 0.0: now."""
        self._forget(now)
        wait = max(0.0, self._paused_until - now)
        limit = self._limit(now)
        if limit is not None and len(self._sent) >= limit:
            room = self._sent[len(self._sent) - limit] + MINUTE + _MARGIN - now
            wait = max(wait, room)
        return wait

    def sending(self, now: float) -> None:
        """A prompt is sent."""
        self._sent.append(now)
        if len(self._sent) > _MOST_REMEMBERED:
            self._sent.popleft()

    def took(self, sent: float, now: float) -> None:
        """The server took a prompt that was ``sent`` then: it may have counted it only now."""
        for place in range(len(self._sent) - 1, -1, -1):
            if self._sent[place] == sent:
                del self._sent[place]
                self._sent.append(now)
                return

    def succeeded(self, sent: float) -> None:
        """A prompt that was ``sent`` then was answered."""
        self._failures, self._down_since = 0, None
        if sent > self._refused_at:
            self._window = min(float(self._most), self._window + 1 / self._window)
            self._refusals = 0

    def refused(self, sent: float, now: float, retry_after: float | None) -> float:
        """The server refused a prompt that was ``sent`` then, as one too many; the pause it makes.

        Those that were under way with it are refused for the same reason, and make no new pause.
        """
        self._forget(now)
        if sent >= self._paused_until:
            self._refusals += 1
            if self._down_since is None:
                self._down_since = now
            self._refused_at = now
            self._window = max(1.0, self._window / 2)
            others = [each for each in self._sent if each != sent]
            pause = self._guess(others, now) if retry_after is None else retry_after
            self._paused_until = now + min(pause, _LONGEST_PAUSE)
            self._learn(others, now, is_told=retry_after is not None)
        else:
            if self._learned is not None and self._learned_at == self._refused_at:
                self._learned = max(1, self._learned - 1)
            if retry_after is not None:
                until = now + min(retry_after, _LONGEST_PAUSE)
                self._paused_until = max(self._paused_until, until)
        self.took(sent, now)  # some versions count it none the less
        return max(0.0, self._paused_until - now)

    def failed(self, now: float) -> float:
        """The server, or the way to it, failed; the pause that makes, 0.0 for a single failure."""
        self._failures += 1
        if self._down_since is None:
            self._down_since = now
        over = self._failures - _FAILURES_IN_A_ROW
        if over >= 0:
            pause = min(_LONGEST_BACKOFF, _FIRST_BACKOFF * 2.0 ** min(over, 10))
            self._paused_until = max(self._paused_until, now + pause)
        return max(0.0, self._paused_until - now)

    def down_for(self, now: float) -> float:
        """Seconds since the first failure or refusal after which nothing has succeeded."""
        return 0.0 if self._down_since is None else now - self._down_since

    @property
    def is_down(self) -> bool:
        """Whether the server seems to be."""
        return self._failures >= _FAILURES_IN_A_ROW

    def _guess(self, others: list[float], now: float) -> float:
        """A minute, then longer; or until the first message of this minute is a minute old."""
        if self._refusals > 1 or not others:
            return MINUTE * 2.0 ** min(self._refusals - 1, 4)
        return max(1.0, others[0] + MINUTE + _MARGIN - now)

    def _learn(self, others: list[float], now: float, *, is_told: bool) -> None:
        """So many were taken in a minute. A server that says when counts in its own way."""
        if self._refusals > 1 or not others or (is_told and now - others[0] < MINUTE / 2):
            return
        self._learned, self._learned_at, self._step = len(others), now, 1

    def _limit(self, now: float) -> int | None:
        if self._learned is not None and now - self._learned_at > _GROWS_AFTER:
            # It may have been somebody else's messages that made it so few.
            self._learned += max(self._step, self._learned // 20)
            self._step *= 2
            self._learned_at = now
        limits = [each for each in (self._said, self._learned) if each is not None]
        return min(limits) if limits else None

    def _forget(self, now: float) -> None:
        while self._sent and self._sent[0] <= now - MINUTE - _MARGIN:
            self._sent.popleft()
