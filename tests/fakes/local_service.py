"""A service on 127.0.0.1 for tests: it accepts, reads requests, and ends with the test.

It is the base of `scripted.py` and `proxies.py`. Every wait has a deadline, nothing outlives the
``with`` block, and an error in one of its threads fails the test.
"""

from __future__ import annotations

import email
import io
import json
import re
import socket
import ssl
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPMessage, parse_headers
from http.cookies import SimpleCookie
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple
from urllib.parse import parse_qsl

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

# Seconds: the deadline of every wait, far longer than anything takes on a busy machine.
PATIENCE = 120.0


@contextmanager
def at_once() -> Iterator[None]:
    """Fail if the block takes as long as `PATIENCE`, because it waits in vain."""
    began = time.monotonic()
    yield
    assert time.monotonic() - began < PATIENCE / 2


class Over(Exception):
    """The client has disconnected or the server is stopping. This ends a script, not a test."""


class Field(NamedTuple):
    """One field of a form."""

    name: str
    data: bytes
    filename: str | None

    @classmethod
    def of(cls, part: Any) -> Field:
        name = part.get_param("name", header="content-disposition")
        return cls(name, part.get_payload(decode=True), part.get_filename())


@dataclass(frozen=True)
class Request:
    """One request, read to its end. `headers` answers in any case; `get_all` has repeated ones."""

    method: str
    target: str  # as sent, with the query
    headers: HTTPMessage = field(repr=False)
    body: bytes
    connection: int  # the first is 1
    when: float  # time.monotonic()

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        return self.target.partition("?")[2]

    @property
    def cookies(self) -> dict[str, str]:
        jar = SimpleCookie("; ".join(self.headers.get_all("cookie", [])))
        return {name: morsel.value for name, morsel in jar.items()}

    def json(self) -> Any:
        return json.loads(self.body)

    def form(self) -> list[Field]:
        """The fields of an urlencoded or multipart body, in order."""
        kind = self.headers.get("content-type", "")
        if kind == "application/x-www-form-urlencoded":
            pairs = parse_qsl(self.body.decode(), keep_blank_values=True)
            return [Field(name, value.encode(), None) for name, value in pairs]
        mail = email.message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + self.body)
        assert mail.is_multipart(), f"not a form: {kind!r}"
        return [Field.of(part) for part in mail.walk() if part is not mail]


class Wire:
    """One socket with a deadline for every wait, and a buffer of unread bytes."""

    def __init__(self, service: LocalService, sock: socket.socket) -> None:
        with suppress(OSError):  # on some systems, if the client has already disconnected
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.service = service
        self.sock = sock
        self.buffer = bytearray()
        self.eof = False  # the client has closed its side,
        self.was_reset = False  # and this is how
        self.finished = False  # we have closed ours

    def start_tls(self, context: ssl.SSLContext) -> None:
        try:
            with self.service.changed:
                self.sock = context.wrap_socket(
                    self.sock, server_side=True, do_handshake_on_connect=False
                )
            self.sock.settimeout(self.service.patience)
            self.sock.do_handshake()
        except OSError as error:
            raise Over("the client broke off the TLS handshake") from error

    def more(self, seconds: float) -> bool:
        """Wait for bytes and put them into the buffer. Return False if the client has closed."""
        if self.eof:
            return False
        data = b""
        try:
            self.sock.settimeout(max(seconds, 0.001))
            data = self.sock.recv(65536)
        except TimeoutError:
            raise TimeoutError(f"the client sent nothing for {seconds:.1f} s") from None
        except OSError as error:
            self.was_reset = isinstance(error, ConnectionResetError)
        if self.service.stopping.is_set():
            raise Over("the server is being stopped")
        self.buffer += data
        self.eof = not data
        return bool(data)

    def exactly(self, size: int) -> bytes:
        while len(self.buffer) < size:
            if not self.more(self.service.patience):
                raise Over("the client closed in the middle of what it was sending")
        taken = bytes(self.buffer[:size])
        del self.buffer[:size]
        return taken

    def line(self) -> bytes:
        """The next line, without its end."""
        while b"\n" not in self.buffer:
            if not self.more(self.service.patience):
                raise Over("the client closed in the middle of a line")
        return self.exactly(self.buffer.index(b"\n") + 1).rstrip(b"\r\n")

    def take(self) -> bytes:
        taken = bytes(self.buffer)
        self.buffer.clear()
        return taken

    def send(self, data: bytes) -> None:
        try:
            self.sock.settimeout(self.service.patience)
            self.sock.sendall(data)
        except TimeoutError:
            raise TimeoutError("the client does not read what is sent to it") from None
        except OSError as error:
            raise Over("the client has gone") from error

    def fin(self, *, notify: bool = True) -> None:
        """Close this side. On TLS, send a close_notify if ``notify``."""
        with suppress(OSError, ValueError):
            if notify and isinstance(self.sock, ssl.SSLSocket):
                self.sock.settimeout(0)  # do not wait for the peer's close_notify
                self.sock.unwrap()
        with self.service.changed, suppress(OSError):
            self.finished = True
            self.service.changed.notify_all()
            # Not SSLSocket.shutdown, which drops the TLS state while another thread reads.
            socket.socket.shutdown(self.sock, socket.SHUT_WR)

    def rst(self, *, close: bool = True) -> None:
        """Reset the connection. If another thread is reading it, that thread closes it."""
        with suppress(OSError):
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            socket.socket.shutdown(self.sock, socket.SHUT_RD)  # wakes a reader, sends nothing
        if close:
            self.close()

    def linger(self, seconds: float) -> None:
        """Read until the client closes, because close() with unread bytes would send an RST."""
        deadline = time.monotonic() + seconds
        with suppress(OSError):
            while (left := deadline - time.monotonic()) > 0:
                self.sock.settimeout(left)
                if not socket.socket.recv(self.sock, 65536):
                    return

    def wake(self) -> None:
        with self.service.changed, suppress(OSError):
            socket.socket.shutdown(self.sock, socket.SHUT_RDWR)

    def close(self) -> None:
        with self.service.changed:
            self.finished = True
            self.sock.close()
            self.service.wires.discard(self)
            self.service.changed.notify_all()


class LocalService:
    """Accepts on a free port of 127.0.0.1 and serves each connection in its own thread.

    `patience`, in seconds, is the default deadline of every wait. `failures` has the exceptions of
    the threads; the first one is raised when the `with` block ends. The functions in `ends_before`
    are called before that, because a client that is closed later waits for a server in vain.
    """

    ends_before: ClassVar[list[Callable[[], object]]] = []

    def __init__(self, *, patience: float = PATIENCE) -> None:
        self.patience = patience
        self.connections = 0
        self.failures: list[BaseException] = []
        self.wires: set[Wire] = set()
        self.changed = threading.Condition()  # guards everything here; notified when it changes
        self.stopping = threading.Event()
        self._threads: deque[threading.Thread] = deque()

    def serve(self, wire: Wire, number: int) -> None:
        raise AssertionError("a service says how it serves a connection")

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._listener.settimeout(0.2)  # for systems where shutdown() does not wake accept()
        self.port: int = self._listener.getsockname()[1]
        self.spawn(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        for end in self.ends_before:
            end()
        self.stop()
        # A script's failure is usually the cause of the test's. Python shows both.
        if self.failures and (error is None or isinstance(error, Exception)):
            raise self.failures[0]

    def stop(self) -> None:
        """End every wait, close every socket and join every thread. May be called twice."""
        with self.changed:
            self.stopping.set()
            self.changed.notify_all()
            for wire in self.wires:
                wire.wake()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        deadline = time.monotonic() + PATIENCE
        while self._threads:
            thread = self._threads.popleft()
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                self.failures.append(AssertionError(f"{thread.name} does not end"))
        self._listener.close()
        for wire in list(self.wires):
            wire.close()

    def wait_for(self, true: Callable[[Self], object], seconds: float = PATIENCE) -> None:
        """Wait until `true(self)`. Raise AssertionError after `seconds`, or a script's error."""
        deadline = time.monotonic() + seconds
        with self.changed:
            while not true(self):
                if self.failures:
                    raise self.failures[0]
                if (left := deadline - time.monotonic()) <= 0:
                    raise AssertionError(f"still not true after {seconds} s; seen: {self!r}")
                # In short waits, because `true` may depend on changes without a notification.
                self.changed.wait(min(left, 0.02))

    def spawn(self, target: Callable[..., None], *args: object) -> None:
        name = f"{type(self).__name__}.{target.__name__.strip('_')}"
        thread = threading.Thread(target=self._run, args=(target, *args), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def wire(self, sock: socket.socket) -> Wire:
        """Register a socket, so that stop() wakes its threads."""
        with self.changed:
            if self.stopping.is_set():
                sock.close()
                raise Over("the server is being stopped")
            wire = Wire(self, sock)
            self.wires.add(wire)
            return wire

    def _run(self, target: Callable[..., None], *args: object) -> None:
        try:
            target(*args)
        except Over:
            pass
        except BaseException as error:  # pytest.fail() and assert included
            with self.changed:
                self.failures.append(error)
        finally:
            with self.changed:
                self.changed.notify_all()

    def _accept(self) -> None:
        while not self.stopping.is_set():
            try:
                sock, _ = self._listener.accept()
            except TimeoutError:
                continue
            except OSError:
                if self.stopping.is_set():
                    return
                raise
            with self.changed:
                self.connections += 1
                self.changed.notify_all()
            self.spawn(self._attend, sock, self.connections)

    def _attend(self, sock: socket.socket, number: int) -> None:
        wire = self.wire(sock)
        try:
            self.serve(wire, number)
        except Over:
            raise
        except BaseException:
            wire.rst()  # so that the client fails at once too
            raise
        finally:
            if wire.finished:
                wire.linger(self.patience)
            wire.close()


def read_request(wire: Wire, connection: int, idle: float) -> Request | None:
    """The next request, or None if the client closes or is silent for `idle` seconds."""
    try:
        if not wire.buffer and not wire.more(idle):
            return None
    except TimeoutError:
        return None
    start = wire.line()
    words = start.decode("latin-1").split(" ")
    assert words[2:] in (["HTTP/1.1"], ["HTTP/1.0"]), f"not an HTTP request: {start!r}"
    raw = b""
    while line := wire.line():
        assert re.match(rb"[^\s:]+:", line), f"not a header: {line!r}"
        raw += line + b"\r\n"
    headers = parse_headers(io.BytesIO(raw + b"\r\n"))
    body = b""
    if headers.get("transfer-encoding", "").lower() == "chunked":
        while size := int(wire.line().partition(b";")[0], 16):
            body += wire.exactly(size)
            assert wire.line() == b"", "a chunk is longer than its size says"
        while wire.line():
            pass  # trailers
    else:
        body = wire.exactly(int(headers.get("content-length", "0")))
    return Request(words[0], words[1], headers, body, connection, time.monotonic())
