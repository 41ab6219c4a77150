"""How fast one account may send prompts. No I/O and no clock: the time is an argument.

chat-ui limits the number of messages in the last minute (some versions also count refused ones),
and does not say when it accepts the next message. So this counts the messages of the last minute.
After a refusal, the number of accepted messages becomes the limit. The number of concurrent prompts
is halved, and then grows by one for each round of answers.
"""

from __future__ import annotations

from collections import deque

MINUTE = 60.0
_MARGIN = 0.25  # seconds by which the server may count a message later than this process
_LONGEST_PAUSE = 900.0
_FIRST_BACKOFF = 0.5
_BACKOFF_GROWS = 1.5
_LONGEST_BACKOFF = 60.0
_FAILURES_IN_A_ROW = 3  # after which a server counts as down
_GROWS_AFTER = 5 * MINUTE
_MOST_REMEMBERED = 10_000


class Pace:
    """Decides when an account may send the next prompt.

    ``most`` is the largest number of concurrent prompts, ``per_minute`` the largest number in any
    minute, None if the caller has not set it.
    """

    def __init__(self, most: int, per_minute: int | None) -> None:
        self._most = most
        self._per_minute = per_minute
        self._learned: int | None = None  # the limit per minute, learned from refusals
        self._learned_at = 0.0
        self._step = 1  # by how much `_learned` grows next
        self._window = float(most)
        self._sent: deque[float] = deque()
        self._paused_until = 0.0
        self._refusals = 0  # in a row
        self._minutes = 0  # how many of those refusals caused a pause of a minute or longer
        self._refused_at = -1.0
        self._failures = 0  # in a row
        self._backoffs = 0  # in a row, while the server is down
        self._backed_off_until = 0.0
        self._down_since: float | None = None

    @property
    def at_once(self) -> int:
        """How many prompts may be in flight now."""
        if self._failures >= _FAILURES_IN_A_ROW:
            return 1  # to probe whether the server is up again
        return max(1, min(self._most, int(self._window)))

    @property
    def refusals(self) -> int:
        """The number of refusals in a row. There was a pause after each."""
        return self._refusals

    def wait(self, now: float) -> float:
        """Seconds until the next prompt may be sent; 0.0 if it may be sent now."""
        self._forget(now)
        wait = max(0.0, self._paused_until - now, self._backed_off_until - now)
        limit = self._limit(now)
        if limit is not None and len(self._sent) >= limit:
            room = self._sent[len(self._sent) - limit] + MINUTE + _MARGIN - now
            wait = max(wait, room)
        return wait

    def sending(self, now: float) -> None:
        """Note that a prompt is sent."""
        self._sent.append(now)
        if len(self._sent) > _MOST_REMEMBERED:
            self._sent.popleft()

    def accepted(self, sent: float, now: float) -> None:
        """Note that the server has accepted a prompt, and may have counted it only ``now``."""
        for place in range(len(self._sent) - 1, -1, -1):
            if self._sent[place] == sent:
                del self._sent[place]
                self._sent.append(now)
                return

    def succeeded(self, sent: float) -> None:
        """Note that a prompt that was sent at the time ``sent`` was answered."""
        self._failures = self._backoffs = 0
        self._backed_off_until, self._down_since = 0.0, None
        if sent > self._refused_at:
            self._window = min(float(self._most), self._window + 1 / self._window)
            self._refusals = self._minutes = 0

    def refused(self, sent: float, now: float, retry_after: float | None) -> float:
        """Note that the server refused a prompt because of its limit. Return the pause in seconds.

        Other prompts that were in flight at that time are refused for the same reason. They do not
        start another pause.
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
            self._learn(others, now, has_retry_after=retry_after is not None)
        else:
            if self._learned is not None and self._learned_at == self._refused_at:
                self._learned = max(1, self._learned - 1)
            if retry_after is not None:
                until = now + min(retry_after, _LONGEST_PAUSE)
                self._paused_until = max(self._paused_until, until)
        self.accepted(sent, now)  # some versions also count refused messages
        return max(0.0, self._paused_until - now)

    def failed(self, sent: float, now: float) -> float:
        """Note that the server or the network failed. Return the pause; 0.0 for one failure.

        Prompts that were in flight at the same time fail together and start only one pause. Pauses
        grow while the server is down. An answer resets them.
        """
        self._failures += 1
        if self._down_since is None:
            self._down_since = now
        if self._failures >= _FAILURES_IN_A_ROW and sent >= self._backed_off_until:
            pause = _FIRST_BACKOFF * _BACKOFF_GROWS ** min(self._backoffs, 20)
            self._backed_off_until = now + min(_LONGEST_BACKOFF, pause)
            self._backoffs += 1
        return max(0.0, self._backed_off_until - now)

    def down_for(self, now: float) -> float:
        """Seconds since the first failure or refusal after the last success."""
        return 0.0 if self._down_since is None else now - self._down_since

    @property
    def is_down(self) -> bool:
        """Whether the server seems to be down."""
        return self._failures >= _FAILURES_IN_A_ROW

    def _guess(self, others: list[float], now: float) -> float:
        """The seconds until the oldest message of the last minute is a minute old, or more."""
        if self._refusals == 1 and others:
            return max(1.0, others[0] + MINUTE + _MARGIN - now)
        self._minutes += 1
        return (MINUTE + _MARGIN) * 2.0 ** min(self._minutes - 1, 4)

    def _learn(self, others: list[float], now: float, *, has_retry_after: bool) -> None:
        """Learn the limit from the number of accepted messages.

        ``has_retry_after``: the server said when to retry, so it may count in another way.
        """
        if self._refusals > 1 or not others or (has_retry_after and now - others[0] < MINUTE / 2):
            return
        self._learned, self._learned_at, self._step = len(others), now, 1

    def _limit(self, now: float) -> int | None:
        if self._learned is not None and now - self._learned_at > _GROWS_AFTER:
            # Messages of other programs may have made the learned limit too low.
            self._learned += max(self._step, self._learned // 20)
            self._step *= 2
            self._learned_at = now
        limits = [each for each in (self._per_minute, self._learned) if each is not None]
        return min(limits) if limits else None

    def _forget(self, now: float) -> None:
        while self._sent and self._sent[0] <= now - MINUTE - _MARGIN:
            self._sent.popleft()
