"""The states of one answer, and what is allowed in each of them.

Pure: no lock, no clock, no socket. Methods note what happened; properties say what to do. The
thread that sends and reads writes ``work``, ``dialect`` and ``second_try``; `AnswerEnding` writes
``stage`` and ``owner``, under its lock. Each write is one assignment, so other threads can read
these attributes without a lock.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import TYPE_CHECKING, Literal

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
    """The state of an answer, from the prompt to the cleanup."""

    NEW = "new"  # the prompt is being prepared
    SENDING = "sending"  # the prompt is being sent; the response headers have not arrived
    READING = "reading"
    WAITING_FOR_USER = "waiting for the user"  # a tool has a question; the stream may have ended
    STOPPING = "stopping"  # `stop` was called; text that arrives shortly after is returned
    ENDING = "ending"  # the cleanup has started
    ENDED = "ended"  # the cleanup is done


class Rules(msgspec.Struct, frozen=True):
    """The actions that a `State` allows.

    ``counts_silence``: whether `Timeouts.first_token` and `Timeouts.idle` apply. ``may_stop``:
    whether `stop` has an effect. ``may_resume``: whether a broken connection may be replaced.
    ``is_read``: whether the caller gets events.
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
    """How far the client has got with ending the answer."""

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
    """Whether the server has the prompt, and whether the model may be running."""

    NOT_SENT = "not sent"
    SENDING = "sending"  # the call knows whether a byte was sent; if so, the model may be running
    RUNNING = "running"  # the server has the prompt, and the model may be running
    READ = "read"  # the response has ended or was an error, so the model has stopped
    OVER = "over"  # the answer had ended before this process started to read it


class SecondTry(Enum):
    """Whether to retry an answer that was stopped while empty, and not by this client.

    On the newest servers a late stop request ends the next answer, but only one.
    """

    UNUSED = "unused"
    DUE = "due"
    USED = "used"


class Owner(Enum):
    """The owner of the conversation, which deletes it."""

    ANSWER = "answer"  # created for this answer, and deleted with it
    CALLER = "caller"  # created for this answer; the caller has recorded it, and deletes it
    CONVERSATION = "conversation"  # deleted when the `Conversation` is closed
    USER = "user"  # stays on the server


class StopBy(Enum):
    """The action that `stop` has to take."""

    NOTHING = "nothing"  # the stream has ended: the caller gets the received events
    DISCONNECT = "disconnect"  # close the connection
    REQUEST = "request"  # send a stop request; the caller gets the text that still arrives


class Leave(Enum):
    """How to end the connection of an answer that is no longer read."""

    CLOSE = "close"
    READ_UNTIL_STORED = "read until stored"
    READ_UNTIL_TITLED = "read until titled"


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """The facts about an answer that has ended or failed after its prompt was prepared.

    ``answer_id`` is the id of the answer, if the client chooses it; ``former_answer`` that of the
    previous answer, if it was read. ``response`` is the response that is still being read in the
    background, or None. ``has_finished``: the response ended normally. ``stopped_by``: the time, on
    the monotonic clock, by which the server has handled the stop request.
    """

    conversation_id: str
    dialect: Dialect
    answer_id: str | None
    former_answer: str | None
    response: BackgroundResponse | None
    stopped_by: float | None
    has_final: bool
    is_interrupted: bool
    has_failed: bool
    has_text: bool
    has_finished: bool
    is_at_work: bool
    is_left_running: bool
    is_one_shot: bool


class AnswerState:
    """The state of one answer: its `Stage`, its `Work`, and its transcript."""

    def __init__(self, owner: Owner, *, is_first: bool) -> None:
        self.owner: Owner = owner
        self.transcript: Transcript = Transcript()
        self.dialect: Dialect | None = None  # None until the prompt is ready to be sent
        self.work: Work = Work.NOT_SENT
        self.stage: Stage = Stage.OPEN
        self.second_try: SecondTry = SecondTry.UNUSED
        self._is_first = is_first  # the first answer in its conversation
        self._is_left_running = False

    # Events

    def send(self, dialect: Dialect) -> None:
        """Note that a message is about to be sent, in the format of ``dialect``."""
        self.dialect = dialect
        self.work = Work.SENDING

    def take_up(self, dialect: Dialect, *, is_over: bool) -> None:
        """Note that another process started the answer. ``is_over``: it is known to have ended."""
        self.dialect = dialect
        self.work = Work.OVER if is_over else Work.RUNNING

    def open(self, dialect: Dialect) -> None:
        """Note that a successful response has started. ``dialect``: as the response shows it."""
        self.dialect = dialect
        if self.work is not Work.OVER:
            self.work = Work.RUNNING

    def refuse(self, *, may_be_at_work: bool) -> None:
        """Note that the response has an error status."""
        self.work = Work.RUNNING if may_be_at_work else Work.READ

    def lose(self, *, has_sent: bool) -> None:
        """Note that no response came. ``has_sent``: a byte of the message was sent."""
        if self.work is Work.SENDING:
            self.work = Work.RUNNING if has_sent else Work.NOT_SENT

    def finish(self) -> None:
        """Note that the response ended normally, or that the server has stored the answer."""
        if self.work is Work.RUNNING:
            self.work = Work.READ

    def resume(self) -> None:
        """Note that the connection broke, and that the answer is being resumed."""
        if self.work is Work.READ:
            self.work = Work.RUNNING

    def leave_running(self) -> None:
        """Note that the model must not be stopped at the end: another reader needs the answer."""
        self._is_left_running = True

    def break_off(self) -> None:
        """Note that the answer failed. If the conversation is kept, the model may continue."""
        self._is_left_running = self.owner in (Owner.USER, Owner.CALLER)

    def hand_over(self) -> None:
        """Note that the conversation is no longer deleted with this answer."""
        self.owner = Owner.CALLER if self.is_one_shot else Owner.USER

    # Derived properties

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
        """The actions that are allowed now."""
        return RULES[self.state]

    def timeout(self, *, awaits_first: bool) -> Literal["first_token", "idle"] | None:
        """Which of the `Timeouts` applies while no text arrives; None if none applies."""
        if not self.rules.counts_silence:
            return None
        return "first_token" if awaits_first else "idle"

    @property
    def is_one_shot(self) -> bool:
        """Whether the conversation was created for this one answer."""
        return self.owner in (Owner.ANSWER, Owner.CALLER)

    @property
    def is_over(self) -> bool:
        """Whether the cleanup has started: the caller gets no more events."""
        return self.stage is Stage.ENDING or self.stage is Stage.ENDED

    def is_sent(self, *, has_sent: bool) -> bool:
        """Whether the server may have the prompt. ``has_sent``: a byte of the message was sent."""
        return self.work is not Work.NOT_SENT and (self.work is not Work.SENDING or has_sent)

    def is_at_work(self, *, has_sent: bool) -> bool:
        """Whether the model may be running, also while another thread sends the prompt."""
        return self.work is Work.RUNNING or (self.work is Work.SENDING and has_sent)

    def is_left_running(self, *, has_sent: bool) -> bool:
        """Whether the model is left running, and can be stopped later."""
        can_be = self.dialect is not None and self.dialect.stops
        return self._is_left_running and can_be and self.is_at_work(has_sent=has_sent)

    @property
    def is_foreign(self) -> bool:
        """Whether the answer has the format of another dialect: the server was upgraded."""
        dialect = self.dialect
        return dialect is not None and not dialect.answers_in_lines and self.transcript.has_updates

    def may_resume(self) -> bool:
        """Whether an answer whose connection ended or broke may be resumed."""
        transcript = self.transcript
        has_ended = transcript.ended or transcript.finished or transcript.malformed is not None
        return self.rules.may_resume and not has_ended

    def stop_by(self, *, has_sent: bool) -> StopBy:
        """How `stop` has to stop an answer that has not ended."""
        is_due = self.second_try is SecondTry.DUE
        if self.work in (Work.READ, Work.OVER) and not is_due:
            return StopBy.NOTHING
        stops = self.dialect is not None and self.dialect.stops
        has_ended = self.transcript.finished or is_due
        if not stops or has_ended or not self.is_sent(has_sent=has_sent):
            return StopBy.DISCONNECT
        return StopBy.REQUEST

    def needs_stop(self, *, has_sent: bool) -> bool:
        """Whether a stop request is needed if the answer is no longer read."""
        if self.dialect is None or not self.dialect.stops:
            return False
        if self._is_left_running or self.second_try is SecondTry.DUE:
            return False
        has_ended = self.transcript.ended or self.transcript.finished
        return self.is_at_work(has_sent=has_sent) and not has_ended

    @property
    def may_outlive_reader(self) -> bool:
        """Whether the rest of the response may have to be read in the background."""
        if self.dialect is None or self.is_one_shot:
            return False
        loses_title = self.dialect.loses_late_titles and self._is_first
        return self.dialect.stores_at_end or (loses_title and self.owner is Owner.USER)

    def leave_by(self) -> Leave:
        """How to leave a connection that may outlive its reader."""
        if self.dialect is not None and self.dialect.stores_at_end:
            return Leave.READ_UNTIL_STORED
        if self.transcript.final is not None and self.transcript.title is None:
            return Leave.READ_UNTIL_TITLED
        return Leave.CLOSE

    def needs_second_try(self, events: Sequence[Event]) -> bool:
        """Whether ``events`` end an empty answer that was stopped, but not by this client."""
        if self.stage is not Stage.OPEN or self.second_try is SecondTry.USED:
            return False
        return self.transcript.is_stopped_empty(events)

    def may_be_stored_after(self, error: BaseException, *, has_sent: bool) -> bool:
        """Whether the server may have stored more of the answer than arrived before ``error``."""
        if isinstance(error, TransportTimeout) and error.which == "total":
            return False
        is_break = isinstance(error, TransportError | IncompleteAnswerError)
        return is_break and not self.is_over and self.is_sent(has_sent=has_sent)

    def is_resendable_after(self, error: H2oError, *, has_sent: bool) -> bool | None:
        """Whether the prompt can be sent again after ``error``; None if no prompt was involved."""
        if isinstance(error, ConfigurationError):
            return None
        if isinstance(error, RateLimitError) and error.limit != "rate":
            return False  # the server would refuse it again, even after a wait
        is_refusal = isinstance(error, StatusError) and (
            error.status < 500 or error.origin == "model"
        )
        return is_refusal or not self.is_sent(has_sent=has_sent)
