"""A server on 127.0.0.1 that does exactly what a test's script says, down to the byte.

In comes a script, `Callable[[Exchange], None]`, run once for each request; out goes a log of what
the client did. Every wait has a deadline, nothing outlives the `with` block, and what fails inside
a script fails the test. `proxies.py` stands on the same `LocalService`.
"""

from __future__ import annotations

import atexit
import email
import functools
import io
import json
import os
import re
import socket
import ssl
import struct
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPMessage, parse_headers, responses
from http.cookies import SimpleCookie
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from urllib.parse import parse_qsl

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

Framing = Literal["chunked", "length", "close", "http10"]
HeaderLines = Mapping[str, str] | Iterable[tuple[str, str]]


class Over(Exception):
    """The client has gone or the server is being stopped. It ends a script, and no test."""


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
        """The fields of a urlencoded or multipart body, in order."""
        kind = self.headers.get("content-type", "")
        if kind == "application/x-www-form-urlencoded":
            pairs = parse_qsl(self.body.decode(), keep_blank_values=True)
            return [Field(name, value.encode(), None) for name, value in pairs]
        mail = email.message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + self.body)
        assert mail.is_multipart(), f"not a form: {kind!r}"
        return [Field.of(part) for part in mail.walk() if part is not mail]


class Wire:
    """One socket, a deadline on everything, and a buffer of what came and was not asked for yet."""

    def __init__(self, service: LocalService, sock: socket.socket) -> None:
        with suppress(OSError):  # on some systems, when the client has already gone
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
        """Waits for bytes and keeps them in the buffer; False if the client has closed its side."""
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
        """Closes our side. On TLS with a close_notify, unless told not to."""
        with suppress(OSError, ValueError):
            if notify and isinstance(self.sock, ssl.SSLSocket):
                self.sock.settimeout(0)  # the peer's own close_notify is not waited for
                self.sock.unwrap()
        with self.service.changed, suppress(OSError):
            self.finished = True
            self.service.changed.notify_all()
            # Not SSLSocket.shutdown, which drops the TLS state under whoever is reading.
            socket.socket.shutdown(self.sock, socket.SHUT_WR)

    def rst(self) -> None:
        with suppress(OSError):
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            socket.socket.shutdown(self.sock, socket.SHUT_RD)  # wakes a reader, sends nothing
        self.close()

    def linger(self, seconds: float) -> None:
        """Reads on until the client closes: close() with bytes unread would send an RST."""
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
    """Accepts on a free port of 127.0.0.1 and serves each connection in a thread of its own.

    `patience`, in seconds, is the deadline of every wait that has none of its own. What the threads
    raised is in `failures`; the first of it is raised when the `with` block ends.
    """

    def __init__(self, *, patience: float = 10.0) -> None:
        self.patience = patience
        self.connections = 0
        self.failures: list[BaseException] = []
        self.wires: set[Wire] = set()
        self.changed = threading.Condition()  # guards everything here; notified when it changes
        self.stopping = threading.Event()
        self._threads: deque[threading.Thread] = deque()

    def serve(self, wire: Wire, number: int) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._listener.settimeout(0.2)  # for systems where shutdown() does not wake accept()
        self.port: int = self._listener.getsockname()[1]
        self.spawn(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.stop()
        # A script's failure is mostly the cause of the test's own; Python shows both.
        if self.failures and (error is None or isinstance(error, Exception)):
            raise self.failures[0]

    def stop(self) -> None:
        """Ends every wait, closes every socket and joins every thread; may be called twice."""
        with self.changed:
            self.stopping.set()
            self.changed.notify_all()
            for wire in self.wires:
                wire.wake()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        deadline = time.monotonic() + 5.0
        while self._threads:
            thread = self._threads.popleft()
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                self.failures.append(AssertionError(f"{thread.name} did not end within 5 s"))
        self._listener.close()
        for wire in list(self.wires):
            wire.close()

    def wait_for(self, true: Callable[[Self], object], seconds: float = 5.0) -> None:
        """Returns once `true(self)` is; AssertionError after `seconds`, or what a script raised."""
        deadline = time.monotonic() + seconds
        with self.changed:
            while not true(self):
                if self.failures:
                    raise self.failures[0]
                if (left := deadline - time.monotonic()) <= 0:
                    raise AssertionError(f"still not true after {seconds} s; seen: {self!r}")
                # In slices, as `true` may look at things that nobody notifies about.
                self.changed.wait(min(left, 0.02))

    def spawn(self, target: Callable[..., None], *args: object) -> None:
        name = f"{type(self).__name__}.{target.__name__.strip('_')}"
        thread = threading.Thread(target=self._run, args=(target, *args), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def wire(self, sock: socket.socket) -> Wire:
        """Takes a socket into care: stop() wakes whoever waits on it."""
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
                wire.linger(1.0)
            wire.close()


def read_request(wire: Wire, connection: int, idle: float) -> Request | None:
    """The next request; None if the client closes, or is silent for `idle` seconds, before it."""
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


def chunk(payload: bytes, *, size: int | None = None, extension: str = "") -> bytes:
    """One HTTP chunk; `size=` lies about its length, `extension=` is e.g. ";name=value"."""
    length = len(payload) if size is None else size
    return f"{length:x}{extension}\r\n".encode() + payload + b"\r\n"


def header_pairs(headers: HeaderLines) -> Iterable[tuple[str, str]]:
    return headers.items() if isinstance(headers, Mapping) else headers


def header_lines(headers: HeaderLines) -> str:
    return "".join(f"{name}: {value}\r\n" for name, value in header_pairs(headers))


class Exchange:
    """One request on one connection, and everything a script may do with it.

    A script says how it ends: end(), answer(), json(), cut() or reset(). One that returns without,
    while the client is still there, fails the test.
    """

    match: re.Match[str] | None = None  # what a Routes pattern found in the path

    def __init__(self, server: ScriptedServer, wire: Wire, request: Request | None) -> None:
        self.server = server
        self.idle = server.patience
        self.ended = False
        self._wire = wire
        self._request = request
        self._framing: Framing | None = None
        self._owed = 0  # bytes promised by Content-Length and not written
        self._closing = False

    @property
    def request(self) -> Request:
        assert self._request is not None, "an AtAccept script runs before any request"
        return self._request

    def send(self, data: bytes) -> None:
        """Raw bytes."""
        assert not self._wire.finished, "send() after cut() or reset()"
        self._wire.send(data)

    def head(
        self,
        status: int = 200,
        headers: HeaderLines = (),
        *,
        framing: Framing = "chunked",
        length: int | None = None,
        pause: float | None = None,
    ) -> None:
        """Status line and headers; with `pause` byte by byte, that many seconds apart.

        "length" needs `length=`, which may be a lie; "close" has none and says Connection: close,
        "http10" is an HTTP/1.0 answer without one.
        """
        version = "1.0" if framing == "http10" else "1.1"
        lines = f"HTTP/{version} {status} {responses.get(status, 'Unknown')}\r\n"
        lines += header_lines(headers)
        if framing == "chunked":
            lines += "Transfer-Encoding: chunked\r\n"
        elif framing == "close":
            lines += "Connection: close\r\n"
        elif framing == "length":
            assert length is not None, 'framing="length" needs length='
            lines += f"Content-Length: {length}\r\n"
        asked = "" if self._request is None else self._request.headers.get("connection", "")
        said = "\r\nconnection: close\r\n" in lines.lower()
        self._closing = said or framing == "http10" or asked.lower() == "close"
        data = (lines + "\r\n").encode("latin-1")
        self.send(data) if pause is None else self.drip(data, pause=pause)
        self._framing = framing
        self._owed = length or 0

    def write(self, payload: bytes) -> None:
        """A piece of the body in the framing of head(): one chunk, or the bytes as they are."""
        assert self._framing, "write() before head()"
        assert not self.ended, "write() after end(), cut() or reset()"
        self._owed -= len(payload)
        self.send(chunk(payload) if self._framing == "chunked" else payload)

    def drip(self, payload: bytes, size: int = 1, pause: float = 0.0, *, raw: bool = False) -> None:
        """`size` bytes at a time, `pause` seconds apart; unframed before head() or if `raw`."""
        put = self.send if raw or self._framing is None else self.write
        for start in range(0, len(payload), size):
            put(payload[start : start + size])
            self.stall(pause)

    def end(self, trailers: HeaderLines = ()) -> None:
        """What ends this framing. The connection stays for the next request if it can."""
        if self._framing == "chunked":
            self.send(f"0\r\n{header_lines(trailers)}\r\n".encode("latin-1"))
        self.ended = True
        if self._closing or self._owed > 0:
            self.cut()

    def answer(
        self,
        status: int = 200,
        body: bytes = b"",
        content_type: str = "text/plain; charset=utf-8",
        headers: HeaderLines = (),
    ) -> None:
        """A whole answer with Content-Length."""
        pairs = [("Content-Type", content_type), *header_pairs(headers)]
        self.head(status, pairs, framing="length", length=len(body))
        self.write(body)
        self.end()

    def json(self, value: object, status: int = 200, headers: HeaderLines = ()) -> None:
        self.answer(status, json.dumps(value).encode(), "application/json", headers)

    def receive(self, seconds: float | None = None) -> bytes:
        """For AtAccept: the bytes that came, as soon as some have; b"" if the client closed."""
        if not self._wire.buffer:
            self._wire.more(self.server.patience if seconds is None else seconds)
        return self._wire.take()

    def stall(self, seconds: float, *, until_gone: bool = False) -> None:
        """Does nothing for so long, or until the client has gone; stop() ends it at once."""
        if until_gone:
            self.gone(seconds)
        elif seconds > 0 and self.server.stopping.wait(seconds):
            raise Over("the server is being stopped")

    def until(self, event: threading.Event, seconds: float | None = None) -> None:
        """Waits for the test to set the event; TimeoutError (after `patience`) if it does not."""
        deadline = time.monotonic() + (self.server.patience if seconds is None else seconds)
        while not event.wait(0.005):
            if self.server.stopping.is_set():
                raise Over("the server is being stopped")
            if time.monotonic() > deadline:
                raise TimeoutError("the event a script waits for was not set")

    def gone(self, seconds: float) -> bool:
        """Whether the client closes its side of the connection (or has) within that time."""
        deadline = time.monotonic() + seconds
        with suppress(TimeoutError):
            while self._wire.more(deadline - time.monotonic()) and time.monotonic() < deadline:
                pass  # what came is for the next request
        return self._wire.eof

    def cut(self, *, notify: bool = True) -> None:
        """Closes cleanly (FIN) at this place; `notify=False`: on TLS without a close_notify."""
        self.ended = True
        self._wire.fin(notify=notify)

    def reset(self) -> None:
        """Breaks the connection (RST) at this place."""
        self.ended = True
        self._wire.rst()

    def close_after(self, seconds: float = 0.0) -> None:
        """Once the answer is out, an idle connection is kept so long, then closed unannounced."""
        self.idle = seconds


Script = Callable[[Exchange], None]


@dataclass(frozen=True)
class AtAccept:
    """Marks a script that runs when a connection is accepted, before TLS and before any request.

    If its turn in a list comes with a request of a kept-alive connection, it runs on that.
    """

    script: Script

    def __call__(self, exchange: Exchange) -> None:
        self.script(exchange)


class InTurn:
    """Scripts used up one a call; a call too many fails the test."""

    def __init__(self, *scripts: Script) -> None:
        self.left = deque(scripts)
        self._lock = threading.Lock()

    def at_accept(self) -> Script | None:
        with self._lock:
            return self.left.popleft() if self.left and isinstance(self.left[0], AtAccept) else None

    def __call__(self, exchange: Exchange) -> None:
        with self._lock:
            assert self.left, f"no script is left for {exchange.request}"
            script = self.left.popleft()
        script(exchange)


class Routes:
    """A script, or several in turn, for each method and path (a str or a pattern); else 404."""

    def __init__(
        self, table: Mapping[tuple[str, str | re.Pattern[str]], Script | Sequence[Script]]
    ) -> None:
        self._table = [(*key, in_turn(script)) for key, script in table.items()]

    def __call__(self, exchange: Exchange) -> None:
        for method, path, script in self._table:
            found = re.fullmatch(as_pattern(path), exchange.request.path)
            if found and method == exchange.request.method:
                exchange.match = found
                script(exchange)
                return
        exchange.json({"message": "Not Found"}, status=404)


def in_turn(script: Script | Sequence[Script]) -> Script:
    return script if callable(script) else InTurn(*script)


def as_pattern(path: str | re.Pattern[str]) -> re.Pattern[str]:
    return re.compile(re.escape(path)) if isinstance(path, str) else path


class ScriptedServer(LocalService):
    """Runs the script for every request; a list of scripts is used up in order, one a request."""

    def __init__(
        self,
        script: Script | Sequence[Script],
        *,
        tls: ssl.SSLContext | None = None,
        patience: float = 10.0,
    ) -> None:
        super().__init__(patience=patience)
        self._script = in_turn(script)
        self._tls = tls
        self._requests: list[Request] = []

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def requests(self) -> list[Request]:
        with self.changed:
            return list(self._requests)

    @property
    def open(self) -> int:
        """Connections that, as far as the server has seen, neither side has closed."""
        with self.changed:
            return sum(not (wire.eof or wire.finished) for wire in self.wires)

    def paths(self) -> list[str]:
        """A "METHOD /path" for each request, in order, without the query."""
        return [f"{request.method} {request.path}" for request in self.requests]

    def count(self, method: str, path: str | re.Pattern[str] | None = None) -> int:
        pattern = re.compile(".*") if path is None else as_pattern(path)
        paths = [request.path for request in self.requests if request.method == method]
        return sum(bool(pattern.fullmatch(path)) for path in paths)

    def __repr__(self) -> str:
        return f"<ScriptedServer {self.connections} connections, {self.open} open, {self.paths()}>"

    def serve(self, wire: Wire, number: int) -> None:
        script = self._script
        first = script.at_accept() if isinstance(script, InTurn) else script
        if isinstance(first, AtAccept):
            first(Exchange(self, wire, None))
        else:
            if self._tls:
                wire.start_tls(self._tls)
            self._converse(wire, number)
        if not wire.finished:
            wire.fin()

    def _converse(self, wire: Wire, number: int) -> None:
        idle = self.patience
        while request := read_request(wire, number, idle):
            with self.changed:
                self._requests.append(request)
                self.changed.notify_all()
            exchange = Exchange(self, wire, request)
            self._script(exchange)
            with self.changed:
                self.changed.notify_all()
            if not exchange.ended and not exchange.gone(0):
                raise AssertionError(f"the script did not end its answer to {request}")
            if wire.finished or exchange.idle <= 0:
                return
            idle = exchange.idle


def garbage(exchange: Exchange) -> None:
    exchange.send(b"\x00\xff this is no HTTP \xfe\r\n\r\n")
    exchange.cut()


def endless_headers(exchange: Exchange) -> None:
    exchange.send(b"HTTP/1.1 200 OK\r\n")
    for number in range(100_000):  # 8 MB: an end after all, for clients that swallow everything
        exchange.send(b"X-Filler-%d: %s\r\n" % (number, b"x" * 64))
    exchange.cut()


say_nothing = AtAccept(lambda exchange: exchange.stall(exchange.server.patience, until_gone=True))
hang_up = AtAccept(lambda exchange: exchange.cut())
hang_up_rudely = AtAccept(lambda exchange: exchange.reset())


@contextmanager
def refusing_port() -> Iterator[int]:
    """A port of 127.0.0.1 that refuses connections, and that nobody else can take meanwhile."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


@contextmanager
def unaccepted_port(*, full: bool = False) -> Iterator[int]:
    """A port that listens and never accepts: clients wait; if `full`, already for connecting."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        with suppress(TimeoutError):
            for _ in range(16 if full else 0):
                sock = stack.enter_context(socket.socket())
                sock.settimeout(0.1)
                sock.connect(listener.getsockname())
        yield listener.getsockname()[1]


@dataclass(frozen=True)
class Certificates:
    server: ssl.SSLContext  # good for 127.0.0.1 and localhost
    other_host: ssl.SSLContext  # good for chat.example only
    untrusted: ssl.SSLContext  # the right names, from an authority nobody trusts
    ca: str  # path of the PEM file that a client must trust


@functools.cache
def certificates() -> Certificates:
    """Made once for the whole test run."""
    import trustme  # here, as the proxies need nothing but the standard library

    def context(authority: trustme.CA, *names: str) -> ssl.SSLContext:
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(*names).configure_cert(made)
        return made

    ca = trustme.CA()
    handle, path = tempfile.mkstemp(suffix=".pem")
    os.close(handle)
    atexit.register(os.unlink, path)
    ca.cert_pem.write_to_path(path)
    return Certificates(
        server=context(ca, "127.0.0.1", "localhost"),
        other_host=context(ca, "chat.example"),
        untrusted=context(trustme.CA(), "127.0.0.1", "localhost"),
        ca=path,
    )
