"""The end of one answer: stopped, hung up, cleaned up; once, whoever asks for it.

The only caller of the session's `Cleanup` for an answer. Any thread may end an answer, a signal
handler and the garbage collector too.
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
from h2o_client.transport.locks import Guard

if TYPE_CHECKING:
    from h2o_client.answer.reader import AnswerReader
    from h2o_client.answer.state import AnswerState
    from h2o_client.backend.cleanup import Cleanup, TemporaryConversation
    from h2o_client.transport.call import Call

_LAST_WORDS = 1.5  # seconds that what still comes after a stop is waited for
_STOP_WITHIN = 2.5  # seconds that a stop which another thread has sent is waited for


class AnswerEnding:
    """Stops and ends one answer. It owns the conversation that was made for that answer alone.

    ``on_end`` is called when the connection is given up and the conversation deleted, ``on_ended``
    when whoever waited for that has been released.
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
        self.stopped_at: float | None = None  # when the server had been told to stop
        self._call = call
        self._state = state
        self._cleanup = cleanup
        self._on_end = on_end
        self._on_ended = on_ended
        # Guards the stage of the answer, what is ended with it (the conversation and the reader),
        # and the decision who stops, hangs up and tidies. It is not held while anything is waited
        # for. The stage is read without it: one that is out of date costs one more read.
        self._lock = Guard()
        self._temporary: TemporaryConversation | None = None
        self._reader: AnswerReader | None = None
        self._stop_sent: threading.Event | None = None  # set when the stop is through
        self._last_words: threading.Timer | None = None
        self._cleaner = 0  # the thread that cleans up, once one does
        self._has_tidied = False  # or is at it
        self._cleaned = threading.Event()

    # What is ended here

    def own(self, conversation_id: str, temporary: TemporaryConversation | None) -> None:
        """The answer is given in that conversation, which is deleted with it if ``temporary``.

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
        """From here on there is a connection. Raises `Woken` if the answer was ended meanwhile."""
        with self._lock:
            if self._state.is_over:
                raise Woken
            self._reader = reader

    def hand_over(self) -> None:
        """The caller deletes the conversation, or keeps it."""
        with self._lock:
            self._state.hand_over()
            self._temporary = None
        self._cleanup.release(self.conversation_id)

    # Stopping

    def stop(self) -> None:
        """Tell the server, once, to stop; what still comes is handed over for a short time."""
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
            if way is StopBy.HANGING_UP:
                self._call.wake()
                return
            self._stop_sent = threading.Event()
            self._last_words = threading.Timer(_LAST_WORDS, self._end_last_words)
            self._last_words.daemon = True
        try:
            self._last_words.start()
        except RuntimeError:  # no thread can be started, so no timer would end the reading
            self._call.wake()
        run_in_background(self._send_stop, pending=self._cleanup.pending)

    def stop_now(self) -> bool:
        """Have the server stop what runs, if it does and can; return when it has answered."""
        if not self._must_stop():
            return False
        self._stop_sent = threading.Event()
        self._send_stop()
        return True

    def _end_last_words(self) -> None:
        self._call.wake()
        # Nobody may ever read on: what was made for this does not wait for that.
        self.end_later()

    def _must_stop(self) -> bool:
        return self._stop_sent is None and self._state.needs_stop(has_sent=self._has_sent)

    def _send_stop(self) -> None:
        assert self._stop_sent is not None
        try:
            self._tell_server()
        finally:
            self._stop_sent.set()

    def _tell_server(self, until: float | None = None) -> None:
        if self._reader is not None:
            self._reader.connection.wait_until_answered()
            self._reader.connection.note_stop()
        self._cleanup.stop(self.conversation_id, until=until)
        self.stopped_at = monotonic()

    @property
    def _has_sent(self) -> bool:
        return self._reader is not None and self._reader.connection.has_sent

    # Ending

    @property
    def has_ended(self) -> bool:
        """Whether everything is cleaned up."""
        return self._cleaned.is_set()

    def is_ending(self) -> bool:
        """Whether somebody is cleaning up, or will."""
        return self._state.is_over or self in self._cleanup.pending

    def wait_until_ended(self) -> None:
        """Wait, for a bounded time, while somebody else is cleaning up."""
        self._cleaned.wait(CLEAN_UP)

    def end(self, *, wait: bool = True, until: float | None = None) -> None:
        """Give the connection up, stop what runs, delete what is temporary. Idempotent.

        All that by ``until``, or within five seconds. If another thread is at it, wait for that.
        """
        until = monotonic() + CLEAN_UP if until is None else until
        try:
            if self._hang_up():
                self._clean_up(until)
            elif wait:
                self._cleaned.wait(max(0.0, until - monotonic()))
        except BaseException:
            if self._cleaner == threading.get_ident() and not self.has_ended:
                # An interrupt, between any two steps: another thread does what is left of them.
                self._cleanup.pending.add(self)
                run_detached(partial(self._clean_up_again, until))
            raise

    def end_later(self) -> None:
        """As `end`, in another thread: a finalizer may call it."""
        if not self._state.is_over:
            self._cleanup.pending.add(self)
            run_detached(self.end)

    def forget(self) -> None:
        """This is a forked child, and the answer is its parent's."""
        self._state.stage = Stage.ENDED
        self._cleaned.set()

    def _hang_up(self) -> bool:
        """Take the end upon this thread. False if another has."""
        with self._lock:
            if self._state.is_over:
                return False
            if self._reader is not None and self._state.stage is Stage.OPEN:
                self._reader.look_ahead()
            self._cleaner = threading.get_ident()
            self._state.stage = Stage.ENDING
            if self._last_words is not None:
                self._last_words.cancel()
        return True

    def _clean_up(self, until: float) -> None:
        if self._reader is None:
            self._call.wake()
        else:
            self._reader.let_go()
        try:
            if self._stop_sent is not None or self._temporary is not None or self._must_stop():
                run_shielded(partial(self._tidy, until), pending=self._cleanup.pending)
        finally:
            self._call.give_slot_back()  # which an interrupted close has not
            self._on_end()
            self._state.stage = Stage.ENDED
            self._cleaned.set()
            self._cleanup.pending.discard(self)
            self._on_ended()

    def _clean_up_again(self, until: float) -> None:
        self._cleaner = threading.get_ident()
        self._clean_up(until)

    def _tidy(self, until: float) -> None:
        with self._lock:
            if self._has_tidied:
                return
            self._has_tidied = True
        if self._must_stop():
            self._tell_server(until)
        elif self._stop_sent is not None:
            self._stop_sent.wait(max(0.0, min(_STOP_WITHIN, until - monotonic())))
        if self._temporary is not None:
            self._temporary.delete(until=until)
