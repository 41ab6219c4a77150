"""Wait until the server has stored the previous answer before the next message is sent.

v0.3 to v0.6 store an answer after its stream has ended, and overwrite everything that was stored
after its prompt, so a message sent earlier is lost. v0.7 loses the answer if the next message
arrives before the answer is stored. Later versions store the answer at the end of the response. On
the newest servers, a stop request that found nothing to stop leaves a mark for five seconds; an
answer that starts in this time is stopped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from h2o_client.backend.background_reader import Ending
from h2o_client.backend.unstored import UnstoredAnswer
from h2o_client.errors import ConversationBusyError
from h2o_client.log import log
from h2o_client.timeouts import monotonic

if TYPE_CHECKING:
    from h2o_client.answer.state import Outcome
    from h2o_client.backend.backend import Backend
    from h2o_client.backend.background_reader import BackgroundResponse
    from h2o_client.dialects.documents import Stored
    from h2o_client.transport.call import Call

# All in seconds.
_STORED_WITHIN = 10.0  # after the normal end of an answer
_STOPPED_WITHIN = 3.0  # after an answer was stopped or broke off
_READ_BACK_WITHIN = 0.7  # after an error, which the caller is waiting for
_MARK_LASTS = 5.3  # the mark of a late stop request
_FIRST_POLL = 0.05
_LONGEST_POLL = 0.5
_PATIENCE = 30.0  # that a message waits until an earlier answer has ended and is stored
_NOTIFIED_AFTER = 1.0  # when `on_wait` is called
# Seconds after its end during which an answer may still be stored.
_STORED_AFTER = {
    Ending.COMPLETE: 60.0,
    Ending.STOPPED: 10.0,
    Ending.CUT: _STOPPED_WITHIN,
    Ending.LOST: 300.0,
    Ending.FAILED: 0.0,
}


class AnswerStorage:
    """Waits for the unstored answer of one conversation.

    ``on_wait`` is called when a message has waited for a second.
    """

    def __init__(self, backend: Backend, on_wait: Callable[[], None]) -> None:
        self._backend = backend
        self._on_wait = on_wait
        self.has_messages: bool = False  # whether the server is known to have stored messages

    def note(self, outcome: Outcome) -> None:
        """Note that an answer has ended or failed."""
        self.has_messages = self.has_messages or outcome.has_final
        unstored, response = self._left_by(outcome), outcome.response
        if response is not None and response.awaits_title:
            # v0.7 and v0.8 store the end of an answer after its title.
            unstored = unstored or UnstoredAnswer(None, _STORED_WITHIN)
            unstored = msgspec.structs.replace(unstored, response=response)
        if unstored is None or outcome.is_one_shot:
            return
        self._backend.unstored.put(outcome.conversation_id, unstored)

    def _left_by(self, outcome: Outcome) -> UnstoredAnswer | None:
        """The work after an answer that the next message has to wait for."""
        dialect, response, left = outcome.dialect, outcome.response, outcome.is_left_running
        marked_until = 0.0
        stopped_by = outcome.stopped_by
        if dialect.late_stops_abort and stopped_by is not None and not outcome.is_interrupted:
            marked_until = stopped_by + _MARK_LASTS
            self._backend.unstored.note_late_stop(outcome.conversation_id, marked_until)
        if response is not None and dialect.stores_at_end:
            if response.ending is Ending.FAILED:
                return None
            return UnstoredAnswer(outcome.answer_id, 0.0, left=left, response=response)
        seconds = _STORED_WITHIN if outcome.has_final else _STOPPED_WITHIN
        may_come = outcome.has_final or outcome.is_at_work
        if dialect.chooses_ids:
            is_dropped = outcome.has_failed and not dialect.keeps_failed
            if (outcome.has_final or outcome.has_failed) and not outcome.has_text:
                is_dropped = is_dropped or dialect.drops_empty
            if not may_come or is_dropped:
                return None
            return UnstoredAnswer(outcome.answer_id, seconds, left=left)
        if may_come and not outcome.has_finished:
            return UnstoredAnswer(None, seconds, marked_until, outcome.former_answer, left)
        return UnstoredAnswer(None, 0.0, marked_until) if marked_until else None

    def forget(self, conversation_id: str) -> None:
        """Stop waiting for answers: the conversation is about to be deleted."""
        unstored = self._backend.unstored.remove(conversation_id)
        if unstored is not None and unstored.response is not None:
            unstored.response.close()

    def wait(self, conversation_id: str, call: Call, *, before_message: bool = False) -> None:
        """Like `wait_until_stored`, but sends no request if there is nothing to wait for."""
        if self._backend.unstored.get(conversation_id) is not None:
            self.wait_until_stored(conversation_id, call, before_message=before_message)

    def wait_until_stored(
        self, conversation_id: str, call: Call, *, before_message: bool = False
    ) -> Stored:
        """Poll until the last messages are stored or the time is over; return the conversation.

        ``before_message``: stop an answer that is still being generated, and raise
        `ConversationBusyError` if the server would overwrite the next message.
        """
        stored = self._read_when_stored(conversation_id, call, before_message)
        self.has_messages = self.has_messages or stored.last("user") is not None
        return stored

    def _read_when_stored(self, conversation_id: str, call: Call, before_message: bool) -> Stored:
        unstored = self._backend.unstored.get(conversation_id)
        if unstored is None:
            return self._backend.conversation(conversation_id, call)
        if not before_message:  # a late stop can only end a message
            unstored = msgspec.structs.replace(unstored, marked_until=0.0)
        if unstored.left and before_message:
            unstored = self._stop_answer(conversation_id, unstored, call)
        response = unstored.response
        if response is not None and self._backend.set_up(call).stores_at_end:
            return self._stored_after(response, conversation_id, unstored, call, before_message)
        if response is not None:
            response.wait_until_ended(call, _STORED_WITHIN)
        stored, is_stored = self._poll(conversation_id, unstored, call)
        if not is_stored:
            log.warning("the server has not stored the last answer in %s yet", conversation_id)
        if is_stored or before_message or not unstored.left:
            # Not removed earlier: after an interrupted wait, the next call has to wait again.
            self._backend.unstored.remove(conversation_id)
        if is_stored and _was_stopped(stored):
            # The stop request came in time, so its mark is consumed.
            self._backend.unstored.forget_late_stop(conversation_id)
        return stored

    def _stored_after(
        self,
        response: BackgroundResponse,
        conversation_id: str,
        unstored: UnstoredAnswer,
        call: Call,
        before_message: bool,
    ) -> Stored:
        """Return the conversation, once ``response`` has ended and its answer is stored."""
        patience = _PATIENCE if before_message else _STOPPED_WITHIN
        end = monotonic() + patience
        if not response.wait_until_ended(call, min(patience, _NOTIFIED_AFTER)):
            log.warning("waiting for the end of an abandoned answer in %s", conversation_id)
            if before_message:
                self._on_wait()
            response.wait_until_ended(call, end - monotonic())
        if response.ending is None:
            if before_message:
                raise ConversationBusyError(
                    "The earlier answer in this conversation has not ended on the server",
                    seconds=patience,
                )
            return self._backend.conversation(conversation_id, call)
        lasts = response.ended_at + _STORED_AFTER[response.ending] - monotonic()
        is_certain = response.ending in (Ending.COMPLETE, Ending.STOPPED)
        least = _STORED_WITHIN if is_certain else _STOPPED_WITHIN
        seconds = max(0.0, min(lasts, max(end - monotonic(), least)))
        wanted = msgspec.structs.replace(unstored, seconds=seconds)
        stored, is_stored = self._poll(conversation_id, wanted, call)
        if not is_stored and lasts > seconds:
            if before_message:
                raise ConversationBusyError(
                    "The server has not stored the earlier answer in this conversation",
                    seconds=patience,
                )
            return stored
        if not is_stored and response.ending is not Ending.FAILED:
            log.warning("the server has not stored the last answer in %s", conversation_id)
        self._backend.unstored.remove(conversation_id)
        return stored

    def _stop_answer(
        self, conversation_id: str, unstored: UnstoredAnswer, call: Call
    ) -> UnstoredAnswer:
        at_once = msgspec.structs.replace(unstored, seconds=0.0, marked_until=0.0)
        if self._poll(conversation_id, at_once, call)[1]:
            return unstored
        if unstored.response is not None:
            unstored.response.note_stop()
        stopped_by = self._backend.cleanup.stop(conversation_id)
        late = self._backend.set_up(call).late_stops_abort
        marked_until = stopped_by + _MARK_LASTS if late else 0.0
        unstored = msgspec.structs.replace(unstored, marked_until=marked_until, left=False)
        self._backend.unstored.put(conversation_id, unstored)
        return unstored

    def read_back(self, outcome: Outcome, call: Call) -> tuple[Stored, bool | None]:
        """Return the conversation after a failed answer, and whether that answer is stored.

        The second value is None if there is nothing to wait for. Raises as `Backend.conversation`.
        """
        unstored = self._left_by(outcome)
        if unstored is None:
            return self._backend.conversation(outcome.conversation_id, call), None
        wanted = msgspec.structs.replace(unstored, seconds=_READ_BACK_WITHIN, marked_until=0.0)
        return self._poll(outcome.conversation_id, wanted, call)

    def _poll(
        self, conversation_id: str, unstored: UnstoredAnswer, call: Call
    ) -> tuple[Stored, bool]:
        """Return the conversation, and whether the awaited answer is stored in it."""
        stored = self._backend.conversation(conversation_id, call)
        # A stop request that was not answered was handled before this request.
        latest = monotonic() + _MARK_LASTS
        if unstored.marked_until > latest:
            unstored = msgspec.structs.replace(unstored, marked_until=latest)
            self._backend.unstored.note_late_stop(conversation_id, latest)
        end = monotonic() + unstored.seconds
        pause = _FIRST_POLL
        while not _is_stored(stored, unstored):
            now = monotonic()
            if now + pause > max(end, unstored.marked_until):
                if now >= unstored.marked_until:
                    return stored, False
                self._pause(unstored.marked_until - now, call)
                break
            self._pause(pause, call)
            pause = min(2 * pause, _LONGEST_POLL)
            stored = self._backend.conversation(conversation_id, call)
        return stored, True

    def _pause(self, seconds: float, call: Call) -> None:
        with self._backend.transport.translating(call):
            call.pause(seconds)


def _is_stored(stored: Stored, unstored: UnstoredAnswer) -> bool:
    if unstored.answer_id is not None:
        return any(message.id == unstored.answer_id for message in stored.messages)
    last = stored.last("assistant")
    if last is None or last.id in stored.unfinished or last.id == (unstored.former or ""):
        return False
    # An interrupted answer has consumed the mark that a late stop request leaves.
    return _was_stopped(stored) or monotonic() >= unstored.marked_until


def _was_stopped(stored: Stored) -> bool:
    last = stored.last("assistant")
    return last is not None and last.id in stored.interrupted
