"""The states of one answer, and what may be done in each of them.

Pure: no lock, no clock, no socket. What happened goes in by the methods, what to do comes out of
the properties. Two parties write here, each its own attributes: ``work``, ``dialect`` and
``second_try`` the thread that sends and reads, ``stage`` and ``owner`` `AnswerEnding`, under its
lock. Each write is one assignment, so other threads read them without a lock.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import TYPE_CHECKING

import msgspec

from h2o_client.errors import (
    ConfigurationError,
    H2oError,
    IncompleteAnswerError,
    RateLimitError,
    StatusError,
    TransportError,
    TransportTimeout,
)
from h2o_client.wire.transcript import Transcript

if TYPE_CHECKING:
    from h2o_client.backend.background_reader import BackgroundResponse
    from h2o_client.dialects.dialect import Dialect
    from h2o_client.wire.events import Event


class State(Enum):
    """Where an answer is on its way."""

    NEW = "new"  # its prompt is being prepared
    SENDING = "sending"  # the prompt is on its way; the head of its response is not there
    READING = "reading"
    WAITING_FOR_USER = "waiting for the user"  # a tool asks the user; the stream may have ended
    STOPPING = "stopping"  # `stop` was called: what still comes is handed over for a short time
    ENDING = "ending"  # the connection is given up, the cleanup is under way
    ENDED = "ended"  # everything is cleaned up


GATEWAY_FAILED = (502, 504, 520, 524)
"""Statuses of a gateway, behind which the server may be at work on the message."""


class Rules(msgspec.Struct, frozen=True):
    """What may happen in a `State`.

    ``counts_silence``: whether `Timeouts.first_token` and `Timeouts.idle` run. ``may_stop``:
    whether `stop` has an effect. ``may_resume``: whether a broken connection may be replaced.
    ``is_read``: whether events are handed over.
    """

    counts_silence: bool
    may_stop: bool
    may_resume: bool
    is_read: bool


RULES = {
    # Each request that prepares the prompt has its own timeouts.
    State.NEW: Rules(counts_silence=False, may_stop=True, may_resume=False, is_read=False),
    State.SENDING: Rules(counts_silence=True, may_stop=True, may_resume=True, is_read=False),
    State.READING: Rules(counts_silence=True, may_stop=True, may_resume=True, is_read=True),
    State.WAITING_FOR_USER: Rules(
        counts_silence=False, may_stop=True, may_resume=True, is_read=True
    ),
    State.STOPPING: Rules(counts_silence=True, may_stop=False, may_resume=False, is_read=True),
    State.ENDING: Rules(counts_silence=False, may_stop=False, may_resume=False, is_read=False),
    State.ENDED: Rules(counts_silence=False, may_stop=False, may_resume=False, is_read=False),
}


class Stage(Enum):
    """How far the end of an answer has come on this side."""

    OPEN = "open"
    STOPPING = "stopping"
    ENDING = "ending"
    ENDED = "ended"


_STATE_OF = {
    Stage.STOPPING: State.STOPPING,
    Stage.ENDING: State.ENDING,
    Stage.ENDED: State.ENDED,
}


class Work(Enum):
    """What the server has of the prompt, and whether the model is at work on it."""

    NOT_SENT = "not sent"
    SENDING = "sending"  # whether a byte has left, and the model may be at work, the call knows
    RUNNING = "running"  # the server has the prompt, and the model may be at work
    READ = "read"  # the response has ended, or was a refusal: the model is at rest, if not resumed
    OVER = "over"  # the answer had ended before this process began to read it


class SecondTry(Enum):
    """Whether an answer is requested once more that ended empty, as stopped, and not by us.

    On the newest servers a stop that comes too late ends the next answer, which uses it up.
    """

    UNUSED = "unused"
    DUE = "due"
    USED = "used"


class Owner(Enum):
    """Whose the conversation is."""

    ANSWER = "answer"  # made for this one answer, and deleted with it
    CALLER = "caller"  # made for this one answer; the caller has a record of it, and deletes it
    CONVERSATION = "conversation"  # deleted when the `Conversation` is closed
    USER = "user"  # stays on the server


class StopBy(Enum):
    """What `stop` has to do."""

    NOTHING = "nothing"  # the stream is over: what is here is handed over
    HANGING_UP = "hanging up"
    REQUEST = "request"  # the server is told, and what still comes is handed over


class Leave(Enum):
    """What to do with the connection of an answer that nobody reads any more."""

    CLOSE = "close"
    READ_UNTIL_STORED = "read until stored"
    READ_UNTIL_TITLED = "read until titled"


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of an answer that has ended, or broke off, when its prompt had been prepared.

    ``answer_id`` is the answer's where the client chooses it, ``former_answer`` the last one's
    before, where that was read. ``response`` is the one that is read on in the background, if any.
    ``has_finished``: the response has ended as it should. ``stopped_at``: when the server was told
    to stop.
    """

    conversation_id: str
    dialect: Dialect
    answer_id: str | None
    former_answer: str | None
    response: BackgroundResponse | None
    stopped_at: float | None
    has_final: bool
    is_interrupted: bool
    has_failed: bool
    has_text: bool
    has_finished: bool
    is_at_work: bool
    is_left_running: bool
    is_one_shot: bool


class AnswerState:
    """The state of one answer: its `Stage`, its `Work`, and what came of it so far."""

    def __init__(self, owner: Owner, *, is_first: bool) -> None:
        self.owner: Owner = owner
        self.transcript: Transcript = Transcript()
        self.dialect: Dialect | None = None  # None until the prompt is ready to be sent
        self.work: Work = Work.NOT_SENT
        self.stage: Stage = Stage.OPEN
        self.second_try: SecondTry = SecondTry.UNUSED
        self._is_first = is_first  # in its conversation
        self._is_left_running = False

    # What happened

    def send(self, dialect: Dialect) -> None:
        """A message is about to be sent, in the words of ``dialect``."""
        self.dialect = dialect
        self.work = Work.SENDING

    def take_up(self, dialect: Dialect, *, is_over: bool) -> None:
        """The answer was begun by another process; ``is_over``: it has ended, as is known."""
        self.dialect = dialect
        self.work = Work.OVER if is_over else Work.RUNNING

    def open(self, dialect: Dialect) -> None:
        """The head of a response that can be read is there. It may tell more of the dialect."""
        self.dialect = dialect
        if self.work is not Work.OVER:
            self.work = Work.RUNNING

    def refuse(self, *, may_be_at_work: bool) -> None:
        """The message was answered with an error status."""
        self.work = Work.RUNNING if may_be_at_work else Work.READ

    def lose(self, *, has_sent: bool) -> None:
        """No response came. ``has_sent``: a byte of the message has left."""
        if self.work is Work.SENDING:
            self.work = Work.RUNNING if has_sent else Work.NOT_SENT

    def finish(self) -> None:
        """The response has ended as it should, or the server has stored the answer."""
        if self.work is Work.RUNNING:
            self.work = Work.READ

    def resume(self) -> None:
        """The connection broke, and the answer is looked for on another."""
        if self.work is Work.READ:
            self.work = Work.RUNNING

    def leave_running(self) -> None:
        """The model is not to be stopped when this ends: the answer is for another reader."""
        self._is_left_running = True

    def break_off(self) -> None:
        """The answer broke off. Where the conversation stays, the model may write on."""
        self._is_left_running = self.owner in (Owner.USER, Owner.CALLER)

    def hand_over(self) -> None:
        """The conversation is not deleted with this answer any more."""
        self.owner = Owner.CALLER if self.is_one_shot else Owner.USER

    # What that amounts to

    @property
    def state(self) -> State:
        """The state as a whole."""
        if self.stage is not Stage.OPEN:
            return _STATE_OF[self.stage]
        if self.work is Work.NOT_SENT:
            return State.NEW
        if self.work is Work.SENDING:
            return State.SENDING
        if self.transcript.elicitation is not None:
            return State.WAITING_FOR_USER
        return State.READING

    @property
    def rules(self) -> Rules:
        """What may happen now."""
        return RULES[self.state]

    def timeout(self, *, awaits_first: bool) -> str | None:
        """Which of the `Timeouts` bounds the silence of the answer; None for none."""
        if not self.rules.counts_silence:
            return None
        return "first_token" if awaits_first else "idle"

    @property
    def is_one_shot(self) -> bool:
        """Whether the conversation was made for this one answer."""
        return self.owner in (Owner.ANSWER, Owner.CALLER)

    @property
    def is_over(self) -> bool:
        """Whether the connection was given up: nothing is handed over any more."""
        return self.stage is Stage.ENDING or self.stage is Stage.ENDED

    def is_sent(self, *, has_sent: bool) -> bool:
        """Whether the server may have the prompt. ``has_sent``: a byte of the message has left."""
        return self.work is not Work.NOT_SENT and (self.work is not Work.SENDING or has_sent)

    def is_at_work(self, *, has_sent: bool) -> bool:
        """Whether the model may be, also while another thread sends the prompt."""
        return self.work is Work.RUNNING or (self.work is Work.SENDING and has_sent)

    def is_left_running(self, *, has_sent: bool) -> bool:
        """Whether the model is left at work, and can be stopped later."""
        can_be = self.dialect is not None and self.dialect.stops
        return self._is_left_running and can_be and self.is_at_work(has_sent=has_sent)

    @property
    def is_foreign(self) -> bool:
        """Whether the answer came in another dialect's language: the server was upgraded."""
        dialect = self.dialect
        return dialect is not None and not dialect.answers_in_lines and self.transcript.has_updates

    def may_resume(self) -> bool:
        """Whether more of the answer may be had where its connection has ended or broken."""
        transcript = self.transcript
        has_ended = transcript.ended or transcript.finished or transcript.malformed is not None
        return self.rules.may_resume and not has_ended

    def stop_by(self, *, has_sent: bool) -> StopBy:
        """What `stop` has to do in an answer that has not ended."""
        is_due = self.second_try is SecondTry.DUE
        if self.work in (Work.READ, Work.OVER) and not is_due:
            return StopBy.NOTHING
        stops = self.dialect is not None and self.dialect.stops
        has_ended = self.transcript.finished or is_due
        if not stops or has_ended or not self.is_sent(has_sent=has_sent):
            return StopBy.HANGING_UP
        return StopBy.REQUEST

    def needs_stop(self, *, has_sent: bool) -> bool:
        """Whether the server has to be told to stop, once nobody reads the answer any more."""
        if self.dialect is None or not self.dialect.stops:
            return False
        if self._is_left_running or self.second_try is SecondTry.DUE:
            return False
        has_ended = self.transcript.ended or self.transcript.finished
        return self.is_at_work(has_sent=has_sent) and not has_ended

    @property
    def may_outlive_reader(self) -> bool:
        """Whether the connection may have to be read on in the background."""
        if self.dialect is None or self.is_one_shot:
            return False
        loses_title = self.dialect.loses_late_titles and self._is_first
        return self.dialect.stores_at_end or (loses_title and self.owner is Owner.USER)

    def leave_by(self) -> Leave:
        """What to do with a connection that may outlive its reader."""
        if self.dialect is not None and self.dialect.stores_at_end:
            return Leave.READ_UNTIL_STORED
        if self.transcript.final is not None and self.transcript.title is None:
            return Leave.READ_UNTIL_TITLED
        return Leave.CLOSE

    def needs_second_try(self, events: Sequence[Event]) -> bool:
        """Whether ``events`` end an answer that was stopped before its first word, not by us."""
        if self.stage is not Stage.OPEN or self.second_try is SecondTry.USED:
            return False
        return self.transcript.is_stopped_unsaid(events)

    def may_be_stored_after(self, error: BaseException, *, has_sent: bool) -> bool:
        """Whether the server may have more of the answer than came before ``error``."""
        if isinstance(error, TransportTimeout) and error.which == "total":
            return False
        is_break = isinstance(error, TransportError | IncompleteAnswerError)
        return is_break and not self.is_over and self.is_sent(has_sent=has_sent)

    def is_resendable_after(self, error: H2oError, *, has_sent: bool) -> bool | None:
        """Whether the prompt can be sent again after ``error``; None if that is no question."""
        if isinstance(error, ConfigurationError):
            return None
        if isinstance(error, RateLimitError) and error.limit != "rate":
            return False  # the same would be refused again, however long one waits
        is_refusal = isinstance(error, StatusError) and (
            error.status < 500 or error.origin == "model"
        )
        return is_refusal or not self.is_sent(has_sent=has_sent)
