"""End one answer, once: stop the model, close the connection, delete a temporary conversation.

For an answer, nothing else calls the session's `Cleanup`. Any thread may end an answer, even in a
signal handler or in the garbage collector.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from h2o_client.answer.state import Stage, StopBy
from h2o_client.backend.background import run_detached, run_in_background, run_shielded
from h2o_client.backend.cleanup import CLEAN_UP
from h2o_client.timeouts import monotonic
from h2o_client.transport.call import Woken
from h2o_client.transport.locks import Flag, Guard

if TYPE_CHECKING:
    from h2o_client.answer.reader import AnswerReader
    from h2o_client.answer.state import AnswerState
    from h2o_client.backend.cleanup import Cleanup, TemporaryConversation
    from h2o_client.transport.call import Call

_LATE_TEXT_WITHIN = 1.5  # seconds to wait for text that arrives after a stop request
_STOP_WITHIN = 2.5  # seconds to wait for a stop request that another thread has sent


class AnswerEnding:
    """Stops and ends one answer. Owns the conversation if it was created for that answer only.

    `end` deletes such a conversation before it returns, or, after a complete answer, in the
    background. ``on_end`` is called when the connection is closed, ``on_ended`` after the threads
    that wait for the cleanup have been released.
    """

    def __init__(
        self,
        call: Call,
        state: AnswerState,
        cleanup: Cleanup,
        *,
        on_end: Callable[[], None],
        on_ended: Callable[[], None],
    ) -> None:
        self.conversation_id: str = ""  # until it is known
        # The time by which the server has handled the stop request; None if none was sent.
        self.stopped_by: float | None = None
        self._call = call
        self._state = state
        self._cleanup = cleanup
        self._on_end = on_end
        self._on_ended = on_ended
        # Guards the answer's stage, the temporary conversation, the reader, and the choice of the
        # thread that stops and cleans up. It is never held during a wait. The stage is read without
        # the lock: an outdated value costs one more read.
        self._lock = Guard()
        self._temporary: TemporaryConversation | None = None
        self._reader: AnswerReader | None = None
        self._stop_sent: threading.Event | None = None  # set when the stop request is done
        self._late_text_timer: threading.Timer | None = None
        self._cleaner = 0  # the id of the thread that cleans up
        self._has_requested = False  # True as soon as a thread has started `_stop_and_delete`
        self._cleaned = Flag()

    # What this object ends

    def own(self, conversation_id: str, temporary: TemporaryConversation | None) -> None:
        """Set the answer's conversation, which is deleted with the answer if ``temporary``.

        Raises `Woken` if the answer was ended meanwhile.
        """
        with self._lock:
            self.conversation_id = conversation_id
            is_over = self._state.is_over
            if not is_over and temporary is not None:
                self._temporary = temporary
                temporary.bind_to_answer()
        if is_over:
            if temporary is not None:
                temporary.delete_shielded()
            raise Woken

    def start(self, reader: AnswerReader) -> None:
        """Set the reader before it connects. Raises `Woken` if the answer was ended meanwhile."""
        with self._lock:
            if self._state.is_over:
                raise Woken
            self._reader = reader

    def hand_over(self) -> None:
        """Leave the conversation to the caller, who deletes or keeps it."""
        with self._lock:
            self._state.hand_over()
            self._temporary = None
        self._cleanup.release(self.conversation_id)

    # Stopping

    def stop(self) -> None:
        """Send one stop request. Text that arrives shortly afterwards is still returned."""
        with self._lock:
            if not self._state.rules.may_stop:
                return
            if self._reader is not None:
                self._reader.look_ahead()
            if self._state.transcript.ended:
                return
            self._state.stage = Stage.STOPPING
            way = self._state.stop_by(has_sent=self._has_sent)
            if way is StopBy.NOTHING:
                return
            if way is StopBy.DISCONNECT:
                self._call.wake()
                return
            self._stop_sent = threading.Event()
            self._late_text_timer = threading.Timer(_LATE_TEXT_WITHIN, self._end_late_text)
            self._late_text_timer.daemon = True
        try:
            self._late_text_timer.start()
        except RuntimeError:  # no thread can be started: without the timer, reading might not end
            self._call.wake()
        run_in_background(self._send_stop, pending=self._cleanup.pending)

    def stop_now(self) -> bool:
        """Stop a running model and wait for the response. Return whether a request was sent."""
        if not self._must_stop():
            return False
        self._stop_sent = threading.Event()
        self._send_stop()
        return True

    def _end_late_text(self) -> None:
        self._call.wake()
        # The cleanup does not wait for the next read: the caller may never read again.
        self.end_later()

    def _must_stop(self) -> bool:
        return self._stop_sent is None and self._state.needs_stop(has_sent=self._has_sent)

    def _send_stop(self) -> None:
        assert self._stop_sent is not None
        try:
            self._request_stop()
        finally:
            self._stop_sent.set()

    def _request_stop(self, until: float | None = None) -> None:
        if self._reader is not None:
            self._reader.connection.wait_until_answered()
            self._reader.connection.note_stop()
        self.stopped_by = self._cleanup.stop(self.conversation_id, until=until)

    @property
    def _has_sent(self) -> bool:
        return self._reader is not None and self._reader.connection.has_sent

    # Ending

    @property
    def has_ended(self) -> bool:
        """Whether everything is cleaned up."""
        return self._cleaned.is_set()

    def ends_at_once(self) -> bool:
        """Whether `end` returns at once: the answer is complete, and no request is waited for."""
        if not self._has_answer or self._stop_sent is not None or self._must_stop():
            return False
        return self._temporary is None or self._cleanup.can_delete_in_background()

    def is_ending(self) -> bool:
        """Whether the cleanup has started or is scheduled."""
        return self._state.is_over or self in self._cleanup.pending

    def wait_until_ended(self) -> None:
        """Wait, for a bounded time, while another thread cleans up."""
        self._cleaned.wait(CLEAN_UP)

    def end(self, *, wait: bool = True, until: float | None = None) -> None:
        """Close the connection, stop the model, delete the temporary conversation. Idempotent.

        Returns before ``until``, or within five seconds. If another thread is doing this, wait for
        that thread.
        """
        until = monotonic() + CLEAN_UP if until is None else until
        try:
            if self._claim_cleanup():
                self._clean_up(until)
            elif wait:
                self._cleaned.wait(max(0.0, until - monotonic()))
        except BaseException:
            if self._cleaner == threading.get_ident() and not self.has_ended:
                # An interrupt came between two steps: another thread runs the remaining steps.
                self._cleanup.pending.add(self)
                run_detached(partial(self._clean_up_again, until))
            raise

    def end_later(self) -> None:
        """Like `end`, in another thread. A finalizer may call it."""
        if not self._state.is_over:
            self._cleanup.pending.add(self)
            run_detached(self.end)

    def forget(self) -> None:
        """Forget the answer in a forked child: it belongs to the parent."""
        self._state.stage = Stage.ENDED
        self._cleaned.set()

    def _claim_cleanup(self) -> bool:
        """Make this thread the one that cleans up. Return False if another one is."""
        with self._lock:
            if self._state.is_over:
                return False
            if self._reader is not None and self._state.stage is Stage.OPEN:
                self._reader.look_ahead()
            self._cleaner = threading.get_ident()
            self._state.stage = Stage.ENDING
            if self._late_text_timer is not None:
                self._late_text_timer.cancel()
        return True

    def _clean_up(self, until: float) -> None:
        if self._reader is None:
            self._call.wake()
        else:
            self._reader.close()
        try:
            if self._needs_requests():
                run_shielded(partial(self._stop_and_delete, until), pending=self._cleanup.pending)
        finally:
            self._call.release_slot()  # an interrupted close has not released it
            self._on_end()
            self._state.stage = Stage.ENDED
            self._cleaned.set()
            self._cleanup.pending.discard(self)
            self._on_ended()

    def _needs_requests(self) -> bool:
        """Whether the cleanup has to wait for requests. A background deletion is started here."""
        if self._stop_sent is not None or self._must_stop():
            return True
        if self._temporary is None:
            return False
        return not (self._has_answer and self._temporary.delete_in_background())

    @property
    def _has_answer(self) -> bool:
        return self._state.transcript.final is not None

    def _clean_up_again(self, until: float) -> None:
        self._cleaner = threading.get_ident()
        self._clean_up(until)

    def _stop_and_delete(self, until: float) -> None:
        with self._lock:
            if self._has_requested:
                return
            self._has_requested = True
        if self._must_stop():
            self._request_stop(until)
        elif self._stop_sent is not None:
            self._stop_sent.wait(max(0.0, min(_STOP_WITHIN, until - monotonic())))
        if self._temporary is not None:
            self._temporary.delete(until=until)
