"""Turn the bytes of one answer into events, blocking (`receive`) or not (`receive_ready`).

`AnswerConnection` opens the responses; `AnswerSteps` takes the events. If a connection breaks and
the server keeps a log, `Resumption` replaces the connection.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from h2o_client.answer.state import Outcome, SecondTry, Stage
from h2o_client.answer.watch import Watch
from h2o_client.errors import H2oError, ProtocolError, ServerError, TransportError
from h2o_client.log import log
from h2o_client.timeouts import monotonic
from h2o_client.transport.call import Woken
from h2o_client.transport.locks import ReaderLock
from h2o_client.wire.events import (
    Elicitation,
    Event,
    File,
    Reasoning,
    Route,
    Source,
    Token,
    Tool,
    WebSearch,
)
from h2o_client.wire.overlap import counted
from h2o_client.wire.transcript import without_stop

if TYPE_CHECKING:
    from h2o_client.answer.connection import AnswerConnection
    from h2o_client.answer.elicitation import Elicitations
    from h2o_client.answer.resume import Resumption
    from h2o_client.answer.server_run import Run
    from h2o_client.answer.state import AnswerState
    from h2o_client.answer.timing import AnswerTiming
    from h2o_client.backend.background_reader import BackgroundResponse
    from h2o_client.dialects.dialect import Dialect
    from h2o_client.transport.response import Response
    from h2o_client.wire.request import Request

_MOST_LOOKED_AT = 1 << 20  # bytes
_MOST_READ_IN_A_LOOP = 1 << 16  # bytes without an event to read before other tasks get a turn
_LATE_END = 0.1  # seconds to wait for the end of a body after the last event
_RELEASED_WITHIN = 1.0  # seconds that closing waits for an event loop that watches the socket


class Sending(msgspec.Struct, frozen=True, kw_only=True):
    """The facts that are known before a message is sent.

    ``request`` sends the message. It is None if another process has sent the message; then the log
    of ``run`` is read from its start, the first ``position`` characters are skipped, and
    ``is_over`` says whether the answer has ended. ``run`` is None if the server keeps no log.
    ``answer_id`` is the id of the answer, if the client chooses it; ``former_answer`` that of the
    previous answer, if it was read. ``steps`` and ``sources`` come from a web search before the
    message. ``empty_answer_text`` is the text that the server returns if the model has generated
    nothing; None if that text is empty.
    """

    conversation_id: str
    dialect: Dialect
    request: Request | None
    run: Run | None = None
    answer_id: str | None = None
    former_answer: str | None = None
    steps: tuple[WebSearch, ...] = ()
    sources: tuple[Source, ...] = ()
    empty_answer_text: str | None = None
    position: int = 0
    is_over: bool = False

    def __repr__(self) -> str:
        return "<Sending>"  # the request contains the prompt


class AnswerReader:
    """Sends the prompt and reads its answer, over several connections if needed."""

    def __init__(
        self,
        sending: Sending,
        *,
        connection: AnswerConnection,
        resumption: Resumption | None,
        elicitations: Elicitations,
        state: AnswerState,
        timing: AnswerTiming,
    ) -> None:
        self.connection: AnswerConnection = connection
        self.resumption: Resumption | None = resumption
        # Events that were read and not returned yet.
        self.read_ahead: list[Event] = list(sending.steps)
        self._sending = sending
        self._call = connection.call
        self._state = state
        self._transcript = state.transcript
        self._timing = timing
        self._elicitations = elicitations
        self._watch = Watch()
        # Guards the response, its decoder, the transcript, `read_ahead`, and everything below. A
        # thread keeps it while it reads. `close` wakes the reading thread before it closes the
        # response; if that thread still holds the lock, that thread closes the response.
        self._lock = ReaderLock()
        self._to_skip = sending.position  # characters that the caller already has
        self._broken: H2oError | None = None  # set by `receive_ready`, for the next `receive`
        self._drained: Response | BackgroundResponse | None = None
        self._has_drained_socket = False  # whether the last read has emptied the socket

    # For the thread that iterates

    def start(self) -> None:
        """Send the prompt, or open the log of an answer that another process has requested.

        Returns when the response headers have arrived, or the answer was stopped. Raises the same
        errors as `AnswerConnection.send`.
        """
        sending = self._sending
        self._timing.start()
        try:
            if sending.request is not None:
                self._send(sending.request, sending.dialect)
            elif self.resumption is not None:
                self._state.take_up(sending.dialect, is_over=sending.is_over)
                self.resumption.read_from_start()
        finally:
            self._call.clock.hold()

    def _send(self, request: Request, dialect: Dialect) -> None:
        try:
            self.connection.send(request, dialect)
        except (TransportError, ProtocolError, ServerError) as exc:
            if not self.is_sent or not self._can_resume(exc):
                raise
            self.read_ahead = self._resume_after(exc)

    def receive(self) -> list[Event]:
        """Wait for the next events and return them; an empty list at the end."""
        try:
            with self._lock:
                return self._receive()
        finally:
            self._leave_if_over()

    def _receive(self) -> list[Event]:
        if self.read_ahead:
            return self._take_read_ahead()
        if self.connection.response is None or self._state.is_over:
            return []
        # The time that the caller took since the last token does not count as silence.
        self._call.clock.go()
        try:
            return self._next_events()
        except (Woken, TransportError):
            if self._state.stage is not Stage.OPEN:
                return []
            raise
        finally:
            self._call.clock.hold()

    def receive_ready(self) -> list[Event] | None:
        """Return the next events without waiting; None if nothing is there.

        An empty list means the end, or that only `receive` can get more. Raises `TimeoutError` if
        a timeout expires while bytes without events arrive.
        """
        try:
            with self._lock:
                return self._receive_ready()
        finally:
            self._leave_if_over()

    def _receive_ready(self) -> list[Event] | None:
        self._call.clock.go()
        if self.read_ahead:
            return self._take_read_ahead()
        response = self.connection.response
        if response is None or self._broken is not None or self._state.is_over:
            return []
        try:
            if self._has_drained_socket:
                self._has_drained_socket = False
                return None
            return self._events_ready(response)
        except (Woken, TransportError, ProtocolError) as exc:
            if self._state.stage is not Stage.OPEN and not isinstance(exc, ProtocolError):
                return []
            if isinstance(exc, Woken) or not self._can_resume(exc):
                raise
            self._broken = exc  # resuming takes time
            return []

    def _events_ready(self, response: Response | BackgroundResponse) -> list[Event] | None:
        seen = 0
        while data := response.ready():
            self._timing.heard_at = monotonic()
            events = self._note(self.connection.decoder.feed(data))
            if events:
                # If the socket is empty, the next call waits instead of reading again.
                self._has_drained_socket = response.open and response.is_drained()
                return events
            self._call.clock.left()
            seen += len(data)
            if seen > _MOST_READ_IN_A_LOOP and response.can_be_waited_for():
                return None
        return None if response.open else []

    def watch(self, is_alive: Callable[[], bool]) -> tuple[int, float | None] | None:
        """Return what to wait for before the next `receive_ready`: a descriptor, and seconds.

        None means that only `receive` can wait. A watcher calls `unwatch` when it stops. Until
        then the descriptor stays open, as long as ``is_alive`` returns True. Raises `TimeoutError`
        if a timeout has expired.
        """
        left = self._call.clock.left()
        response = self.connection.response
        if self._state.is_over or self.read_ahead or response is None or not response.open:
            return None
        descriptor = self._watch.start(response, self._call.descriptor, is_alive)
        return None if descriptor is None else (descriptor, left)

    def unwatch(self) -> None:
        """Note that the descriptor is no longer watched."""
        self._watch.stop()

    def hold(self) -> None:
        """Stop the clock while the caller works."""
        self._call.clock.hold()

    def drain(self) -> list[Event]:
        """Read the rest of the body after the final event, briefly, to reuse the connection."""
        with self._lock:
            if self.read_ahead:
                return self._take_read_ahead()
            response = self.connection.response
            if response is None or self._drained is response:
                return []
            self._drained = response
            if self._transcript.malformed is not None:
                return []
            data = response.drain(_LATE_END)
            decoder = self.connection.decoder
            events = decoder.feed(data) if data else []
            events += decoder.end()
            self._transcript.add(events)
            return [event for event in events if type(event) is not Token]

    # For any thread

    @property
    def is_sent(self) -> bool:
        """Whether the server may have the prompt."""
        return self._state.is_sent(has_sent=self.connection.has_sent)

    @property
    def has_read_all(self) -> bool:
        """Whether the answer has ended, and the body of its response with it."""
        response = self.connection.response
        return self._transcript.final is not None and response is not None and response.has_all

    @property
    def is_waiting_for_user(self) -> bool:
        """Whether the stream has ended because of a tool's question that is not answered yet."""
        return (
            self._transcript.elicitation is not None
            and self._state.stage is Stage.OPEN
            and not self._elicitations.answered
            and self.connection.has_finished
        )

    def answer_elicitation(
        self, action: str, content: Mapping[str, object] | None, elicitation_id: str | None
    ) -> None:
        """Send the user's answer to a tool, and continue the stream if it has ended."""
        self._elicitations.answer(
            action, content, elicitation_id, has_finished=self.connection.has_finished
        )

    def look_ahead(self) -> None:
        """Read the bytes that have arrived: an answer that has ended must not be stopped.

        Reads at most as much as a socket can hold, because a server may send without end.
        """
        response = self.connection.response
        if response is None or self._transcript.ended or self._watch.is_watched:
            return
        if not self._state.is_at_work(has_sent=False) or not self._lock.acquire_if_free():
            return  # another thread is reading, and has seen all bytes
        try:
            seen = 0
            while not self._transcript.ended and seen < _MOST_LOOKED_AT:
                data = response.ready()
                if not data:
                    break
                seen += len(data)
                self.read_ahead += self._note(self.connection.decoder.feed(data))
            if response.finished:
                self._state.finish()
        except (H2oError, Woken):
            pass  # the next read, if any, raises it again
        finally:
            self._lock.release()

    def close(self) -> None:
        """Close the connection, even while another thread reads it. Idempotent."""
        if not self.connection.has_finished:
            self._call.wake()
        # Otherwise an event loop could watch a descriptor that another connection has got.
        self._watch.close(_RELEASED_WITHIN)
        is_free = self._lock.acquire_if_free()
        try:
            # If another thread is reading, it closes the connection when it wakes. The reading
            # thread may be the main thread, interrupted by a signal handler that called this.
            if is_free or self._lock.is_own or self.connection.background is not None:
                with suppress(RuntimeError):  # a signal handler interrupted this thread's own read
                    self.connection.leave()
        finally:
            if is_free:
                self._lock.release()

    def outcome(self, *, stopped_by: float | None) -> Outcome:
        """The facts about the answer that are needed to wait until it is stored."""
        has_sent = self.connection.has_sent
        state, transcript = self._state, self._transcript
        assert state.dialect is not None
        return Outcome(
            conversation_id=self._sending.conversation_id,
            dialect=state.dialect,
            answer_id=self._sending.answer_id,
            former_answer=self._sending.former_answer,
            response=self.connection.background,
            stopped_by=stopped_by,
            has_final=transcript.final is not None,
            is_interrupted=transcript.final is not None and bool(transcript.final.interrupted),
            has_failed=transcript.failure is not None,
            has_text=bool(transcript.characters),
            is_at_work=state.is_at_work(has_sent=has_sent),
            is_left_running=state.is_left_running(has_sent=has_sent),
            has_finished=self.connection.has_finished,
            is_one_shot=state.is_one_shot,
        )

    # One reader at a time

    def _leave_if_over(self) -> None:
        if self._state.is_over:  # the thread that ended the answer could not close it during a read
            self.connection.leave()

    def _take_read_ahead(self) -> list[Event]:
        events, self.read_ahead = self.read_ahead, []
        return events

    def _next_events(self) -> list[Event]:
        """Return the next events, from the current connection or a new one."""
        while (response := self.connection.response) is not None:
            broken, self._broken = self._broken, None
            if broken is None:
                try:
                    events = self._read(response) or self._continue()
                except (TransportError, ProtocolError) as exc:
                    if not self._can_resume(exc):
                        raise
                    broken = exc
                else:
                    if events or not self._can_resume(None):
                        return events
            events = self._resume_after(broken)
            is_over = self.resumption is not None and self.resumption.is_over
            if events or (is_over and self._state.second_try is not SecondTry.DUE):
                return events
        return []

    def _read(self, response: Response | BackgroundResponse) -> list[Event]:
        while True:
            data = response.read()
            if data:
                self._timing.heard_at = monotonic()
                events = self.connection.decoder.feed(data)
            else:
                # Drop half a character: the log contains the whole one.
                events = self.connection.decoder.end(whole=self.resumption is None)
                if response.finished:
                    self._state.finish()
            if events:
                events = self._note(events)
            if events or not data:
                return events

    def _can_resume(self, broken: H2oError | None) -> bool:
        return self.resumption is not None and self.resumption.can_resume(broken)

    def _resume_after(self, broken: H2oError | None) -> list[Event]:
        assert self.resumption is not None
        self._state.resume()
        self._has_drained_socket = False
        self._timing.bind_first_token()
        return self._note(self.resumption.resume_after(broken))

    def _continue(self) -> list[Event]:
        """Send another message and return its events: after an elicitation, or as a retry."""
        while (request := self._continuation()) is not None:
            dialect, resumption = self._state.dialect, self.resumption
            assert dialect is not None
            assert resumption is not None
            self._has_drained_socket = False
            self._transcript.finished = False  # it was set by the previous run
            self._to_skip = 0
            resumption.start_run()
            self.connection.send(request, dialect)
            response = self.connection.response
            if response is not None and (events := self._read(response)):
                return events
        return []

    def _continuation(self) -> Request | None:
        """The message that continues an answer whose response has ended, or None."""
        resumption, state = self.resumption, self._state
        if resumption is None or self._transcript.ended or state.stage is not Stage.OPEN:
            return None
        if state.second_try is SecondTry.DUE:
            finished = self.connection.has_finished or self._transcript.finished
            if not (finished or resumption.is_over):
                return None  # the log shows when the answer has ended
            log.info("an answer was stopped, but not by this client: retrying it once")
            request = resumption.run.retry()
            state.second_try = SecondTry.USED
            return request
        if not self._elicitations.answered:
            return None
        request = resumption.run.continuation(self._elicitations.answered)
        self._elicitations.take_answered()
        return request

    def _note(self, events: list[Event]) -> list[Event]:
        """Record the events, and return those that the caller has not received yet."""
        if not events:
            return events
        transcript = self._transcript
        characters = transcript.characters
        if not characters and self._needs_second_try(events):
            self._state.second_try = SecondTry.DUE
            events = without_stop(events)
        others = transcript.add(events)
        self.connection.decoder.text_bytes = transcript.text_bytes
        if self.resumption is not None and others:
            self.resumption.note(counted(others))
        if transcript.characters > characters:
            self._timing.note_text()
        elif any(map(_is_sign_of_life, others)):
            self._timing.note_life()
        if others and any(type(event) is Elicitation for event in others):
            self._timing.note_elicitation()
        return self._unskipped(events) if self._to_skip else events

    def _needs_second_try(self, events: list[Event]) -> bool:
        resumption = self.resumption
        if resumption is None or resumption.run.again is None or not resumption.retries:
            return False
        return self._state.needs_second_try(events)

    def _unskipped(self, events: list[Event]) -> list[Event]:
        """Return ``events`` without the text that the caller already has."""
        found: list[Event] = []
        for event in events:
            if type(event) is Token and not event.special and self._to_skip:
                text = event.text[self._to_skip :]
                self._to_skip -= len(event.text) - len(text)
                found += [Token(text)] if text else []
            else:
                found.append(event)
        return found


def _is_sign_of_life(event: Event) -> bool:
    """Whether an event shows that the model, a tool or a search makes progress.

    Statuses, titles and unknown events do not, because servers send them in any case.
    """
    if isinstance(event, Reasoning):
        return bool(event.text)
    return isinstance(event, Tool | WebSearch | File | Route | Elicitation)
