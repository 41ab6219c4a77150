"""Responses that a background thread reads, so that a caller can leave one without closing it.

When a stream has ended, chat-ui v0.3 to v0.6 stores the messages before the prompt, the prompt, and
the answer, and overwrites everything that was stored after the prompt. Closing the connection does
not end the generation there, and a stop request may be ignored. Only the end of the response shows
that the server is done, so this module reads the rest of a response that its caller has left.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING

from h2o_client.backend.background import INTERRUPTED_WITHIN, wait_until_empty
from h2o_client.errors import StatusError, TransportError
from h2o_client.timeouts import Clock, Expired, Timeouts, monotonic
from h2o_client.transport.call import Call, Woken
from h2o_client.transport.failures import translated
from h2o_client.transport.locks import Guard
from h2o_client.wire.decoder import Decoder
from h2o_client.wire.events import Event, Failure, Final, Title, Token
from h2o_client.wire.refusal import GATEWAY_FAILED

if TYPE_CHECKING:
    from h2o_client.transport.response import Response

_MOST_AHEAD = 1 << 20  # bytes that are read before the caller takes any
_LONGEST_REST = 1 << 16  # bytes
_CLOSED_WITHIN = 1.0  # seconds

Send = Callable[[Call], "Response"]
"""Sends a request and returns the response as soon as its headers have arrived."""


class Ending(Enum):
    """How a response has ended, which determines what the server stores of the answer."""

    COMPLETE = "complete"  # with the terminal event: the answer is stored
    FAILED = "failed"  # refused, or ended without the terminal event: nothing is stored
    STOPPED = "stopped"  # cut by the server after a stop: the text so far is stored
    CUT = "cut"  # cut by the server for another reason: nothing is stored
    LOST = "lost"  # cut by the network: the server may still be generating


class BackgroundResponse:
    """A response that is read in a thread of its own. Its caller uses it like a `Response`.

    After `leave`, the thread reads the rest and drops it. ``call`` is the call of the request.
    ``ended`` is set at the end of the response; ``ending`` and ``ended_at`` then say how and when
    it ended.
    """

    def __init__(
        self, send: Send, caller: Call, *, on_end: Callable[[BackgroundResponse], None]
    ) -> None:
        limits = Timeouts(connect=caller.timeouts.connect, first_token=None, idle=None, total=None)
        self.call: Call = Call(limits)
        self.ended: threading.Event = threading.Event()
        self.ending: Ending | None = None
        self.ended_at: float = 0.0
        self.headers: dict[str, str] = {}
        self.finished: bool = False  # whether the body is complete, according to its framing
        self._caller = caller
        self._on_end = on_end
        self._buffer = _Buffer()
        # Set by the reading thread only. Other threads read them after `_has_head` or `ended`.
        self._url = ""
        self._failure: BaseException | None = None
        self._events = _Events()
        # Each flag becomes True once. One side sets it, the other one reads it.
        self._has_head = False
        self._is_stopped = False
        # Guards the attributes below, which both sides change. `awaits_title` reads one reference
        # without it.
        self._guard = Guard()
        self._is_left = False
        self._title: str | None = None
        self._on_title: Callable[[str], None] | None = None
        self._timer: threading.Timer | None = None
        self._alarms: list[threading.Event] = []  # of the waiting threads
        # The thread removes `send` from the list: a running thread must not keep a session alive.
        threading.Thread(
            target=self._run, args=([send],), name="h2o_client-background-reader", daemon=True
        ).start()

    # For the caller

    def wait_for_head(self) -> None:
        """Wait for the headers of the response. Raises the errors of the request."""
        self._caller.clock.allow("first_token", self._caller.timeouts.first_token)
        self._wait(self._caller, lambda: self._has_head or self.ended.is_set())
        if not self._has_head:
            assert self._failure is not None
            raise self._failure

    @property
    def open(self) -> bool:
        """Whether more bytes may arrive."""
        return not self.ended.is_set() or self._buffer.has_bytes

    @property
    def has_all(self) -> bool:
        """False, because the thread may still be reading."""
        return False

    def read(self) -> bytes:
        """Return the next bytes as soon as there are any; ``b""`` at the end or at a cut.

        Raises `TransportError`, `TransportTimeout`, `ProtocolError`, and `Woken`.
        """
        self._wait(self._caller, lambda: self._buffer.has_bytes or self.ended.is_set())
        data = self.ready()
        if not data and self._failure is not None:
            raise self._failure
        return data

    def ready(self) -> bytes:
        """Return the bytes that have arrived, without waiting; ``b""`` if there are none."""
        return self._buffer.take()

    def drain(self, seconds: float) -> bytes:
        """Return the bytes that arrive within ``seconds``. Never raises, and closes nothing."""
        self._caller.clock = Clock(seconds)
        data = b""
        try:
            while len(data) < _LONGEST_REST and (piece := self.read()):
                data += piece
        except (TransportError, Woken):
            pass
        return data

    def is_drained(self) -> bool:
        """False: there is no socket to wait for."""
        return False

    def can_be_waited_for(self) -> bool:
        """False: there is no socket to wait for."""
        return False

    def note_stop(self) -> None:
        """Note that a stop request was sent. Then a closed connection is not a failure."""
        self._is_stopped = True

    def leave(self, seconds: float, *, on_title: Callable[[str], None] | None = None) -> None:
        """Read the rest in the background, for at most ``seconds``, and drop it.

        With ``on_title``, read only up to the title, and call ``on_title`` with it. If no byte of
        the request was sent yet, the request is not sent.
        """
        if self.call.wake_unless_sent():
            return
        self.call.release_slot()
        self._buffer.close()
        self._buffer.take()
        with self._guard:
            if self._is_left:
                return
            self._is_left, self._on_title = True, on_title
            title = self._title
            if not self.ended.is_set():
                self._timer = threading.Timer(seconds, self.close)
                self._timer.daemon = True
                try:
                    self._timer.start()
                except RuntimeError:  # no more threads: without the timer, nothing would end it
                    self.call.wake()
        if on_title is not None and title is not None:
            on_title(title)
            self.close()

    @property
    def awaits_title(self) -> bool:
        """Whether the rest is read for a title that may still arrive."""
        return self._on_title is not None and not self.ended.is_set()

    def close(self) -> None:
        """Close the connection. Idempotent."""
        with self._guard:
            self._is_left = True
        self._buffer.close()
        self.call.wake()

    def wait_until_ended(self, call: Call, seconds: float) -> bool:
        """Wait until the response has ended, for at most ``seconds``. Return whether it has.

        Raises `TransportTimeout` if a timeout of ``call`` expires, `Woken` if it was ended.
        """
        end = monotonic() + seconds
        call.clock.allow("connect", None)
        self._wait(call, lambda: self.ended.is_set() or monotonic() >= end, end=end)
        return self.ended.is_set()

    def _wait(self, call: Call, is_ready: Callable[[], bool], *, end: float | None = None) -> None:
        with call.alarm() as alarm:
            with self._guard:
                self._alarms.append(alarm)
            try:
                while True:
                    alarm.clear()
                    call.check()  # after clear: `wake` sets both
                    with self._guard:
                        if is_ready():
                            return
                    alarm.wait(_wait_seconds(call.clock.left(), end))
            except Expired as exc:
                raise translated(exc, call, self._url) from exc
            finally:
                with self._guard:
                    self._alarms.remove(alarm)

    # For the reading thread

    def _run(self, sends: list[Send]) -> None:
        try:
            with sends.pop()(self.call) as response:
                self._url, self.headers = response.url, response.headers
                self._has_head = True
                self._wake_waiting()
                while data := response.read():
                    if self._note_title(self._events.feed(data)):
                        break
                    self._buffer.put(data)
                    self._wake_waiting()
                self._note_title(self._events.end())
                self.finished = response.finished
        except BaseException as exc:
            self._failure = exc
        self.ending = self._find_ending()
        self.ended_at = monotonic()
        with self._guard:
            self.ended.set()
            if self._timer is not None:
                self._timer.cancel()
        self._wake_waiting()
        self._on_end(self)

    def _wake_waiting(self) -> None:
        with self._guard:
            for alarm in self._alarms:
                alarm.set()

    def _note_title(self, title: str | None) -> bool:
        """Note the title, if there is one. Return True if nothing else has to be read."""
        if title is None:
            return False
        with self._guard:
            self._title, on_title = title, self._on_title
        if on_title is None:
            return False
        on_title(title)
        return True

    def _find_ending(self) -> Ending:
        failure = self._failure
        if self._events.has_failed:
            return Ending.FAILED
        if self._events.is_final:
            return Ending.COMPLETE
        if isinstance(failure, StatusError):
            by_gateway = failure.status in GATEWAY_FAILED and failure.origin == "server"
            return Ending.LOST if by_gateway else Ending.FAILED
        cut = Ending.STOPPED if self._is_stopped else Ending.CUT
        if failure is None:
            return Ending.FAILED if self.finished else cut
        if not self.call.sent:
            return Ending.FAILED
        # A server that is stopped before the first token closes the connection without headers.
        by_stop = self._is_stopped and not self._has_head and not isinstance(failure, Woken)
        return Ending.STOPPED if by_stop else Ending.LOST


class _Buffer:
    """The bytes that the thread has read and the caller has not taken, at most about 1 MiB."""

    def __init__(self) -> None:
        self._room = threading.Event()  # set when bytes were taken, or this was closed
        # Guards the attributes below. `has_bytes` reads one reference without it.
        self._guard = Guard()
        self._pieces: list[bytes] = []
        self._size = 0
        self._is_closed = False

    @property
    def has_bytes(self) -> bool:
        """Whether there are bytes to take."""
        return bool(self._pieces)

    def put(self, data: bytes) -> None:
        """Add ``data`` once there is room for it, or drop it if this is closed."""
        while True:
            with self._guard:
                if self._is_closed:
                    return
                if self._size <= _MOST_AHEAD:
                    self._pieces.append(data)
                    self._size += len(data)
                    return
                self._room.clear()
            self._room.wait()

    def take(self) -> bytes:
        """Remove and return all bytes."""
        with self._guard:
            data = b"".join(self._pieces)
            self._pieces.clear()
            self._size = 0
            self._room.set()
        return data

    def close(self) -> None:
        """Accept no more bytes. Bytes that were added earlier can still be taken."""
        with self._guard:
            self._is_closed = True
            self._room.set()


class _Events:
    """Finds in the events of a response how it ended. Only the reading thread uses it."""

    def __init__(self) -> None:
        self.is_final: bool = False
        self.has_failed: bool = False
        self._decoder = Decoder()

    def feed(self, data: bytes) -> str | None:
        """Note the events in ``data``. Return the last title in it."""
        events = self._decoder.feed(data)
        self._decoder.text_bytes += sum(
            len(each.text.encode("utf-8", "surrogatepass"))
            for each in events
            if isinstance(each, Token)
        )
        return self._note(events)

    def end(self) -> str | None:
        """Note the end of the body. Return the last title in an incomplete line."""
        return self._note(self._decoder.end())

    def _note(self, events: list[Event]) -> str | None:
        self.is_final = self.is_final or any(isinstance(each, Final) for each in events)
        self.has_failed = self.has_failed or any(isinstance(each, Failure) for each in events)
        titles = [each.title for each in events if isinstance(each, Title)]
        return titles[-1] if titles else None


def _wait_seconds(left: float | None, end: float | None) -> float:
    seconds = INTERRUPTED_WITHIN if left is None else min(left, INTERRUPTED_WITHIN)
    return seconds if end is None else max(0.0, min(seconds, end - monotonic()))


class BackgroundReader:
    """The background responses of one session. Threads may share it."""

    def __init__(self) -> None:
        # No lock is needed: adding and discarding one entry is atomic, and `close` reads a copy. A
        # finalizer, which reads `is_reading`, must not wait for a lock.
        self._responses: set[BackgroundResponse] = set()

    @property
    def is_reading(self) -> bool:
        """Whether there are unfinished responses."""
        return bool(self._responses)

    def open(self, send: Send, caller: Call) -> BackgroundResponse:
        """Send a request and read its response in the background."""
        response = BackgroundResponse(send, caller, on_end=self._responses.discard)
        self._responses.add(response)
        if response.ended.is_set():
            self._responses.discard(response)
        return response

    def close(self, seconds: float = 0.0) -> None:
        """Close all connections. A response that waits for a title has ``seconds`` more."""
        for response in list(self._responses):
            if not response.awaits_title:
                response.close()
        end = monotonic() + seconds
        for response in list(self._responses):
            response.ended.wait(max(0.0, end - monotonic()))
            response.close()
        wait_until_empty(self._responses, _CLOSED_WITHIN)

    def forget(self) -> None:
        """Forget all responses in a forked child: the parent reads them."""
        self._responses = set()
