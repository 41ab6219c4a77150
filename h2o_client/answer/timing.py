"""When an answer was sent and heard of, and which timeout bounds its silence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from h2o_client.timeouts import Timeouts, monotonic

if TYPE_CHECKING:
    from h2o_client.answer.state import AnswerState
    from h2o_client.transport.call import Call

# A log is written by another process than the one that writes the answer. The server takes up to
# two minutes to notice that this one was killed, and then ends the log.
_NOTICED_WITHIN = 130.0  # seconds


class AnswerTiming:
    """The times of one answer, over all its connections.

    ``awaits_first``: no text of the present message's answer has come yet. Written by the thread
    that sends and reads.
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
        """Seconds from the prompt's sending to the first token; None until it came."""
        return None if self.first_token_at is None else self.first_token_at - self.sent_at

    def start(self) -> None:
        """The prompt is about to be sent."""
        self.sent_at = self.heard_at = monotonic()

    def start_message(self) -> None:
        """A message is about to be sent, of which there may be several for one answer."""
        self.awaits_first = True
        self._idle = self._timeouts.idle

    def start_log(self, spent: float) -> None:
        """The log of a run is read, of whose timeout ``spent`` seconds have passed."""
        idle = self._timeouts.idle
        self._idle = max(idle, _NOTICED_WITHIN) if idle is not None and idle >= 60 else idle
        self._allow(spent)

    def bind_first_token(self) -> None:
        """The connection broke before the first token: its timeout runs on through all tries."""
        clock = self._call.clock
        if self.awaits_first and self._state.rules.counts_silence and not clock.is_bound:
            spent = clock.spent if clock.which == "first_token" else 0.0
            clock.bind("first_token", self._timeouts.first_token, spent=spent)

    def note_text(self) -> None:
        """Text has come."""
        if self.awaits_first:
            self.awaits_first = False
            self.first_token_at = self.first_token_at or monotonic()
            self._call.clock.bind("first_token", None)
            self._allow()
        else:
            self._call.clock.renew()

    def note_life(self) -> None:
        """A sign of life has come that is no text."""
        if not self.awaits_first:
            self._call.clock.renew()

    def note_elicitation(self) -> None:
        """A tool has a question to the user, or has got the answer."""
        if not self._state.rules.counts_silence:
            self._call.clock.bind("first_token", None)
        self._allow()

    def is_within_idle(self) -> bool:
        """Whether the answer, over all connections, has not been silent for too long yet."""
        idle = self._timeouts.first_token if self.awaits_first else self._timeouts.idle
        return idle is None or monotonic() - self.heard_at < idle

    def _allow(self, spent: float = 0.0) -> None:
        which = self._state.timeout(awaits_first=self.awaits_first)
        if which is None:
            self._call.clock.allow("idle", None)
        elif which == "first_token":
            # It counts anew on each connection; `bind_first_token` bounds them all.
            self._call.clock.allow(which, self._timeouts.first_token)
        else:
            self._call.clock.allow(which, self._idle, spent=spent)
