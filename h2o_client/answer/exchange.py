"""One prompt at the server, from sent to cleaned up: the part of a reply that must come to its end.

It is apart from `Reply` so that it can be ended when nobody holds the reply any more.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial

from h2o_client.answer.resume import GATEWAY_FAILED, Resumption
from h2o_client.backend.backend import Backend
from h2o_client.backend.background import run_detached, run_in_background, run_shielded
from h2o_client.backend.background_reader import BackgroundResponse
from h2o_client.backend.cleanup import CLEAN_UP
from h2o_client.dialects.dialect import Dialect
from h2o_client.dialects.documents import Stored
from h2o_client.errors import (
    ConfigurationError,
    ElicitationClosedError,
    H2oError,
    IncompleteAnswerError,
    ProtocolError,
    RateLimitError,
    ServerError,
    StatusError,
    TransportError,
    TransportTimeout,
)
from h2o_client.log import log
from h2o_client.messages import Message
from h2o_client.timeouts import Timeouts, monotonic
from h2o_client.transport.call import Call, Woken
from h2o_client.transport.locks import Guard, ReaderLock
from h2o_client.transport.response import Response
from h2o_client.wire.decoder import Decoder
from h2o_client.wire.events import (
    Elicitation,
    Event,
    File,
    Reasoning,
    Route,
    Token,
    Tool,
    WebSearch,
)
from h2o_client.wire.overlap import counted
from h2o_client.wire.request import Request
from h2o_client.wire.runlog import RunLog
from h2o_client.wire.transcript import Transcript, without_stop

_LAST_WORDS = 1.5  # seconds that what still comes after a stop is waited for
_MOST_LOOKED_AT = 1 << 20  # bytes
_MOST_READ_IN_A_LOOP = 1 << 16  # bytes that say nothing, before an event loop sees to others
_LETS_GO_WITHIN = 1.0  # seconds that a closing connection waits for who watches it
_TAKEN_WITHIN = 0.3  # seconds that a stop gives the message, so as not to overtake it
_LOG_WITHIN = 5.0  # seconds until a log begins, which has nothing to wait for
_NOTICED_WITHIN = 130.0  # seconds, at least, in which a server that was killed is missed
_READ_BACK_WITHIN = 2.0  # seconds
_STOP_WITHIN = 2.5  # seconds that a stop which another thread has sent is waited for
_LATE_END = 0.1  # seconds that the end of a body is waited for once all has been said
_READ_ON_WITHIN = 600.0  # seconds in which an answer that was given up ends on the server
_TITLED_WITHIN = 10.0  # seconds in which a title comes that is slower than its answer


class Exchange:
    """Sends one prompt, reads what comes, and leaves nothing behind.

    Who begins it sets ``dialect`` before it sends; ``learned`` tells the answer's id once it is
    stored, ``stored`` what the conversation then is.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        timeouts: Timeouts,
        ours: bool,
        kept: bool,
        is_first: bool,
        on_end: Callable[[Exchange], None],
        on_title: Callable[[str], None],
    ) -> None:
        self.call: Call = Call(timeouts)
        self.call.waits_within = "first_token"
        self.conversation_id: str = ""
        self.answer_id: str | None = None  # where the client chooses it
        self.former_answer: str | None = None  # the last one before, where that was read
        self.dialect: Dialect | None = None
        self.resumption: Resumption | None = None  # where the server keeps runs
        self.stored: Callable[[Exchange, Call], Stored] | None = None
        self.resumed_from: int = 0  # characters that another process has had
        self.passed_over: int = 0  # characters at the beginning that the caller has had before
        self.learned: Callable[[], str | None] | None = None
        self.transcript: Transcript = Transcript()
        self.stopping: bool = False
        self.sent_at: float = 0.0
        self.first_token_at: float | None = None
        # Whether the model may be at work on the prompt: if so, an early end has to stop it.
        self.running: bool = False
        self._posted_at = 0.0  # the last message of this answer
        self.stopped_at: float | None = None
        self.afterwards: Callable[[], None] | None = None
        self._backend = backend
        self._cleanup = backend.cleanup
        self._timeouts = timeouts
        self.ours = ours
        self._handed_over = False
        self._kept = kept
        self._is_first = is_first
        self._on_end = on_end
        self._on_title = on_title
        self._decoder: Decoder | RunLog = Decoder()
        self._sending = self._delivered = False
        self._left_running = False
        self._may_run = True  # unless it is known that the answer had ended
        self._idle = timeouts.idle
        self._broken: H2oError | None = None  # to be seen to by who reads next
        self._heard_at = 0.0
        self.awaits_first: bool = True  # token, of each message
        self._taken = threading.Event()  # set when the message has an answer
        self._response: Response | BackgroundResponse | None = None
        # The same, from before its head on, where it outlives its caller's interest.
        self.background: BackgroundResponse | None = None
        self._early: list[Event] = []  # read while looking for the end, not handed over yet
        self._reading = ReaderLock()
        self._ending = Guard()
        self._ended = False
        self._cleaner = 0  # the thread that cleans up, once one does
        self._tidied = False  # or under way
        self._cleaned = threading.Event()
        self._watched = False
        self._watcher_is_alive: Callable[[], bool] = bool
        self._unwatched = threading.Event()  # set only for who waits for it
        self._drained = False
        self._drained_socket = False
        self._descriptor: int | None = None
        self._last_words: threading.Timer | None = None
        self._stop_sent: threading.Event | None = None  # set when the stop is through
        self._resumption = ""  # the elicitation that was answered, if a message has to say so
        self._may_be_answered: set[str] = set()  # elicitations; the network failed
        # An answer that somebody else's stop has ended before its first word is asked for once
        # more: a late stop's mark, which that has used up.
        self._asks_once_more = self._has_asked_once_more = False
        backend.add(self)

    @property
    def over(self) -> bool:
        """Whether all is cleaned up."""
        return self._cleaned.is_set()

    @property
    def read_to_its_end(self) -> bool:
        """Whether the response has ended as it should: the server has then stored the answer."""
        return self._response is not None and self._response.finished

    @property
    def at_work(self) -> bool:
        """Whether the model may be: also while another thread sends the prompt."""
        return self.running or (self._sending and self._sender.sent)

    @property
    def _sender(self) -> Call:
        """The call that sends the prompt."""
        return self.call if self.background is None else self.background.call

    @property
    def waiting(self) -> bool:
        """Whether the stream has ended because a tool asks the user, who has not answered."""
        return (
            self.transcript.elicitation is not None
            and not self.stopping
            and not self._resumption
            and self.read_to_its_end
        )

    def leave_running(self) -> None:
        """The model is not stopped when this ends: the answer is for another reader."""
        self._left_running = True

    def hand_over(self) -> None:
        """The conversation is another's to delete, who looks into it after a break.

        Then the model is left at work, and what is stored is not read here.
        """
        self._handed_over = True
        self.stored = None
        self._cleanup.release(self.conversation_id)

    @property
    def left_running(self) -> bool:
        """Whether the model is left at work, since the conversation is kept, and can be stopped."""
        can_be = self.dialect is not None and self.dialect.stops
        return self._left_running and self.at_work and can_be

    @property
    def looked_at(self) -> list[Event]:
        """What was read and not handed over yet."""
        return self._early

    @property
    def is_foreign(self) -> bool:
        """Whether the answer came in another dialect's language: the server was upgraded."""
        dialect = self.dialect
        return dialect is not None and not dialect.answers_in_lines and self.transcript.has_updates

    def begin_in(self, conversation_id: str) -> None:
        """The prompt goes into that conversation. Raises `Woken` if this was ended meanwhile."""
        with self._ending:
            self.conversation_id = conversation_id
            ended = self._ended
        if ended:
            if self.ours:
                discard = partial(self._cleanup.discard, conversation_id)
                run_shielded(discard, pending=self._cleanup.ending)
            raise Woken

    def begin_with(self, events: Sequence[Event]) -> None:
        """What is told of the answer before its first byte."""
        self._early = list(events)

    def send(self, request: Request) -> None:
        """Posts the prompt; returns when the head of the answer is here, or the stop asked for."""
        self.sent_at = self._heard_at = monotonic()
        try:
            self._open(request)
        except (TransportError, ProtocolError, ServerError) as exc:
            if not self._sent or not self._can_go_on(exc):
                raise
            self._early = self._resumed_after(exc)
        finally:
            self.call.clock.hold()

    def take_up(self, *, may_run: bool) -> None:
        """Reads an answer that another process has asked for, from its log."""
        assert self.resumption is not None
        self._delivered = True
        self._may_run = self.running = may_run
        self.sent_at = monotonic()
        self._taken.set()
        try:
            self.resumption.begin()
        finally:
            self.call.clock.hold()

    def reopen(
        self,
        request: Request,
        decoder: Decoder | RunLog,
        *,
        is_message: bool = False,
        goes_on: bool = False,
    ) -> None:
        """Reads on in the answer to ``request``: the log of a run, or its message once more.

        Where the silence before ``goes_on``, it counts on.
        """
        spent = self.call.clock.spent if goes_on else 0.0
        self._decoder = decoder
        self._drained = False
        self.call.at_most = None if is_message else _LOG_WITHIN
        try:
            self._open(request, is_message=is_message)
        finally:
            self.call.at_most = None
        if not is_message:
            self._allow_for_log(spent)

    def _allow_for_log(self, spent: float) -> None:
        # A log is written by others than who makes the answer: that somebody was killed is noticed
        # within two minutes, and told by the log's end.
        idle = self._timeouts.idle
        self._idle = max(idle, _NOTICED_WITHIN) if idle is not None and idle >= 60 else idle
        if self.awaits_first:
            self.call.clock.allow("first_token", self._timeouts.first_token)
        else:
            self.call.clock.allow("idle", self._idle, spent=spent)
        if self.transcript.elicitation is not None:
            self._allow_for_elicitation()

    def pause(self, seconds: float) -> None:
        """Waits. Raises `TransportTimeout` if the time is over, `Woken` if this was ended."""
        with self._backend.transport.translating(self.call):
            self.call.pause(seconds)

    def silent_for(self) -> float:
        """Seconds in which this connection was read and brought nothing."""
        return self.call.clock.silent_for

    def is_within_idle(self) -> bool:
        """Whether the answer, over all connections, has not been silent for too long yet."""
        idle = self._timeouts.first_token if self.awaits_first else self._timeouts.idle
        return idle is None or monotonic() - self._heard_at < idle

    def receive(self) -> list[Event]:
        """The next events, as soon as there are any; none at the end. Raises what fails."""
        try:
            return self._receive()
        finally:
            if self._ended:
                self._let_go_of_response()  # whoever ended this could not, while it was read

    def _receive(self) -> list[Event]:
        with self._reading:
            if self._early:
                events, self._early = self._early, []
                return events
            if self._response is None or self._ended:
                return []
            # What the caller did since the last token is no silence of the server's.
            self.call.clock.go()
            try:
                return self._received()
            except (Woken, TransportError):
                if self.stopping:
                    return []
                raise
            finally:
                self.call.clock.hold()

    def receive_ready(self) -> list[Event] | None:
        """As `receive`, without waiting: None if nothing is here just now; no events at the end.

        Raises `TimeoutError` if the time is over in a flood that says nothing.
        """
        try:
            return self._receive_ready()
        finally:
            if self._ended:
                self._let_go_of_response()

    def _receive_ready(self) -> list[Event] | None:
        with self._reading:
            self.call.clock.go()
            if self._early:
                events, self._early = self._early, []
                return events
            response = self._response
            if response is None or self._ended or self._broken is not None:
                return []
            try:
                if self._drained_socket:
                    self._drained_socket = False
                    return None
                seen = 0
                while data := response.ready():
                    self._heard_at = monotonic()
                    events = self._note(self._decoder.feed(data))
                    if events:
                        # What comes next will wake who waits: it need not be looked for now.
                        self._drained_socket = response.open and response.is_drained()
                        return events
                    self.call.clock.left()
                    seen += len(data)
                    if seen > _MOST_READ_IN_A_LOOP and response.can_be_waited_for():
                        return None
                return None if response.open else []
            except (Woken, TransportError, ProtocolError) as exc:
                if self.stopping and not isinstance(exc, ProtocolError):
                    return []
                if isinstance(exc, Woken) or not self._can_go_on(exc):
                    raise
                self._broken = exc  # `receive` sees to it: that takes time
                return []

    def watch(self, is_alive: Callable[[], bool]) -> tuple[int, float | None] | None:
        """What to wait for until there is more to `receive_ready`: a descriptor, and how long.

        None where only `receive` can wait. Whoever watches calls `unwatch` when it does not any
        more: until then the descriptor stays open, if the watcher ``is_alive``. Raises
        `TimeoutError` if the time is over already.
        """
        left = self.call.clock.left()
        with self._ending:
            if self._ended or self._early or self._response is None or not self._response.open:
                return None
            if self._descriptor is None:
                self._descriptor = self.call.descriptor()
                if self._descriptor is None:
                    return None
            self._watched, self._watcher_is_alive = True, is_alive
            return self._descriptor, left

    def unwatch(self) -> None:
        """The descriptor is not watched any more."""
        self._watched = False
        if self._ended:
            self._unwatched.set()

    def hold(self) -> None:
        """The caller is at work: the server is not waited for."""
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
            if self._response is not None and not self.running and not self._asks_once_more:
                return  # the stream is over: nothing is left to be stopped
            stops = self.dialect is not None and self.dialect.stops
            ended = self.transcript.finished or self._asks_once_more
            if not self._sent or not stops or ended:
                self.call.wake()
                return
            self._stop_sent = threading.Event()
            self._last_words = threading.Timer(_LAST_WORDS, self._last_words_over)
            self._last_words.daemon = True
        try:
            self._last_words.start()
        except RuntimeError:  # no thread can be started, so no timer would end the reading
            self.call.wake()
        run_in_background(self._send_stop, pending=self._cleanup.ending)

    def stop_at_once(self) -> bool:
        """Has the server stop what runs, if it does and can; returns when it has answered."""
        if not self._must_stop():
            return False
        self._stop_sent = threading.Event()
        self._send_stop()
        return True

    def answer_elicitation(
        self, action: str, content: Mapping[str, object] | None, elicitation_id: str | None
    ) -> None:
        """Gives the user's answer; a stream that has ended meanwhile goes on after it."""
        waiting = self.transcript.elicitation
        asked = elicitation_id or (waiting.id if waiting is not None else None)
        if asked is None:
            raise ConfigurationError("Nothing has been asked: there is no Elicitation to answer.")
        assert self.dialect is not None
        ask = self.dialect.answer_elicitation(self.conversation_id, asked, action, content)
        try:
            if self._backend.api.fetch(ask, Call(self._timeouts)):
                self._resumption = asked
        except TransportError:
            self._may_be_answered.add(asked)
            raise
        except ElicitationClosedError:
            # By an attempt of ours whose response was lost; or else in another tab.
            if asked not in self._may_be_answered:
                self._close_elicitation(asked)
                raise
            self._resumption = asked if self.read_to_its_end else ""
        self._close_elicitation(asked)

    def _close_elicitation(self, elicitation_id: str) -> None:
        waiting = self.transcript.elicitation
        if waiting is not None and waiting.id == elicitation_id:
            self.transcript.elicitation = None

    def end(self, *, wait: bool = True, until: float | None = None) -> None:
        """Lets the connection go, stops what runs, deletes what is ours. Idempotent.

        All that has to be done ``until`` then, or within five seconds. If another thread is at it,
        waits until it is done.
        """
        until = monotonic() + CLEAN_UP if until is None else until
        try:
            if self._hang_up():
                self._clean_up(until)
            elif wait:
                self._cleaned.wait(max(0.0, until - monotonic()))
        except BaseException:
            if self._cleaner == threading.get_ident() and not self.over:
                # An interrupt, between any two steps: another thread does what is left of them.
                self._cleanup.ending.add(self)
                run_detached(partial(self._clean_up_again, until))
            raise

    def _clean_up(self, until: float) -> None:
        self._let_go()
        try:
            deletes = self.ours and not self._handed_over
            if self.conversation_id and (self._must_stop() or self._stop_sent or deletes):
                run_shielded(partial(self._tidy, until), pending=self._cleanup.ending)
        finally:
            self.call.give_slot_back()  # which an interrupted close has not
            self._on_end(self)
            self._cleaned.set()
            self._cleanup.ending.discard(self)
            self._backend.remove(self)
            afterwards, self.afterwards = self.afterwards, None
            if afterwards is not None:
                afterwards()

    def _clean_up_again(self, until: float) -> None:
        self._cleaner = threading.get_ident()
        self._clean_up(until)

    def end_later(self) -> None:
        """As `end`, for a reply that nobody holds any more; the garbage collector may call."""
        if not self._ended:
            self._cleanup.ending.add(self)
            run_detached(self.end)

    def is_ending(self) -> bool:
        """Whether somebody is cleaning up, or will."""
        return self._ended or self in self._cleanup.ending

    def wait_until_over(self) -> None:
        """Waits, for a bounded time, while somebody else is cleaning up."""
        self._cleaned.wait(CLEAN_UP)

    def forget(self) -> None:
        """This is a forked child, and the exchange its parent's."""
        self._ended = True
        self._cleaned.set()

    def blame(self, exc: BaseException) -> None:
        """Puts the facts of this exchange on an error that ends it, and what the server kept."""
        if isinstance(exc, H2oError):
            exc.partial = self.transcript.text
            exc.conversation_id = self.conversation_id or None
            if not isinstance(exc, ConfigurationError) and exc.resendable is None:
                refused = not self._sent or _is_refusal(exc)
                exc.resendable = refused and not _is_limit(exc)
            if _is_a_break(exc) and self._sent and not self._ended:
                self._left_running = self._kept or self._handed_over
                # A caller whose time is over does not wait for this.
                exc.stored = () if isinstance(exc, TransportTimeout) else self._read_back()

    def _read_back(self) -> tuple[Message, ...]:
        """The conversation as it is stored after a break, once the answer is, or soon."""
        if self.stored is None:
            return ()
        # Some servers store what there is when their reader hangs up.
        self._let_go_of_response()
        self.call.at_most = _READ_BACK_WITHIN
        self.call.clock = self.call.clock.within(_READ_BACK_WITHIN)
        try:
            stored = self.stored(self, self.call)
        except (H2oError, Woken) as exc:
            log.info("what is stored of an answer is not known: %s", type(exc).__name__)
            return ()
        return stored.messages

    @property
    def _sent(self) -> bool:
        """Whether the server may have got the prompt: the call makes other requests, too."""
        return self._delivered or (self._sending and self._sender.sent)

    def _can_go_on(self, broken: H2oError | None) -> bool:
        return self.resumption is not None and self.resumption.can_go_on(broken)

    def _resumed_after(self, broken: H2oError | None) -> list[Event]:
        assert self.resumption is not None
        self.running = self._may_run
        clock = self.call.clock
        if self.awaits_first and self.transcript.elicitation is None and not clock.is_bound:
            # However often the connection breaks, the time for the first token is one.
            spent = clock.spent if clock.which == "first_token" else 0.0
            clock.bind("first_token", self._timeouts.first_token, spent=spent)
        return self._note(self.resumption.go_on(broken))

    def _received(self) -> list[Event]:
        """The next events, from whichever connection they come."""
        while self._response is not None:
            broken, self._broken = self._broken, None
            if broken is None:
                try:
                    events = self._read(self._response) or self._go_on()
                except (TransportError, ProtocolError) as exc:
                    if not self._can_go_on(exc):
                        raise
                    broken = exc
                else:
                    if events or not self._can_go_on(None):
                        return events
            events = self._resumed_after(broken)
            over = self.resumption is not None and self.resumption.over
            if events or (over and not self._asks_once_more):
                return events
        return []

    def _open(self, request: Request, *, is_message: bool = True) -> None:
        assert self.dialect is not None
        self._response, self._descriptor, self._drained_socket = None, None, False
        self._sending = is_message
        self.call.longest_silence = self.dialect.longest_silence
        if is_message:
            self._delivered, self.awaits_first, self._may_run = False, True, True
            self._posted_at = monotonic()
            self._taken.clear()
            self._idle = self._timeouts.idle
            self.call.head_within = self.dialect.head_within
        try:
            self._response = self._opened(request, self.dialect)
        except StatusError as exc:
            self._taken.set()
            self._delivered = True
            if is_message:
                self.running = exc.status in GATEWAY_FAILED and exc.origin != "model"
            raise
        except BaseException as exc:
            self._delivered = self._delivered or (is_message and self._sender.sent)
            self.running = self._delivered
            # A server that is stopped before the first token hangs up without an answer.
            if not (self.stopping and isinstance(exc, Woken | TransportError)):
                raise
        else:
            self._delivered, self.running = True, self._may_run
            if is_message:
                kind = self._response.headers.get("content-type", "")
                self.dialect = self._backend.detector.note_answer(self.dialect, kind, self.call)
            self._taken.set()
            if self._ended:  # while it was opened: whoever did it has found nothing to close
                self._let_go_of_response()
        finally:
            self._sending = False
            self.call.head_within = self.call.longest_silence = None

    def _opened(self, request: Request, dialect: Dialect) -> Response | BackgroundResponse:
        send = partial(self._backend.api.open, request, passes_model_on=dialect.passes_model_on)
        if self.ours or not (dialect.stores_at_end or self._may_get_title(dialect)):
            return send(self.call)
        self.call.check()
        try:
            self.background = self._backend.reader.open(send, self.call)
        except RuntimeError:  # no thread can be started
            return send(self.call)
        self.background.wait_for_head()
        return self.background

    def _may_get_title(self, dialect: Dialect) -> bool:
        """Whether a title may come that is lost if nobody reads it."""
        return self._kept and self._is_first and dialect.loses_late_titles

    def _let_go_of_response(self) -> None:
        dialect, transcript = self.dialect, self.transcript
        if self.background is not None and dialect is not None:
            if dialect.stores_at_end:
                self.background.leave(_READ_ON_WITHIN)
            elif transcript.final is not None and transcript.title is None:
                self.background.leave(_TITLED_WITHIN, on_title=self._note_title)
            else:
                self.background.close()
        elif self._response is not None:
            self._response.close()

    def _go_on(self) -> list[Event]:
        """What follows another message, once an elicitation was answered, or a stop was met."""
        resumption = self.resumption
        while resumption is not None and not self.transcript.ended and not self.stopping:
            if self._asks_once_more:
                if not (self.read_to_its_end or self.transcript.finished or resumption.over):
                    break  # its log tells when it has ended
                log.info("an answer ended as stopped, and not by us: it is asked for once more")
                request = resumption.run.retry()
            elif self._resumption:
                request = resumption.run.continuation(self._resumption)
            else:
                break
            self._resumption, self._asks_once_more = "", False
            self._decoder = Decoder()
            self._drained = False
            self.transcript.finished = False  # that was the run before
            self.passed_over = 0
            resumption.renew()
            self._open(request)
            if self._response is not None and (events := self._read(self._response)):
                return events
        return []

    def _note_title(self, title: str) -> None:
        self.transcript.title = title
        self._on_title(title)

    def _read(self, response: Response | BackgroundResponse) -> list[Event]:
        while True:
            data = response.read()
            if data:
                self._heard_at = monotonic()
                events = self._decoder.feed(data)
            else:
                # Half a character is not given: the log has the whole of it.
                events = self._decoder.end(whole=self.resumption is None)
                self.running = self.running and not response.finished
            if events:
                events = self._note(events)
            if events or not data:
                return events

    def _note(self, events: list[Event]) -> list[Event]:
        """Takes note of what came, and gives what the caller has not had."""
        if not events:
            return events
        if not self.transcript.characters and self._must_ask_once_more(events):
            self._asks_once_more = self._has_asked_once_more = True
            events = without_stop(events)
        characters = self.transcript.characters
        others = self.transcript.add(events)
        self._decoder.text_bytes = self.transcript.text_bytes
        if self.resumption is not None and others:
            self.resumption.note(counted(others))
        has_text = self.transcript.characters > characters
        if self.awaits_first:
            if has_text:
                self.awaits_first = False
                self.first_token_at = self.first_token_at or monotonic()
                self.call.clock.bind("first_token", None)
                self.call.clock.allow("idle", self._idle)
        elif has_text or any(map(_is_sign_of_life, others)):
            self.call.clock.renew()
        if others and any(type(event) is Elicitation for event in others):
            self._allow_for_elicitation()
        return self._new_of(events) if self.passed_over else events

    def _must_ask_once_more(self, events: list[Event]) -> bool:
        if self.stopping or self.resumption is None:
            return False
        if self._has_asked_once_more and not self._asks_once_more:
            return False
        can = self.resumption.run.again is not None and self.resumption.retries
        return can and self.transcript.is_stopped_unsaid(events)

    def _new_of(self, events: list[Event]) -> list[Event]:
        found: list[Event] = []
        for event in events:
            if type(event) is Token and not event.special and self.passed_over:
                text = event.text[self.passed_over :]
                self.passed_over -= len(event.text) - len(text)
                found += [Token(text)] if text else []
            else:
                found.append(event)
        return found

    def _allow_for_elicitation(self) -> None:
        # While the user is asked, silence is the user's.
        if self.transcript.elicitation is not None:
            self.call.clock.bind("first_token", None)
            self.call.clock.allow("idle", None)
        elif self.awaits_first:
            self.call.clock.allow("first_token", self._timeouts.first_token)
        else:
            self.call.clock.allow("idle", self._idle)

    def _last_words_over(self) -> None:
        self.call.wake()
        # Nobody may ever read on: what was made for this does not wait for that.
        self.end_later()

    def _look(self) -> None:
        """Takes what is here already: an answer that has ended must not be stopped any more.

        As much of it as a socket can hold: a server that floods would have no end.
        """
        if self._response is None or not self.running or self.transcript.ended or self._watched:
            return
        if not self._reading.take_if_free():
            return  # a reader is at it, and has seen all there is
        try:
            seen = 0
            while not self.transcript.ended and seen < _MOST_LOOKED_AT:
                data = self._response.ready()
                if not data:
                    break
                seen += len(data)
                self._early += self._note(self._decoder.feed(data))
            self.running = self.running and not self._response.finished
        except (H2oError, Woken):
            pass  # whoever reads next meets it again, or nobody does
        finally:
            self._reading.give_back()

    def _hang_up(self) -> bool:
        """Ends the reading, whoever does it. False if it was ended before."""
        with self._ending:
            if self._ended:
                return False
            if not self.stopping:
                self._look()
            self._cleaner = threading.get_ident()
            self.stopping = self._ended = True
            if self._last_words is not None:
                self._last_words.cancel()
        return True

    def _let_go(self) -> None:
        """Lets the connection go. Idempotent."""
        if self._response is None or not self._response.finished:
            self.call.wake()
        # An event loop that watches a descriptor must not find another connection behind it.
        if self._watched and self._watcher_is_alive():
            self._unwatched.wait(_LETS_GO_WITHIN)
        free = self._reading.take_if_free()
        try:
            # A reader closes it when it has woken: it may be the main thread, which cannot wake
            # before its signal handler, which waits for this, has returned.
            if free or self._reading.is_own or self.background is not None:
                with suppress(RuntimeError):  # a read of this thread's is interrupted by a handler
                    self._let_go_of_response()
        finally:
            if free:
                self._reading.give_back()

    def _must_stop(self) -> bool:
        if self.dialect is None or not self.dialect.stops or self._stop_sent is not None:
            return False
        if self._left_running or self._asks_once_more:
            return False
        return self.at_work and not self.transcript.ended and not self.transcript.finished

    def _stop(self, until: float | None = None) -> None:
        # One that comes before the message finds nothing to stop.
        self._taken.wait(max(0.0, self._posted_at + _TAKEN_WITHIN - monotonic()))
        if self.background is not None:
            self.background.note_stop()
        self._cleanup.stop(self.conversation_id, until=until)
        self.stopped_at = monotonic()

    def _send_stop(self) -> None:
        assert self._stop_sent is not None
        try:
            self._stop()
        finally:
            self._stop_sent.set()

    def _tidy(self, until: float) -> None:
        with self._ending:
            if self._tidied:
                return
            self._tidied = True
        if self._must_stop():
            self._stop(until)
        elif self._stop_sent is not None:
            self._stop_sent.wait(max(0.0, min(_STOP_WITHIN, until - monotonic())))
        if self.ours and not self._handed_over:
            self._cleanup.discard(self.conversation_id, until=until)


def _is_limit(exc: H2oError) -> bool:
    """Whether the same would be refused again, however long one waits."""
    return isinstance(exc, RateLimitError) and exc.limit != "rate"


def _is_refusal(exc: H2oError) -> bool:
    """Whether the server said no to a prompt, so that it was not taken."""
    return isinstance(exc, StatusError) and (exc.status < 500 or exc.origin == "model")


def _is_a_break(exc: H2oError) -> bool:
    """Whether an answer ended that the server may have more of."""
    if isinstance(exc, TransportTimeout) and exc.which == "total":
        return False
    return isinstance(exc, TransportError | IncompleteAnswerError)


def _is_sign_of_life(event: Event) -> bool:
    """Whether an event shows that the model, a tool or a search is at work.

    What servers send in any case does not: statuses, titles, and what is unknown.
    """
    if isinstance(event, Reasoning):
        return bool(event.text)
    return isinstance(event, Tool | WebSearch | File | Route | Elicitation)
