"""One request under way, which another thread may end at any time."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from h2o_client.errors import TimeoutName
from h2o_client.timeouts import Clock, Timeouts
from h2o_client.transport.compat import Breaker, has_pending, may_be_read_past_buffers
from h2o_client.transport.locks import Guard, Slots


class Woken(Exception):
    """The call was ended from outside, by `Call.wake`."""


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
        """Wake all registered calls, and those to come."""
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

    def __init__(self, timeouts: Timeouts, *, clock: Clock | None = None) -> None:
        self.timeouts = timeouts
        self.clock: Clock = clock or Clock(timeouts.total)
        self.sent: bool = False
        # The timeout for waiting for other calls.
        self.waits_within: TimeoutName = "idle"
        # Seconds within which the response has to begin, in addition to `budget`; None: no limit.
        self.at_most: float | None = None
        # Seconds from the request to the headers, and between two bytes of the body, if the server
        # is never silent for longer; None if that is unknown.
        self.head_within: float | None = None
        self.longest_silence: float | None = None
        # Whether a read waits for bytes. If it does not, `starved` says that there were none.
        self.patient = True
        self.starved: bool = False
        self.budget: TimeoutName = "idle"  # the timeout within which the response has to begin
        self._slots: Slots | None = None  # used by the calling thread alone
        # Guards the four that follow, and the step of `sent` from False to True: either the call is
        # woken before a byte leaves, or `wake_unless_sent` sees that one has. Without the lock:
        # `check` and `is_connected` read one reference, which at worst is a moment old; `receive`
        # and `has_pending` are called by the thread that alone replaces the socket.
        self._lock = Guard()
        self._woken = False  # never becomes False again
        self._alarms: list[threading.Event] = []
        self._socket: Any = None
        self._breaker: Breaker | None = None
        if _watched.waker is not None:
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
        """Set the alarms: something has come, or the time to wait has changed."""
        with self._lock:
            for alarm in self._alarms:
                alarm.set()

    def wake_unless_sent(self) -> bool:
        """Wake the call unless a byte of the request may have left. Return whether it was woken."""
        with self._lock:
            if self.sent:
                return False
            self._woken = True
        self.wake()
        return True

    def sends(self) -> None:
        """A byte of the request is about to leave. Raises `Woken` if the call was ended."""
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
        """Wait. Raises `Woken` as soon as the call is ended, `Expired` if a timeout has expired."""
        self.sent = False  # there was a response to what was sent
        self.clock.expect(None)
        self.clock.allow("connect", None)
        left = self.clock.left()
        with self.alarm() as alarm:
            alarm.wait(seconds if left is None else min(seconds, left))
        self.check()
        self.clock.left()

    @contextmanager
    def alarm(self) -> Iterator[threading.Event]:
        """An event that `wake` and `ring` set, for waits that are not for the network."""
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
        """Start a request; ``budget`` is its response's timeout. Return the connect timeout."""
        self.check()
        self.budget = budget
        self.clock.expect(None)
        self.clock.allow("connect", self.timeouts.connect)
        return self.clock.left()

    def connected(self, sock: Any) -> None:
        """The request is sent over ``sock``, which `wake` can shut down from here on."""
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
        """The whole request was sent: expect the headers in time."""
        self.clock.expect(self.head_within)

    def headers_received(self) -> None:
        """The headers have come: expect bytes in time."""
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
        """Whether bytes may have come that a selector would not report."""
        return has_pending(self._socket)

    def holds(self, slots: Slots) -> None:
        """The call takes one of ``slots``, which `let_go` gives back."""
        self._slots = slots

    def let_go_of_socket(self) -> None:
        """Detach the connection: a late `wake` must not hit its next user."""
        with self._lock:
            self._socket = None
            breaker, self._breaker = self._breaker, None
        if breaker is not None:
            breaker.close()

    def let_go(self) -> None:
        """Detach the connection, and give the slot back."""
        self.let_go_of_socket()
        self.give_slot_back()

    def give_slot_back(self) -> None:
        """Stop counting as one of the session's answers. Idempotent."""
        slots = self._slots
        if slots is not None:
            slots.give_back(self)
            self._slots = None  # and not before: an interrupt in between would lose it
