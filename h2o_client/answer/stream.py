"""One prompt and its answer, from the preparation to the cleanup.

It is separate from the reply, so that it can be ended after the reply was garbage-collected.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from h2o_client.answer.connection import AnswerConnection
from h2o_client.answer.elicitation import Elicitations
from h2o_client.answer.ending import AnswerEnding
from h2o_client.answer.observing import Observation, new_observation
from h2o_client.answer.reader import AnswerReader
from h2o_client.answer.resume import Resumption
from h2o_client.answer.state import AnswerState, Owner
from h2o_client.answer.timing import AnswerTiming
from h2o_client.errors import H2oError, TransportTimeout
from h2o_client.log import log
from h2o_client.transport.call import Call, Woken

if TYPE_CHECKING:
    from h2o_client.answer.reader import Sending
    from h2o_client.answer.storage import AnswerStorage
    from h2o_client.backend.backend import Backend
    from h2o_client.backend.cleanup import TemporaryConversation
    from h2o_client.messages import Message
    from h2o_client.timeouts import Timeouts
    from h2o_client.wire.transcript import Transcript

_READ_BACK_WITHIN = 2.0  # seconds


class AnswerStream:
    """One answer at the server: `own` a conversation, `start`, read by ``reader``, `end`.

    It is there before the prompt is prepared, so that the preparation can be ended too: ``call``
    makes all requests of it. ``is_first``: the prompt is the conversation's first. ``on_end`` is
    called with the state when the answer has ended, ``on_title`` with a title that comes later,
    ``afterwards`` when all is cleaned up.
    """

    def __init__(
        self,
        backend: Backend,
        storage: AnswerStorage,
        *,
        timeouts: Timeouts,
        owner: Owner,
        is_first: bool,
        on_end: Callable[[AnswerState], None],
        on_title: Callable[[str], None],
        afterwards: Callable[[], None] | None = None,
    ) -> None:
        self.call: Call = Call(timeouts)
        self.call.waits_within = "first_token"
        self.state: AnswerState = AnswerState(owner, is_first=is_first)
        self.timing: AnswerTiming = AnswerTiming(self.call, timeouts, self.state)
        self.reader: AnswerReader | None = None  # once the prompt is prepared
        self.observation: Observation | None = new_observation(backend.transport.base_url)
        self._backend = backend
        self._storage = storage
        self._timeouts = timeouts
        self._on_end = on_end
        self._on_title = on_title
        self._afterwards = afterwards
        self._ending = AnswerEnding(
            self.call,
            self.state,
            backend.cleanup,
            on_end=self._note_end,
            on_ended=self._note_ended,
        )
        backend.add(self)

    @property
    def transcript(self) -> Transcript:
        """The events received so far."""
        return self.state.transcript

    @property
    def conversation_id(self) -> str:
        """The id of the answer's conversation; "" until it is created."""
        return self._ending.conversation_id

    @property
    def resumption(self) -> Resumption | None:
        """The run by which it is resumed; None if the server keeps no log."""
        return None if self.reader is None else self.reader.resumption

    @property
    def times_resumed(self) -> int:
        """How often it was resumed after its connection had broken."""
        return 0 if self.resumption is None else self.resumption.count

    def own(self, conversation_id: str, temporary: TemporaryConversation | None = None) -> None:
        """The answer is given in that conversation, which is deleted with it if ``temporary``.

        Raises `Woken` if the answer was ended meanwhile.
        """
        self._ending.own(conversation_id, temporary)

    def start(self, sending: Sending) -> None:
        """Send the prompt; return when the response headers have arrived, or it was stopped.

        Raises as `AnswerConnection.send`, and `Woken` if the answer was ended meanwhile.
        """
        call, state, timing = self.call, self.state, self.timing
        self.transcript.sources = sending.sources
        self.transcript.empty_answer_text = sending.empty_answer_text
        connection = AnswerConnection(self._backend, call, state, timing, on_title=self._on_title)
        resumption = None
        if sending.run is not None:
            most = self._backend.transport.max_retries
            resumption = Resumption(sending.run, connection, state, timing, most=most)
        elicitations = Elicitations(
            self._backend.api,
            sending.dialect,
            sending.conversation_id,
            self.transcript,
            self._timeouts,
        )
        self.reader = AnswerReader(
            sending,
            connection=connection,
            resumption=resumption,
            elicitations=elicitations,
            state=state,
            timing=timing,
        )
        self._ending.start(self.reader)
        self.reader.start()

    def hand_over(self) -> None:
        """The conversation is the caller's to delete, who looks into it after a break.

        Then the model is left at work, and what is stored is not read back here.
        """
        self._ending.hand_over()

    def leave(self) -> None:
        """Keep the model running, and the conversation on the server."""
        self.state.leave_running()
        self.hand_over()

    def stop(self) -> None:
        """Tell the server, once, to stop; what still comes is handed over for a short time."""
        self._ending.stop()

    def end(self, *, wait: bool = True, until: float | None = None) -> None:
        """Give the connection up, stop what runs, delete what is temporary: see `AnswerEnding`."""
        self._ending.end(wait=wait, until=until)

    def end_later(self) -> None:
        """As `end`, for a reply that nobody holds any more; a finalizer may call it."""
        self._ending.end_later()

    @property
    def has_ended(self) -> bool:
        """Whether everything is cleaned up."""
        return self._ending.has_ended

    def ends_at_once(self) -> bool:
        """Whether `end` would wait for nothing."""
        return self._afterwards is None and self._ending.ends_at_once()

    def is_ending(self) -> bool:
        """Whether somebody is cleaning up, or will."""
        return self._ending.is_ending()

    def wait_until_ended(self) -> None:
        """Wait, for a bounded time, while somebody else is cleaning up."""
        self._ending.wait_until_ended()

    def forget(self) -> None:
        """This is a forked child, and the answer is its parent's."""
        self._ending.forget()

    def describe(self, error: BaseException) -> None:
        """Set the fields of an error to the facts about the answer that it ends."""
        if isinstance(error, H2oError):
            error.partial = self.transcript.text
            error.conversation_id = self.conversation_id or None
            if error.resendable is None:
                has_sent = self._has_sent
                error.resendable = self.state.is_resendable_after(error, has_sent=has_sent)

    def read_back_after(self, error: BaseException) -> None:
        """Put on an error what the server has stored of the answer that broke off.

        This sends requests, for two seconds at most; none after a timeout, whose caller has no time
        left, and none if the caller looks into the conversation. What the model still writes is
        stopped, to be stored, but where the conversation stays.
        """
        if isinstance(error, H2oError) and self.state.may_be_stored_after(
            error, has_sent=self._has_sent
        ):
            self.state.break_off()
            reads = not isinstance(error, TransportTimeout) and self.state.owner is not Owner.CALLER
            error.stored = self._read_back() if reads else ()

    def _read_back(self) -> tuple[Message, ...]:
        assert self.reader is not None
        # Some servers store what there is when their reader hangs up.
        self.reader.connection.leave()
        self.call.at_most = _READ_BACK_WITHIN
        self.call.clock = self.call.clock.within(_READ_BACK_WITHIN)
        outcome = self.reader.outcome(stopped_at=self._ending.stopped_at)
        try:
            stored, is_stored = self._storage.read_back(outcome, self.call)
            if is_stored is False and self._ending.stop_now():
                stored, is_stored = self._storage.read_back(outcome, self.call)
        except (H2oError, Woken) as exc:
            log.info("cannot read the stored answer: %s", type(exc).__name__)
            return ()
        if is_stored:
            self.state.finish()
        return stored.messages

    @property
    def _has_sent(self) -> bool:
        return self.reader is not None and self.reader.connection.has_sent

    def _note_end(self) -> None:
        is_sent = self.state.dialect is not None  # or at least about to be
        if self.reader is not None and is_sent and not self.state.is_foreign:
            self._storage.note(self.reader.outcome(stopped_at=self._ending.stopped_at))
        self._on_end(self.state)

    def observe_end(self, reason: str, error: BaseException | None = None) -> None:
        """Tell who observes the reply, if anybody does, how it has ended."""
        if self.observation is not None:
            self.observation.finish(self, reason, error)

    def _note_ended(self) -> None:
        self.observe_end("stopped")  # unless it was told before: nobody held the reply any more
        self._backend.remove(self)
        afterwards, self._afterwards = self._afterwards, None
        if afterwards is not None:
            afterwards()
