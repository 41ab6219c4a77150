"""One answer being streamed, from the prompt sent to everything cleaned up."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import dataclass

from h2o_client.background import begun, completed, later
from h2o_client.errors import (
    ConfigurationError,
    GenerationError,
    H2oError,
    IncompleteAnswerError,
    ProtocolError,
    StatusError,
    TransportError,
)
from h2o_client.litter import CLEAN_UP
from h2o_client.timeouts import Timeouts
from h2o_client.transport import Call, Response, Woken
from h2o_client.upstream import Upstream
from h2o_client.wire.decoder import Decoder
from h2o_client.wire.events import Event, Final, Malformed, Source, Status, Token
from h2o_client.wire.refusal import login_wall
from h2o_client.wire.request import Request
from h2o_client.wire.transcript import Transcript

_LAST_WORDS = 1.5  # seconds that what still comes after a stop is waited for
_LATE_END = 0.1  # seconds that the end of a body is waited for once all has been said


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A whole answer. ``finish_reason`` is "stop", "length" where known, or "stopped" by a stop."""

    text: str
    finish_reason: str
    model: str
    conversation_id: str
    message_id: str | None = None
    title: str | None = None
    sources: tuple[Source, ...] = ()
    files: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.text


class Exchange:
    """One prompt at the server: sending it, reading what comes, and leaving nothing behind.

    It is apart from `Reply` so that it can be ended when nobody holds the reply any more.
    """

    def __init__(
        self,
        upstream: Upstream,
        *,
        timeouts: Timeouts,
        ours: bool,
        on_end: Callable[[Exchange], None],
    ) -> None:
        self.call = Call(timeouts)
        self.conversation_id = ""
        self.transcript = Transcript()
        self.stopping = False
        self.sent_at = 0.0
        self.first_token_at: float | None = None
        # Whether the model may be at work on the prompt: if so, an early end has to stop it.
        self.running = False
        self.afterwards: Callable[[], None] | None = None
        self._upstream = upstream
        self._litter = upstream.litter
        self._timeouts = timeouts
        self._ours = ours
        self._on_end = on_end
        self._decoder = Decoder()
        self._asked = False
        self._response: Response | None = None
        self._early: list[Event] = []  # read while looking for the end, not handed over yet
        self._reading = threading.Lock()
        self._ending = threading.Lock()
        self._ended = False
        self._cleaned = threading.Event()
        self._drained = False
        self._last_words: threading.Timer | None = None
        self._stop_sent: threading.Event | None = None  # set when the stop is through
        upstream.live.add(self)

    @property
    def over(self) -> bool:
        """Whether all is cleaned up."""
        return self._cleaned.is_set()

    def send(self, request: Request) -> None:
        """Posts the prompt; returns when the head of the answer is here, or the stop asked for."""
        self.sent_at = time.monotonic()
        self._asked = True
        try:
            self._response = self._upstream.open(request, self.call)
        except StatusError:
            raise
        except BaseException as exc:
            self.running = self._sent
            # A server that is stopped before the first token hangs up without an answer.
            if not (self.stopping and isinstance(exc, Woken | TransportError)):
                raise
        else:
            self.running = True
        finally:
            self.call.clock.hold()

    def receive(self) -> list[Event]:
        """The next events, as soon as there are any; none at the end. Raises what fails."""
        with self._reading:
            if self._early:
                events, self._early = self._early, []
                return events
            if self._response is None or self._ended:
                return []
            if self.first_token_at is not None:
                # What the caller did since the last token is no silence of the server's.
                self.call.clock.renew()
            self.call.clock.go()
            try:
                return self._read(self._response)
            except (Woken, TransportError):
                if self.stopping:
                    return []
                raise
            finally:
                self.call.clock.hold()

    def drain(self) -> list[Event]:
        """What follows the last event, if it comes at once: the connection can then be kept."""
        with self._reading:
            if self._early:
                events, self._early = self._early, []
                return events
            if self._response is None or self._drained:
                return []
            self._drained = True
            if self.transcript.malformed is not None:
                return []
            data = self._response.drain(_LATE_END)
            events = self._decoder.feed(data) if data else []
            events += self._decoder.end()
            self.transcript.add(events)
            return [event for event in events if type(event) is not Token]

    def stop(self) -> None:
        """Asks the server, once, to stop; what still comes is handed over for a short time."""
        with self._ending:
            if self._ended or self.stopping:
                return
            self._look()
            if self.transcript.ended:
                return
            self.stopping = True
            if not self._sent:
                self.call.wake()
                return
            self._stop_sent = threading.Event()
            self._last_words = threading.Timer(_LAST_WORDS, self.call.wake)
            self._last_words.daemon = True
            self._last_words.start()
            begun(self._send_stop, pending=self._litter.ending)

    def end(self, *, wait: bool = True) -> None:
        """Lets the connection go, stops what runs, deletes what is ours. Idempotent, bounded.

        If another thread is at it, waits until it is done.
        """
        if not self._hang_up():
            if wait:
                self._cleaned.wait(CLEAN_UP + 1)
            return
        try:
            if self.conversation_id and (self._must_stop() or self._stop_sent or self._ours):
                completed(self._tidy, pending=self._litter.ending)
        finally:
            self._on_end(self)
            self._cleaned.set()
            self._litter.ending.discard(self)
            self._upstream.live.discard(self)
            if self.afterwards is not None:
                self.afterwards()

    def end_later(self) -> None:
        """As `end`, for a reply that nobody holds any more; the garbage collector may call."""
        if not self._ended:
            self._litter.ending.add(self)
            later(self.end)

    def is_ending(self) -> bool:
        """Whether somebody is cleaning up, or will."""
        return self._ended or self in self._litter.ending

    def wait_until_over(self) -> None:
        """Waits, for a bounded time, while somebody else is cleaning up."""
        self._cleaned.wait(CLEAN_UP + 1)

    def forget(self) -> None:
        """This is a forked child, and the exchange its parent's."""
        self._ended = True
        self._cleaned.set()

    def blame(self, exc: BaseException) -> None:
        """Puts the facts of this exchange on an error that ends it."""
        if isinstance(exc, H2oError):
            exc.partial = self.transcript.text
            exc.conversation_id = self.conversation_id or None
            if not isinstance(exc, ConfigurationError):
                exc.resendable = not self._sent or _is_refusal(exc)

    @property
    def _sent(self) -> bool:
        """Whether the server may have got the prompt: the call made other requests before."""
        return self._asked and self.call.sent

    def _read(self, response: Response) -> list[Event]:
        while True:
            data = response.read()
            events = self._decoder.feed(data) if data else self._decoder.end()
            if events:
                self._note(events)
            if not data:
                self.running = self.running and not response.finished
            if events or not data:
                return events

    def _note(self, events: list[Event]) -> None:
        self.transcript.add(events)
        self._decoder.text_bytes = self.transcript.text_bytes
        if self.first_token_at is None:
            if any(type(event) is Token for event in events):
                self.first_token_at = time.monotonic()
                self.call.clock.allow("idle", self._timeouts.idle)
        elif any(not _is_keep_alive(event) for event in events):
            self.call.clock.renew()

    def _look(self) -> None:
        """Takes what is here already: an answer that has ended must not be stopped any more."""
        if self._response is None or not self.running or self.transcript.ended:
            return
        if not self._reading.acquire(blocking=False):
            return  # a reader is at it, and has seen all there is
        try:
            while not self.transcript.ended and (data := self._response.ready()):
                events = self._decoder.feed(data)
                self._note(events)
                self._early += events
            self.running = self.running and not self._response.finished
        except (H2oError, Woken):
            pass  # whoever reads next meets it again, or nobody does
        finally:
            self._reading.release()

    def _hang_up(self) -> bool:
        """Ends the reading, whoever does it. False if it was ended before."""
        with self._ending:
            if self._ended:
                return False
            if not self.stopping:
                self._look()
            self.stopping = self._ended = True
            if self._last_words is not None:
                self._last_words.cancel()
        if self._response is None or not self._response.finished:
            self.call.wake()
        if self._response is not None:
            self._response.close()
        return True

    def _must_stop(self) -> bool:
        return self.running and self._stop_sent is None and not self.transcript.ended

    def _send_stop(self) -> None:
        assert self._stop_sent is not None
        try:
            self._litter.stop(self.conversation_id)
        finally:
            self._stop_sent.set()

    def _tidy(self) -> None:
        end = time.monotonic() + CLEAN_UP
        if self._must_stop():
            self._litter.stop(self.conversation_id)
        elif self._stop_sent is not None:
            self._stop_sent.wait(CLEAN_UP)
        if self._ours:
            self._litter.discard(self.conversation_id, seconds=end - time.monotonic())


def _raise_for_end(transcript: Transcript) -> None:
    """Raises what an answer's end amounts to, unless it is a good one."""
    failure, line = transcript.failure, transcript.malformed
    if failure is not None and failure.error_type == "redirect":
        raise login_wall(200, failure.message)
    if failure is not None:
        raise GenerationError(failure.message, error_type=failure.error_type, status=failure.status)
    if line is not None and transcript.final is None:
        raise ProtocolError(f"line {line.line} of the answer ({line.reason})", line.excerpt)
    if transcript.final is None:
        raise IncompleteAnswerError


def _is_refusal(exc: H2oError) -> bool:
    """Whether the server said no to a prompt, so that it was not taken."""
    return isinstance(exc, StatusError) and (exc.status < 500 or exc.origin == "model")


def _reason_of(exc: BaseException) -> str:
    if isinstance(exc, IncompleteAnswerError):
        return "incomplete"
    return "error" if isinstance(exc, H2oError) else "stopped"


def _is_keep_alive(event: Event) -> bool:
    return isinstance(event, Status) and event.status == "keepAlive"


class Reply:
    """An answer as it comes: iterate for its text, or over `events` for everything.

    Leaving the iteration early is fine: the server is told to stop, and a conversation made for
    this answer is deleted, at once when the reply is closed (``with``) or dropped. One thread
    iterates; `stop`, `close` and the attributes may be used from others.
    """

    def __init__(self, exchange: Exchange, *, model: str, message_id: str | None) -> None:
        self.model = model
        self.message_id = message_id
        self.answer: Answer | None = None
        self.finish_reason: str | None = None
        self._exchange = exchange
        self._batch: Iterator[Event] = iter(())
        self._over = False
        self._error: H2oError | None = None
        self._abandoned = weakref.finalize(self, exchange.end_later)

    @property
    def text(self) -> str:
        """All text received so far."""
        return self._exchange.transcript.text

    @property
    def title(self) -> str | None:
        """The conversation's title, where the server sends one with the answer."""
        return self._exchange.transcript.title

    @property
    def conversation_id(self) -> str:
        """The id of the conversation the answer is given in."""
        return self._exchange.conversation_id

    @property
    def time_to_first_token(self) -> float | None:
        """Seconds from the prompt's sending to the first token; None until it came."""
        first = self._exchange.first_token_at
        return None if first is None else first - self._exchange.sent_at

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        while True:
            for event in self._batch:
                if type(event) is Token and event.text and not event.special:
                    return event.text
            if not self._advance():
                raise StopIteration

    def events(self) -> Iterator[Event | Answer]:
        """Everything the server says, as it comes; the last event is the `Answer`.

        Events that were taken by iterating the text do not come again.
        """
        while True:
            for event in self._batch:
                if not isinstance(event, Final | Malformed):
                    yield event
            if not self._advance():
                break
        if self.answer is not None:
            yield self.answer

    def read(self) -> Answer:
        """Waits for the whole answer. Raises what broke it off, with ``.partial``."""
        for _ in self:
            pass
        if self._error is not None:
            raise self._error
        assert self.answer is not None
        return self.answer

    def stop(self) -> None:
        """Ends the answer where it is, from any thread; the iteration then ends without an error.

        The server is asked once to stop; what it still sends is handed over for 1.5 s at most.
        Returns at once.
        """
        self._exchange.stop()

    def close(self) -> None:
        """Lets everything go: the connection, the model's work, a conversation made for this."""
        self._exchange.end()

    def _when_ended(self, afterwards: Callable[[], None]) -> None:
        """Has ``afterwards`` called when all is cleaned up."""
        self._exchange.afterwards = afterwards

    def __enter__(self) -> Reply:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = self.finish_reason or "unfinished"
        return f"<Reply {state}, {len(self.text)} characters>"

    def __reduce__(self) -> str:
        raise TypeError("a Reply cannot be pickled: it holds a connection")

    def _advance(self) -> bool:
        """Gets the next batch of events; False when there will be none. Raises what went wrong."""
        if self._over:
            return False
        transcript = self._exchange.transcript
        try:
            if transcript.ended or transcript.malformed is not None:
                events = self._exchange.drain()
            else:
                events = self._exchange.receive()
            if not events:
                self._conclude()
                return False
        except BaseException as exc:
            self._fail(exc)
            raise
        self._batch = iter(events)
        return True

    def _conclude(self) -> None:
        """The stream has ended: with an answer, or with the error it amounts to."""
        transcript = self._exchange.transcript
        if not self._exchange.stopping:
            _raise_for_end(transcript)
        self._over = True
        self.finish_reason = "stopped"
        if transcript.final is not None and not transcript.final.interrupted:
            self.finish_reason = transcript.final.finish_reason
        self.answer = Answer(
            text=transcript.text,
            finish_reason=self.finish_reason,
            model=self.model,
            conversation_id=self.conversation_id,
            message_id=self.message_id,
            title=transcript.title,
            sources=transcript.sources,
        )
        # Not waiting for another thread that closes this: it may wait for us to go.
        self._exchange.end(wait=False)

    def _fail(self, exc: BaseException) -> None:
        if not self._over:
            self._over = True
            self.finish_reason = _reason_of(exc)
            if isinstance(exc, H2oError):
                self._exchange.blame(exc)
                # A copy, for the traceback of this one would keep the reply alive.
                self._error = copy(exc)
        self._exchange.end(wait=False)
