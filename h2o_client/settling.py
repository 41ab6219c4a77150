"""Waiting until a server has stored what the next message builds on.

On v0.3 to v0.7 an answer is stored after its stream, and a message that overtakes that makes the
server forget it; later the content is stored at the end of the response. On the newest servers a
stop that found nothing to stop ends the next answer, for five seconds.
"""

from __future__ import annotations

import time

import msgspec

from h2o_client.exchange import Exchange
from h2o_client.generations.records import Stored
from h2o_client.log import log
from h2o_client.transport import Call
from h2o_client.upstream import Upstream

_STORED_WITHIN = 10.0  # seconds, after an answer's proper end
_STOPPED_WITHIN = 3.0
_READ_BACK_WITHIN = 0.7  # for somebody who waits to be told what went wrong
_MARK_LASTS = 5.3
_FIRST_LOOK = 0.05
_RAREST_LOOK = 0.5


class _Unsettled(msgspec.Struct, frozen=True):
    """``answer_id`` is None where the server chooses it: the last one is meant, not ``former``.

    ``left``: the model may be at work on it still.
    """

    answer_id: str | None
    seconds: float
    marked_until: float = 0.0
    former: str | None = None
    left: bool = False


class Settling:
    """What is still to be waited for in one conversation."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._unsettled: _Unsettled | None = None

    def note(self, exchange: Exchange) -> None:
        """An exchange has ended, in one way or another."""
        generation = exchange.generation
        if generation is None:
            return
        final = exchange.transcript.final
        marked_until = 0.0
        heeded = final is not None and final.interrupted
        if generation.late_stops_abort and exchange.stopped_at is not None and not heeded:
            marked_until = exchange.stopped_at + _MARK_LASTS
            self._upstream.marks[exchange.conversation_id] = marked_until
        if generation.chooses_ids:
            # Of an answer that failed before its first token v0.7 stores nothing either.
            kept = generation.keeps_failed and exchange.transcript.joined
            failed = exchange.transcript.failure is not None and not kept
            if (final is not None or exchange.at_work) and not failed:
                seconds = _STORED_WITHIN if final is not None else _STOPPED_WITHIN
                left = exchange.left_running
                self._unsettled = _Unsettled(exchange.answer_id, seconds, left=left)
        elif not exchange.read_to_its_end and (exchange.at_work or final is not None):
            seconds = _STORED_WITHIN if final is not None else _STOPPED_WITHIN
            self._unsettled = _Unsettled(
                None, seconds, marked_until, exchange.former_answer, exchange.left_running
            )
        elif marked_until:
            self._unsettled = _Unsettled(None, 0.0, marked_until)

    def wait(self, conversation_id: str, call: Call, *, before_message: bool = False) -> None:
        """Asks the server only if there is something to be waited for."""
        if self._still_unsettled(conversation_id) is not None:
            self.settled(conversation_id, call, before_message=before_message)

    def settled(self, conversation_id: str, call: Call, *, before_message: bool = False) -> Stored:
        """The conversation, once what was said last is stored, or time is over.

        ``before_message``: what the model is still at work on is stopped, so as not to meet it.
        """
        unsettled = self._still_unsettled(conversation_id)
        if unsettled is None:
            return self._upstream.conversation(conversation_id, call)
        if unsettled.left and before_message:
            unsettled = self._stopped(conversation_id, unsettled, call)
        stored, is_settled = self._awaited(conversation_id, unsettled, call)
        if not is_settled:
            log.warning("the last answer in %s is not stored yet", conversation_id)
        if is_settled or before_message or not unsettled.left:
            self._unsettled = None  # and not before: a wait that was broken off is owed still
        return stored

    def _still_unsettled(self, conversation_id: str) -> _Unsettled | None:
        """What is to be waited for; a late stop's mark also if it is another object's."""
        if self._unsettled is not None:
            return self._unsettled
        marked_until = self._upstream.marks.get(conversation_id, 0.0)
        return _Unsettled(None, 0.0, marked_until) if marked_until > time.monotonic() else None

    def _stopped(self, conversation_id: str, unsettled: _Unsettled, call: Call) -> _Unsettled:
        at_once = msgspec.structs.replace(unsettled, seconds=0.0, marked_until=0.0)
        if self._awaited(conversation_id, at_once, call)[1]:
            return unsettled
        self._upstream.litter.stop(conversation_id)
        late = self._upstream.prepared(call).late_stops_abort
        marked_until = time.monotonic() + _MARK_LASTS if late else 0.0
        return msgspec.structs.replace(unsettled, marked_until=marked_until)

    def read_back(self, exchange: Exchange, call: Call) -> Stored:
        """The conversation after a break; what still runs then is soon stopped, to be stored."""
        self.note(exchange)
        if self._unsettled is None:
            return self._upstream.conversation(exchange.conversation_id, call)
        wanted = msgspec.structs.replace(
            self._unsettled, seconds=_READ_BACK_WITHIN, marked_until=0.0
        )
        stored, is_settled = self._awaited(exchange.conversation_id, wanted, call)
        if not is_settled and exchange.stop_at_once():
            stored, is_settled = self._awaited(exchange.conversation_id, wanted, call)
        if is_settled:
            exchange.running = False
        return stored

    def _awaited(
        self, conversation_id: str, unsettled: _Unsettled, call: Call
    ) -> tuple[Stored, bool]:
        """The conversation, and whether what is waited for is stored in it."""
        stored = self._upstream.conversation(conversation_id, call)
        end = time.monotonic() + unsettled.seconds
        pause = _FIRST_LOOK
        while not _is_settled(stored, unsettled):
            now = time.monotonic()
            if now + pause > max(end, unsettled.marked_until):
                if now >= unsettled.marked_until:
                    return stored, False
                self._pause(unsettled.marked_until - now, call)
                break
            self._pause(pause, call)
            pause = min(2 * pause, _RAREST_LOOK)
            stored = self._upstream.conversation(conversation_id, call)
        return stored, True

    def _pause(self, seconds: float, call: Call) -> None:
        with self._upstream.transport.translating(call):
            call.pause(seconds)


def _is_settled(stored: Stored, unsettled: _Unsettled) -> bool:
    if unsettled.answer_id is not None:
        return any(message.id == unsettled.answer_id for message in stored.messages)
    last = stored.last("assistant")
    if last is None or last.id in stored.unfinished or last.id == (unsettled.former or ""):
        return False
    # An answer that was interrupted has used up the mark that a late stop leaves.
    return last.id in stored.interrupted or time.monotonic() >= unsettled.marked_until
