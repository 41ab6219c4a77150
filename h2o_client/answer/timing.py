"""When a prompt was sent, when its answer last made progress, and which timeout applies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from h2o_client.timeouts import Timeouts, monotonic

if TYPE_CHECKING:
    from h2o_client.answer.state import AnswerState
    from h2o_client.transport.call import Call

# One server process writes the answer, another one the log. If the first process is killed, the
# server takes up to two minutes to notice this and end the log.
_NOTICED_WITHIN = 130.0  # seconds


class AnswerTiming:
    """The times of one answer, over all its connections, in seconds on the monotonic clock.

    ``awaits_first``: the answer to the current message has no text yet. Only the thread that sends
    and reads sets the attributes.
    """

    def __init__(self, call: Call, timeouts: Timeouts, state: AnswerState) -> None:
        self.sent_at: float = 0.0
        self.heard_at: float = 0.0
        self.first_token_at: float | None = None
        self.awaits_first: bool = True
        self._call = call
        self._timeouts = timeouts
        self._state = state
        self._idle = timeouts.idle

    @property
    def to_first_token(self) -> float | None:
        """Seconds from sending the prompt to the first token; None before that."""
        return None if self.first_token_at is None else self.first_token_at - self.sent_at

    @property
    def since_sent(self) -> float:
        """Seconds since the prompt was sent."""
        return monotonic() - self.sent_at

    def start(self) -> None:
        """Note that the prompt is about to be sent."""
        self.sent_at = self.heard_at = monotonic()

    def start_message(self) -> None:
        """Note that a message is about to be sent. One answer may need several messages."""
        self.awaits_first = True
        self._idle = self._timeouts.idle

    def start_log(self, spent: float) -> None:
        """Note that a log is about to be read. ``spent`` seconds of the timeout have passed."""
        idle = self._timeouts.idle
        self._idle = max(idle, _NOTICED_WITHIN) if idle is not None and idle >= 60 else idle
        self._allow(spent)

    def bind_first_token(self) -> None:
        """After a break, let the first token's timeout apply to all attempts together."""
        clock = self._call.clock
        if self.awaits_first and self._state.rules.counts_silence and not clock.is_bound:
            spent = clock.spent if clock.which == "first_token" else 0.0
            clock.bind("first_token", self._timeouts.first_token, spent=spent)

    def note_text(self) -> None:
        """Note that text has arrived."""
        if self.awaits_first:
            self.awaits_first = False
            self.first_token_at = self.first_token_at or monotonic()
            self._call.clock.bind("first_token", None)
            self._allow()
        else:
            self._call.clock.renew()

    def note_life(self) -> None:
        """Note that a sign of life other than text has arrived."""
        if not self.awaits_first:
            self._call.clock.renew()

    def note_elicitation(self) -> None:
        """Note that a tool has asked the user a question, or has received the answer."""
        if not self._state.rules.counts_silence:
            self._call.clock.bind("first_token", None)
        self._allow()

    def is_within_idle(self) -> bool:
        """Whether the time without bytes, over all connections, is still within the timeout."""
        idle = self._timeouts.first_token if self.awaits_first else self._timeouts.idle
        return idle is None or monotonic() - self.heard_at < idle

    def _allow(self, spent: float = 0.0) -> None:
        which = self._state.timeout(awaits_first=self.awaits_first)
        if which is None:
            self._call.clock.allow("idle", None)
        elif which == "first_token":
            # It restarts with each connection; `bind_first_token` bounds all of them together.
            self._call.clock.allow(which, self._timeouts.first_token)
        else:
            self._call.clock.allow(which, self._idle, spent=spent)
