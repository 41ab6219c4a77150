"""A request in progress, which another thread may end at any time."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from h2o_client.errors import TimeoutName
from h2o_client.timeouts import Clock, Timeouts
from h2o_client.transport.compat import Breaker, has_pending, may_be_read_past_buffers
from h2o_client.transport.locks import Guard, Slots


class Woken(Exception):
    """The call was ended by another thread, with `Call.wake`."""


class Waker:
    """Ends, from any thread, the calls that another thread makes inside a `watching` block."""

    def __init__(self) -> None:
        self._lock = Guard()  # guards `_calls` and `_woken`
        self._calls: list[Call] = []
        self._woken = False

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Register the calls that this thread makes inside the block."""
        _watched.waker = self
        try:
            yield
        finally:
            _watched.waker = None
            with self._lock:
                self._calls.clear()

    def take(self, call: Call) -> None:
        """Register ``call``; wake it if this waker has been used."""
        with self._lock:
            self._calls.append(call)
            woken = self._woken
        if woken:
            call.wake()

    def wake(self) -> None:
        """Wake all calls that are registered, now or later."""
        with self._lock:
            self._woken = True
            calls = list(self._calls)
        for call in calls:
            call.wake()


class _Watched(threading.local):
    waker: Waker | None = None


_watched = _Watched()


class Call:
    """One request or several consecutive ones, until the last response has ended.

    ``clock`` holds the timeouts. Any thread can end the call with `wake`: while it connects, before
    the headers, and in the middle of the body. ``sent`` says whether a byte of the request may have
    been sent.
    """

    _has_caller: ClassVar[bool] = True  # whether a `Waker` of its thread also ends it

    def __init__(self, timeouts: Timeouts, *, clock: Clock | None = None) -> None:
        self.timeouts = timeouts
        self.clock: Clock = clock or Clock(timeouts.total)
        self.sent: bool = False
        # The name of the timeout for waiting for other calls.
        self.waits_within: TimeoutName = "idle"
        # Seconds within which the response has to begin, in addition to `budget`; None: no limit.
        self.at_most: float | None = None
        # Seconds from the request to the headers, and between two bytes of the body, if the server
        # is never silent for longer; None if that is unknown.
        self.head_within: float | None = None
        self.longest_silence: float | None = None
        # Whether a read waits for bytes. If it does not, `starved` is set if none have arrived.
        self.patient = True
        self.starved: bool = False
        self.budget: TimeoutName = "idle"  # the timeout for the start of the response
        self._slots: Slots | None = None  # used by the calling thread alone
        # Guards the next four attributes, and the change of `sent` to True: either the call is
        # woken before a byte is sent, or `wake_unless_sent` sees that one was. Four methods do not
        # take it: `check` and `is_connected` read one reference, which may be slightly outdated;
        # `receive` and `has_pending` run in the only thread that replaces the socket.
        self._lock = Guard()
        self._woken = False  # never becomes False again
        self._alarms: list[threading.Event] = []
        self._socket: Any = None
        self._breaker: Breaker | None = None
        if self._has_caller and _watched.waker is not None:
            _watched.waker.take(self)

    def wake(self) -> None:
        """End the call: a thread blocked in it returns at once. Never raises."""
        with self._lock:
            self._woken = True
            for alarm in self._alarms:
                alarm.set()
            if self._breaker is not None:
                self._breaker.off()

    def ring(self) -> None:
        """Wake the threads that wait in `alarm`, without ending the call."""
        with self._lock:
            for alarm in self._alarms:
                alarm.set()

    def wake_unless_sent(self) -> bool:
        """Wake the call if no byte of the request was sent. Return whether it was woken."""
        with self._lock:
            if self.sent:
                return False
            self._woken = True
        self.wake()
        return True

    def sends(self) -> None:
        """Note that a byte is about to be sent. Raises `Woken` if the call was ended."""
        with self._lock:
            self.check()
            self.sent = True

    def check(self) -> None:
        """Raise `Woken` if the call was ended."""
        if self._woken:
            raise Woken

    def check_timeouts(self) -> None:
        """Raise `Woken` if the call was ended, `Expired` if a timeout has expired."""
        self.check()
        self.clock.left()

    def pause(self, seconds: float) -> None:
        """Wait for ``seconds``. Raises `Woken` if the call is ended, `Expired` after a timeout."""
        self.sent = False  # the previous request has been answered
        self.clock.expect(None)
        self.clock.allow("connect", None)
        left = self.clock.left()
        with self.alarm() as alarm:
            alarm.wait(seconds if left is None else min(seconds, left))
        self.check()
        self.clock.left()

    @contextmanager
    def alarm(self) -> Iterator[threading.Event]:
        """Yield an event that `wake` and `ring` set, for waits other than reading the network."""
        alarm = threading.Event()
        with self._lock:
            self._alarms.append(alarm)
            if self._woken:
                alarm.set()
        try:
            yield alarm
        finally:
            with self._lock:
                self._alarms.remove(alarm)

    def connecting(self, budget: TimeoutName) -> float | None:
        """Start a request and return the seconds left to connect.

        ``budget`` is the name of the response's timeout.
        """
        self.check()
        self.budget = budget
        self.clock.expect(None)
        self.clock.allow("connect", self.timeouts.connect)
        return self.clock.left()

    def connected(self, sock: Any) -> None:
        """Note that the request uses ``sock``, which `wake` may shut down from now on."""
        self.attach(Breaker(sock), sock)
        self.await_response()

    def await_response(self) -> None:
        """Start the timeout of the response."""
        seconds: float | None = getattr(self.timeouts, self.budget)
        if self.at_most is not None and (seconds is None or self.at_most < seconds):
            self.clock.allow("silence", self.at_most)
        else:
            self.clock.allow(self.budget, seconds)

    @property
    def is_connected(self) -> bool:
        """Whether a connection was attached."""
        return self._breaker is not None

    def request_sent(self) -> None:
        """Note that the whole request was sent. Bounds the time until the headers."""
        self.clock.expect(self.head_within)

    def headers_received(self) -> None:
        """Note that the headers have arrived. Bounds the time between the bytes of the body."""
        self.clock.expect(self.longest_silence)

    def attach(self, breaker: Breaker, sock: Any = None) -> None:
        """Let `wake` use ``breaker``. ``sock`` is the socket, if it can be read directly."""
        with self._lock:
            former, self._breaker = self._breaker, breaker
            self._socket = sock
        if former is not None:
            former.close()
        self.check()

    def descriptor(self) -> int | None:
        """The socket's file descriptor, for use with a selector; None if not connected."""
        with self._lock:
            try:
                number = -1 if self._socket is None else self._socket.fileno()
            except (OSError, AttributeError):
                return None
        return int(number) if number >= 0 else None

    def receive(self, most: int) -> bytes | None:
        """Read the arrived bytes directly from the socket; None if that is not possible.

        ``b""`` with ``starved`` set means that none have arrived; otherwise the stream has ended.
        """
        sock = self._socket
        if not may_be_read_past_buffers(sock):
            return None
        if sock.gettimeout() != 0.0:
            sock.settimeout(0.0)
        try:
            data: bytes = sock.recv(most)
        except (BlockingIOError, ssl.SSLWantReadError):
            self.starved = True
            return b""
        return data

    def has_pending(self) -> bool:
        """Whether bytes may have arrived that a selector would not report."""
        return has_pending(self._socket)

    def holds(self, slots: Slots) -> None:
        """Note that the call takes one of ``slots``. `release` frees it."""
        self._slots = slots

    def detach(self) -> None:
        """Detach the connection: a late `wake` must not hit its next user."""
        with self._lock:
            self._socket = None
            breaker, self._breaker = self._breaker, None
        if breaker is not None:
            breaker.close()

    def release(self) -> None:
        """Detach the connection, and free the slot."""
        self.detach()
        self.release_slot()

    def release_slot(self) -> None:
        """Free the slot, so that another answer can start. Idempotent."""
        slots = self._slots
        if slots is not None:
            slots.release(self)
            self._slots = None  # not earlier: an interrupt before the release would lose the slot
