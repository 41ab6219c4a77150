"""One answer, from the preparation of its prompt to the cleanup.

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
    """One answer. Call `own` with its conversation, then `start`; read with ``reader``; then `end`.

    The object exists before the prompt is prepared, so that `end` can also end the preparation,
    whose requests use ``call``. ``is_first``: the prompt is the first one of the conversation.
    ``on_end`` is called with the state when the answer has ended, ``on_title`` with a title that
    arrives later, ``afterwards`` after the cleanup.
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
        """Resumes the answer; None if the server keeps no log of it."""
        return None if self.reader is None else self.reader.resumption

    @property
    def times_resumed(self) -> int:
        """How often the answer was resumed after its connection broke."""
        return 0 if self.resumption is None else self.resumption.count

    def own(self, conversation_id: str, temporary: TemporaryConversation | None = None) -> None:
        """Set the answer's conversation, which is deleted with the answer if ``temporary``.

        Raises `Woken` if the answer was ended meanwhile.
        """
        self._ending.own(conversation_id, temporary)

    def start(self, sending: Sending) -> None:
        """Send the prompt. Return when the response headers have arrived or the answer was stopped.

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
        """Leave the conversation to the caller, who deletes or keeps it.

        If the answer then fails, the model is not stopped. A caller that records its conversations
        (`Owner.CALLER`) also reads the stored answer itself.
        """
        self._ending.hand_over()

    def leave(self) -> None:
        """Do not stop the model or delete the conversation when the answer ends."""
        self.state.leave_running()
        self.hand_over()

    def stop(self) -> None:
        """Send one stop request. Text that arrives shortly afterwards is still returned."""
        self._ending.stop()

    def end(self, *, wait: bool = True, until: float | None = None) -> None:
        """Close the connection, stop the model, delete a temporary conversation. Idempotent.

        See `AnswerEnding.end`.
        """
        self._ending.end(wait=wait, until=until)

    def end_later(self) -> None:
        """Like `end`, in another thread. A finalizer may call it."""
        self._ending.end_later()

    @property
    def has_ended(self) -> bool:
        """Whether everything is cleaned up."""
        return self._ending.has_ended

    def ends_at_once(self) -> bool:
        """Whether `end` returns at once."""
        return self._afterwards is None and self._ending.ends_at_once()

    def is_ending(self) -> bool:
        """Whether the cleanup has started or is scheduled."""
        return self._ending.is_ending()

    def wait_until_ended(self) -> None:
        """Wait, for at most five seconds, while another thread cleans up."""
        self._ending.wait_until_ended()

    def forget(self) -> None:
        """Forget the answer in a forked child: it belongs to the parent."""
        self._ending.forget()

    def describe(self, error: BaseException) -> None:
        """Set the fields of ``error`` that describe the answer."""
        if isinstance(error, H2oError):
            error.partial = self.transcript.text
            error.conversation_id = self.conversation_id or None
            if error.resendable is None:
                has_sent = self._has_sent
                error.resendable = self.state.is_resendable_after(error, has_sent=has_sent)

    def read_back_after(self, error: BaseException) -> None:
        """Set ``error.stored`` to the stored messages, if the answer may be among them.

        Sends requests, for at most two seconds, but not after a timeout (the caller has no time
        left) and not if the caller reads the conversation itself. If the conversation is not kept,
        this stops the model, so that the server stores the text so far.
        """
        if isinstance(error, H2oError) and self.state.may_be_stored_after(
            error, has_sent=self._has_sent
        ):
            self.state.break_off()
            reads = not isinstance(error, TransportTimeout) and self.state.owner is not Owner.CALLER
            error.stored = self._read_back() if reads else ()

    def _read_back(self) -> tuple[Message, ...]:
        assert self.reader is not None
        # Some servers store the text so far when the client closes the connection.
        self.reader.connection.leave()
        self.call.at_most = _READ_BACK_WITHIN
        self.call.clock = self.call.clock.within(_READ_BACK_WITHIN)
        outcome = self.reader.outcome(stopped_by=self._ending.stopped_by)
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
        is_sent = self.state.dialect is not None  # or was about to be sent
        if self.reader is not None and is_sent and not self.state.is_foreign:
            self._storage.note(self.reader.outcome(stopped_by=self._ending.stopped_by))
        self._on_end(self.state)

    def observe_end(self, reason: str, error: BaseException | None = None) -> None:
        """Pass the end of the reply to the observation, if there is one."""
        if self.observation is not None:
            self.observation.finish(self, reason, error)

    def _note_ended(self) -> None:
        self.observe_end("stopped")  # for a garbage-collected reply; ignored after an earlier call
        self._backend.remove(self)
        afterwards, self._afterwards = self._afterwards, None
        if afterwards is not None:
            afterwards()
