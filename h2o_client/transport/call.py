"""One request under way, which another thread may end at any time."""

from __future__ import annotations

import socket
import threading
from typing import Any

from h2o_client.timeouts import Clock, Timeouts


class Woken(Exception):
    """The call was ended from outside, by `Call.wake`."""


class Call:
    """One request, from before its connection to the end of its answer.

    ``clock`` bounds its waiting: for the connection, then for the answer's ``budget`` (the name
    of one of the timeouts). `wake` ends it from any thread, before the headers as well as in
    mid-body. ``sent`` says whether a byte of the request may have left.
    """

    def __init__(self, timeouts: Timeouts, *, budget: str = "idle") -> None:
        self.clock = Clock(timeouts.total)
        self.sent = False
        self.timeouts = timeouts
        self._budget = budget
        self._woken = threading.Event()
        self._socket: Any = None
        self._slots: Slots | None = None
        self._lock = threading.Lock()

    def wake(self) -> None:
        """Ends the call: whoever is blocked in it comes back at once."""
        with self._lock:
            self._woken.set()
            if self._socket is not None:
                _shut_down(self._socket)

    def check(self) -> None:
        """Raises `Woken` if the call was ended."""
        if self._woken.is_set():
            raise Woken

    def pause(self, seconds: float) -> None:
        """Waits; raises `Woken` as soon as the call is ended, `Expired` if its time is over."""
        self.clock.allow("connect", None)
        left = self.clock.left()
        self._woken.wait(seconds if left is None else min(seconds, left))
        self.check()
        self.clock.left()

    def connecting(self) -> float | None:
        """A connection is about to be made: how long that may take."""
        self.check()
        self.clock.allow("connect", self.timeouts.connect)
        return self.clock.left()

    def connected(self, sock: Any) -> None:
        """The request goes over ``sock``, which `wake` can reach from here on."""
        self.reaches(sock)
        self.clock.allow(self._budget, getattr(self.timeouts, self._budget))

    def reaches(self, sock: Any) -> None:
        with self._lock:
            self._socket = sock
        self.check()

    def holds(self, slots: Slots) -> None:
        self._slots = slots

    def let_go(self) -> None:
        """The connection is no longer this call's: a late `wake` must not hit its next user."""
        with self._lock:
            self._socket = None
            slots, self._slots = self._slots, None
        if slots is not None:
            slots.give_back()


class Slots:
    """At most so many connections at once."""

    def __init__(self, most: int) -> None:
        self._free = most
        self._freed = threading.Condition()

    def take(self, call: Call) -> None:
        with self._freed:
            while self._free <= 0:
                call.check()
                call.clock.allow("connect", None)
                call.clock.left()
                # Short waits: nobody tells this condition that the call was woken.
                self._freed.wait(0.1)
            self._free -= 1
            call.holds(self)

    def give_back(self) -> None:
        with self._freed:
            self._free += 1
            self._freed.notify()


def _shut_down(sock: Any) -> None:
    try:
        if isinstance(sock, socket.socket):
            # Not SSLSocket.shutdown, which takes the TLS state away under the reader.
            socket.socket.shutdown(sock, socket.SHUT_RDWR)
        else:
            sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # it has gone already
