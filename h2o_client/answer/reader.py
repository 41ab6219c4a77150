"""One answer's bytes to events: waiting for them (`receive`) or not (`receive_ready`).

Comes from `AnswerConnection`, which opens what is read, and goes to `AnswerSteps`, which the faces
iterate. A connection that breaks is replaced by `Resumption`, where the server keeps a log.
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
_MOST_READ_IN_A_LOOP = 1 << 16  # bytes that say nothing, before an event loop turns to others
_LATE_END = 0.1  # seconds that the end of a body is waited for once all has been said
_RELEASED_WITHIN = 1.0  # seconds that closing waits for an event loop that watches the socket


class Sending(msgspec.Struct, frozen=True, kw_only=True):
    """What an answer starts with: all that was decided before its first byte.

    ``request`` is its message; None for an answer that another process has requested, whose
    ``run`` is read from its log: from the beginning, less ``position`` characters that the caller
    has. ``is_over`` says that this one has ended. ``run`` is None where the server keeps no log.
    ``answer_id`` is the answer's where the client chooses it, ``former_answer`` the last one's
    before, where that was read. ``steps`` and ``sources`` are those of a web search before.
    ``said_for_nothing`` is what the final answer says where the model has said nothing, if that is
    anything.
    """

    conversation_id: str
    dialect: Dialect
    request: Request | None
    run: Run | None = None
    answer_id: str | None = None
    former_answer: str | None = None
    steps: tuple[WebSearch, ...] = ()
    sources: tuple[Source, ...] = ()
    said_for_nothing: str | None = None
    position: int = 0
    is_over: bool = False

    def __repr__(self) -> str:
        return "<Sending>"  # a prompt is in it


class AnswerReader:
    """Sends the prompt and reads its answer, over as many connections as that takes."""

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
        # What was read and not handed over yet.
        self.read_ahead: list[Event] = list(sending.steps)
        self._sending = sending
        self._call = connection.call
        self._state = state
        self._transcript = state.transcript
        self._timing = timing
        self._elicitations = elicitations
        self._watch = Watch()
        # Guards the response, its decoder, the transcript, `read_ahead`, and all below: whoever
        # reads holds it. `let_go` wakes the reader before it closes the response, and leaves that
        # to a reader that still holds this.
        self._lock = ReaderLock()
        self._to_skip = sending.position  # characters that the caller has
        self._broken: H2oError | None = None  # left by `receive_ready` to the next `receive`
        self._drained: Response | BackgroundResponse | None = None
        self._has_drained_socket = False  # the last read has left nothing there

    # For the thread that iterates

    def start(self) -> None:
        """Send the prompt, or open the log of an answer that another process has requested.

        Returns when the head of the response is there, or the answer was stopped. Raises as
        `AnswerConnection.send`.
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
        """Wait for the next events; an empty list at the end. Raises what fails."""
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
        # What the caller did since the last token is no silence of the server's.
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

        An empty list means the end, or that only `receive` can get more.
        Raises `TimeoutError` if the time is over in a flood that says nothing.
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
                # What comes next will wake whoever waits: it need not be looked for now.
                self._has_drained_socket = response.open and response.is_drained()
                return events
            self._call.clock.left()
            seen += len(data)
            if seen > _MOST_READ_IN_A_LOOP and response.can_be_waited_for():
                return None
        return None if response.open else []

    def watch(self, is_alive: Callable[[], bool]) -> tuple[int, float | None] | None:
        """Return what to wait for before the next `receive_ready`: a descriptor, and how long.

        None where only `receive` can wait. Whoever watches calls `unwatch` when it stops: until
        then the descriptor stays open, as long as the watcher ``is_alive``. Raises `TimeoutError`
        if the time is over already.
        """
        left = self._call.clock.left()
        response = self.connection.response
        if self._state.is_over or self.read_ahead or response is None or not response.open:
            return None
        descriptor = self._watch.start(response, self._call.descriptor, is_alive)
        return None if descriptor is None else (descriptor, left)

    def unwatch(self) -> None:
        """The descriptor is not watched any more."""
        self._watch.stop()

    def hold(self) -> None:
        """The caller is at work: the server is not waited for."""
        self._call.clock.hold()

    def drain(self) -> list[Event]:
        """Read what follows the last event, if it comes at once, so as to keep the connection."""
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
    def is_waiting_for_user(self) -> bool:
        """Whether the stream has ended because a tool asks the user, who has not answered."""
        return (
            self._transcript.elicitation is not None
            and self._state.stage is Stage.OPEN
            and not self._elicitations.answered
            and self.connection.has_finished
        )

    def answer_elicitation(
        self, action: str, content: Mapping[str, object] | None, elicitation_id: str | None
    ) -> None:
        """Send the user's answer to a tool. A stream that has ended meanwhile is continued."""
        self._elicitations.answer(
            action, content, elicitation_id, has_finished=self.connection.has_finished
        )

    def look_ahead(self) -> None:
        """Read what is here already: an answer that has ended must not be stopped any more.

        As much of it as a socket can hold: a server that floods would have no end.
        """
        response = self.connection.response
        if response is None or self._transcript.ended or self._watch.is_watched:
            return
        if not self._state.is_at_work(has_sent=False) or not self._lock.take_if_free():
            return  # a reader is at it, and has seen all there is
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
            pass  # whoever reads next meets it again, or nobody does
        finally:
            self._lock.give_back()

    def let_go(self) -> None:
        """Give the connection up, whoever reads it. Idempotent."""
        if not self.connection.has_finished:
            self._call.wake()
        # An event loop that watches a descriptor must not find another connection behind it.
        self._watch.close(_RELEASED_WITHIN)
        is_free = self._lock.take_if_free()
        try:
            # A reader closes it when it has woken: it may be the main thread, which cannot wake
            # before its signal handler, which waits for this, has returned.
            if is_free or self._lock.is_own or self.connection.background is not None:
                with suppress(RuntimeError):  # a handler interrupts a read of this thread's own
                    self.connection.leave()
        finally:
            if is_free:
                self._lock.give_back()

    def outcome(self, *, stopped_at: float | None) -> Outcome:
        """What is known of the answer, for whoever waits until it is stored."""
        has_sent = self.connection.has_sent
        state, transcript = self._state, self._transcript
        assert state.dialect is not None
        return Outcome(
            conversation_id=self._sending.conversation_id,
            dialect=state.dialect,
            answer_id=self._sending.answer_id,
            former_answer=self._sending.former_answer,
            response=self.connection.background,
            stopped_at=stopped_at,
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
        if self._state.is_over:  # whoever ended it could not close it while it was read
            self.connection.leave()

    def _take_read_ahead(self) -> list[Event]:
        events, self.read_ahead = self.read_ahead, []
        return events

    def _next_events(self) -> list[Event]:
        """The next events, from whichever connection they come."""
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
                # Half a character is not handed over: the log has the whole of it.
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
        """What follows another message: after an elicitation was answered, or as a second try."""
        while (request := self._continuation()) is not None:
            dialect, resumption = self._state.dialect, self.resumption
            assert dialect is not None
            assert resumption is not None
            self._has_drained_socket = False
            self._transcript.finished = False  # that was the run before
            self._to_skip = 0
            resumption.start_run()
            self.connection.send(request, dialect)
            response = self.connection.response
            if response is not None and (events := self._read(response)):
                return events
        return []

    def _continuation(self) -> Request | None:
        """The message that continues an answer whose response has ended, if there is one."""
        resumption, state = self.resumption, self._state
        if resumption is None or self._transcript.ended or state.stage is not Stage.OPEN:
            return None
        if state.second_try is SecondTry.DUE:
            finished = self.connection.has_finished or self._transcript.finished
            if not (finished or resumption.is_over):
                return None  # its log tells when it has ended
            log.info("an answer ended as stopped, and not by us: it is requested once more")
            request = resumption.run.retry()
            state.second_try = SecondTry.USED
            return request
        if not self._elicitations.answered:
            return None
        request = resumption.run.continuation(self._elicitations.answered)
        self._elicitations.take_answered()
        return request

    def _note(self, events: list[Event]) -> list[Event]:
        """Take note of what came; return what the caller has not had."""
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
        """``events`` without the text that the caller has."""
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
    """Whether an event shows that the model, a tool or a search is at work.

    What servers send in any case does not: statuses, titles, and what is unknown.
    """
    if isinstance(event, Reasoning):
        return bool(event.text)
    return isinstance(event, Tool | WebSearch | File | Route | Elicitation)
