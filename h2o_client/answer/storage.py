"""Waiting until a server has stored what the next message builds on.

On v0.3 to v0.6 an answer is stored when its stream has ended, in the place of what was stored since
its prompt: a message that is sent before that is lost. On v0.7 a message that overtakes the storing
makes the server forget the answer; later the content is stored at the end of the response. On the
newest servers a stop that found nothing to stop ends the next answer, for five seconds.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from h2o_client.answer.exchange import Exchange
from h2o_client.backend.backend import Backend
from h2o_client.backend.background_reader import BackgroundResponse, Ending
from h2o_client.backend.unstored import UnstoredAnswer
from h2o_client.dialects.documents import Stored
from h2o_client.errors import ConversationBusyError
from h2o_client.log import log
from h2o_client.timeouts import monotonic
from h2o_client.transport.call import Call

_STORED_WITHIN = 10.0  # seconds, after an answer's proper end
_STOPPED_WITHIN = 3.0
_READ_BACK_WITHIN = 0.7  # seconds: the caller waits for the error
_MARK_LASTS = 5.3
_FIRST_LOOK = 0.05
_RAREST_LOOK = 0.5
_PATIENCE = 30.0  # seconds that a message waits for an earlier answer's end and its storing
_TOLD_AFTER = 1.0
# For so many seconds after its end an answer may still be stored.
_STORED_AFTER = {
    Ending.COMPLETE: 60.0,
    Ending.STOPPED: 10.0,
    Ending.CUT: _STOPPED_WITHIN,
    Ending.LOST: 300.0,
    Ending.FAILED: 0.0,
}


class AnswerStorage:
    """What is still to be waited for in one conversation.

    ``on_wait`` is called when a message has waited for a second.
    """

    def __init__(self, backend: Backend, on_wait: Callable[[], None]) -> None:
        self._backend = backend
        self._on_wait = on_wait
        self.has_messages: bool = False  # so far as this is known: the server has stored some

    def note(self, exchange: Exchange) -> None:
        """An exchange has ended, in one way or another."""
        if exchange.transcript.final is not None:
            self.has_messages = True
        unsettled, response = self._left_by(exchange), exchange.background
        if response is not None and response.awaits_title:
            # On v0.7 and v0.8 the end of an answer is stored behind its title.
            unsettled = unsettled or UnstoredAnswer(None, _STORED_WITHIN)
            unsettled = msgspec.structs.replace(unsettled, response=response)
        if unsettled is None or exchange.ours:
            return
        self._backend.unstored.put(exchange.conversation_id, unsettled)

    def _left_by(self, exchange: Exchange) -> UnstoredAnswer | None:
        """What an exchange leaves to be waited for."""
        dialect, final = exchange.dialect, exchange.transcript.final
        if dialect is None:
            return None
        marked_until = 0.0
        heeded = final is not None and final.interrupted
        if dialect.late_stops_abort and exchange.stopped_at is not None and not heeded:
            marked_until = exchange.stopped_at + _MARK_LASTS
            self._backend.unstored.note_late_stop(exchange.conversation_id, marked_until)
        response, left = exchange.background, exchange.left_running
        if response is not None and dialect.stores_at_end:
            if response.ending is Ending.FAILED:
                return None
            return UnstoredAnswer(exchange.answer_id, 0.0, left=left, response=response)
        seconds = _STORED_WITHIN if final is not None else _STOPPED_WITHIN
        may_come = final is not None or exchange.at_work
        if dialect.chooses_ids:
            # Of an answer that failed before its first token v0.7 stores nothing either.
            kept = dialect.keeps_failed and exchange.transcript.joined
            failed = exchange.transcript.failure is not None and not kept
            return (
                UnstoredAnswer(exchange.answer_id, seconds, left=left)
                if may_come and not failed
                else None
            )
        if may_come and not exchange.read_to_its_end:
            return UnstoredAnswer(None, seconds, marked_until, exchange.former_answer, left)
        return UnstoredAnswer(None, 0.0, marked_until) if marked_until else None

    def forget(self, conversation_id: str) -> None:
        """The conversation is about to be deleted: nothing of it matters any more."""
        unsettled = self._backend.unstored.remove(conversation_id)
        if unsettled is not None and unsettled.response is not None:
            unsettled.response.close()

    def wait(self, conversation_id: str, call: Call, *, before_message: bool = False) -> None:
        """As `settled`; sends no request if there is nothing to be waited for."""
        if self._backend.unstored.get(conversation_id) is not None:
            self.settled(conversation_id, call, before_message=before_message)

    def settled(self, conversation_id: str, call: Call, *, before_message: bool = False) -> Stored:
        """The conversation, once what was said last is stored, or time is over.

        ``before_message``: what the model is still at work on is stopped, so as not to meet it.
        Raises `ConversationBusyError` then if a message would be overwritten.
        """
        stored = self._settled(conversation_id, call, before_message)
        self.has_messages = self.has_messages or stored.last("user") is not None
        return stored

    def _settled(self, conversation_id: str, call: Call, before_message: bool) -> Stored:
        unsettled = self._backend.unstored.get(conversation_id)
        if unsettled is None:
            return self._backend.conversation(conversation_id, call)
        if unsettled.left and before_message:
            unsettled = self._stopped(conversation_id, unsettled, call)
        response = unsettled.response
        if response is not None and self._backend.set_up(call).stores_at_end:
            return self._settled_after(response, conversation_id, unsettled, call, before_message)
        if response is not None:
            response.wait_until_ended(call, _STORED_WITHIN)
        stored, is_settled = self._awaited(conversation_id, unsettled, call)
        if not is_settled:
            log.warning("the last answer in %s is not stored yet", conversation_id)
        if is_settled or before_message or not unsettled.left:
            # And not before: a wait that was broken off is owed still.
            self._backend.unstored.remove(conversation_id)
        return stored

    def _settled_after(
        self,
        response: BackgroundResponse,
        conversation_id: str,
        unsettled: UnstoredAnswer,
        call: Call,
        before_message: bool,
    ) -> Stored:
        """The conversation, once ``response`` has ended and its answer is stored."""
        patience = _PATIENCE if before_message else _STOPPED_WITHIN
        end = monotonic() + patience
        if not response.wait_until_ended(call, min(patience, _TOLD_AFTER)):
            log.warning("waiting until an answer that was given up in %s ends", conversation_id)
            if before_message:
                self._on_wait()
            response.wait_until_ended(call, end - monotonic())
        if response.ending is None:
            if before_message:
                raise ConversationBusyError(
                    "An earlier answer in this conversation has not ended on the server",
                    seconds=patience,
                )
            return self._backend.conversation(conversation_id, call)
        lasts = response.ended_at + _STORED_AFTER[response.ending] - monotonic()
        is_certain = response.ending in (Ending.COMPLETE, Ending.STOPPED)
        least = _STORED_WITHIN if is_certain else _STOPPED_WITHIN
        seconds = max(0.0, min(lasts, max(end - monotonic(), least)))
        wanted = msgspec.structs.replace(unsettled, seconds=seconds)
        stored, is_stored = self._awaited(conversation_id, wanted, call)
        if not is_stored and lasts > seconds:
            if before_message:
                raise ConversationBusyError(
                    "An earlier answer in this conversation is not stored by the server",
                    seconds=patience,
                )
            return stored
        if not is_stored and response.ending is not Ending.FAILED:
            log.warning("the last answer in %s is not stored", conversation_id)
        self._backend.unstored.remove(conversation_id)
        return stored

    def _stopped(
        self, conversation_id: str, unsettled: UnstoredAnswer, call: Call
    ) -> UnstoredAnswer:
        at_once = msgspec.structs.replace(unsettled, seconds=0.0, marked_until=0.0)
        if self._awaited(conversation_id, at_once, call)[1]:
            return unsettled
        if unsettled.response is not None:
            unsettled.response.note_stop()
        self._backend.cleanup.stop(conversation_id)
        late = self._backend.set_up(call).late_stops_abort
        marked_until = monotonic() + _MARK_LASTS if late else 0.0
        unsettled = msgspec.structs.replace(unsettled, marked_until=marked_until, left=False)
        self._backend.unstored.put(conversation_id, unsettled)
        return unsettled

    def read_back(self, exchange: Exchange, call: Call) -> Stored:
        """The conversation after a break; what still runs then is soon stopped, to be stored."""
        unsettled = self._left_by(exchange)
        if unsettled is None:
            return self._backend.conversation(exchange.conversation_id, call)
        wanted = msgspec.structs.replace(unsettled, seconds=_READ_BACK_WITHIN, marked_until=0.0)
        stored, is_settled = self._awaited(exchange.conversation_id, wanted, call)
        if not is_settled and exchange.stop_at_once():
            stored, is_settled = self._awaited(exchange.conversation_id, wanted, call)
        if is_settled:
            exchange.running = False
        return stored

    def _awaited(
        self, conversation_id: str, unsettled: UnstoredAnswer, call: Call
    ) -> tuple[Stored, bool]:
        """The conversation, and whether what is waited for is stored in it."""
        stored = self._backend.conversation(conversation_id, call)
        end = monotonic() + unsettled.seconds
        pause = _FIRST_LOOK
        while not _is_settled(stored, unsettled):
            now = monotonic()
            if now + pause > max(end, unsettled.marked_until):
                if now >= unsettled.marked_until:
                    return stored, False
                self._pause(unsettled.marked_until - now, call)
                break
            self._pause(pause, call)
            pause = min(2 * pause, _RAREST_LOOK)
            stored = self._backend.conversation(conversation_id, call)
        return stored, True

    def _pause(self, seconds: float, call: Call) -> None:
        with self._backend.transport.translating(call):
            call.pause(seconds)


def _is_settled(stored: Stored, unsettled: UnstoredAnswer) -> bool:
    if unsettled.answer_id is not None:
        return any(message.id == unsettled.answer_id for message in stored.messages)
    last = stored.last("assistant")
    if last is None or last.id in stored.unfinished or last.id == (unsettled.former or ""):
        return False
    # An answer that was interrupted has used up the mark that a late stop leaves.
    return last.id in stored.interrupted or monotonic() >= unsettled.marked_until
