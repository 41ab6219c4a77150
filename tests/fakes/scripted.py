"""A server on 127.0.0.1 that does exactly what a test's script says, down to the byte.

A script, `Callable[[Exchange], None]`, runs once for each request, and the client's requests are
logged. Every wait has a deadline, nothing outlives the `with` block, and an exception in a script
fails the test. `proxies.py` has the same base, `LocalService`.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import re
import socket
import ssl
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from http.client import responses
from typing import Literal

from local_service import PATIENCE, LocalService, Over, Request, Wire, read_request

Framing = Literal["chunked", "length", "close", "http10"]
HeaderLines = Mapping[str, str] | Iterable[tuple[str, str]]


def chunk(payload: bytes, *, size: int | None = None, extension: str = "") -> bytes:
    """One HTTP chunk. `size=` declares a false length, `extension=` is e.g. ";name=value"."""
    length = len(payload) if size is None else size
    return f"{length:x}{extension}\r\n".encode() + payload + b"\r\n"


def header_pairs(headers: HeaderLines) -> Iterable[tuple[str, str]]:
    return headers.items() if isinstance(headers, Mapping) else headers


def header_lines(headers: HeaderLines) -> str:
    return "".join(f"{name}: {value}\r\n" for name, value in header_pairs(headers))


class Exchange:
    """One request on one connection, and the actions of a script.

    A script ends with end(), answer(), json(), cut() or reset(). A script that returns without one
    of these fails the test if the client is still connected.
    """

    match: re.Match[str] | None = None  # the groups of a pattern of Routes

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
        """Send the status line and headers. With `pause`, send a byte every that many seconds.

        "length" needs `length=`, which may be false; "close" has no length and sends Connection:
        close; "http10" is an HTTP/1.0 response without a length.
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
        """Send a piece of the body in the framing of head(): one chunk, or the plain bytes."""
        assert self._framing, "write() before head()"
        assert not self.ended, "write() after end(), cut() or reset()"
        self._owed -= len(payload)
        self.send(chunk(payload) if self._framing == "chunked" else payload)

    def drip(self, payload: bytes, size: int = 1, pause: float = 0.0, *, raw: bool = False) -> None:
        """Send `size` bytes every `pause` seconds, without framing before head() or if `raw`."""
        put = self.send if raw or self._framing is None else self.write
        for start in range(0, len(payload), size):
            put(payload[start : start + size])
            self.stall(pause)

    def end(self, trailers: HeaderLines = ()) -> None:
        """Send the end of this framing. The connection stays open for more requests if possible."""
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
        """A complete response with Content-Length."""
        pairs = [("Content-Type", content_type), *header_pairs(headers)]
        self.head(status, pairs, framing="length", length=len(body))
        self.write(body)
        self.end()

    def json(self, value: object, status: int = 200, headers: HeaderLines = ()) -> None:
        self.answer(status, json.dumps(value).encode(), "application/json", headers)

    def receive(self, seconds: float | None = None) -> bytes:
        """For AtAccept: wait for bytes and return them, or b"" if the client has closed."""
        if not self._wire.buffer:
            self._wire.more(self.server.patience if seconds is None else seconds)
        return self._wire.take()

    def stall(self, seconds: float) -> None:
        """Sleep. stop() ends it at once."""
        if seconds > 0 and self.server.stopping.wait(seconds):
            raise Over("the server is being stopped")

    def until(self, event: threading.Event, seconds: float | None = None) -> None:
        """Wait for the test to set the event. Raise TimeoutError after `patience`."""
        deadline = time.monotonic() + (self.server.patience if seconds is None else seconds)
        while not event.wait(0.005):
            if self.server.stopping.is_set():
                raise Over("the server is being stopped")
            if time.monotonic() > deadline:
                raise TimeoutError("the event a script waits for was not set")

    def gone(self, seconds: float) -> bool:
        """Whether the client closes its side of the connection within that time."""
        deadline = time.monotonic() + seconds
        with suppress(TimeoutError):
            while self._wire.more(deadline - time.monotonic()) and time.monotonic() < deadline:
                pass  # these bytes belong to the next request
        return self._wire.eof

    def until_gone(self) -> None:
        """Wait for the client to disconnect. Raise TimeoutError after `patience`."""
        if not self.gone(self.server.patience):
            raise TimeoutError("the client does not hang up")

    def cut(self, *, notify: bool = True) -> None:
        """Close cleanly (FIN) here. On TLS, `notify=False` sends no close_notify."""
        self.ended = True
        self._wire.fin(notify=notify)

    def reset(self) -> None:
        """Reset the connection (RST) here."""
        self.ended = True
        self._wire.rst()

    def close_after(self, seconds: float = 0.0) -> None:
        """After the response, close the connection without notice when idle for this time."""
        self.idle = seconds


Script = Callable[[Exchange], None]


@dataclass(frozen=True)
class AtAccept:
    """Marks a script that runs when a connection is accepted, before TLS and any request.

    If its turn in a list is at a request of a kept-alive connection, it runs on that connection.
    """

    script: Script

    def __call__(self, exchange: Exchange) -> None:
        self.script(exchange)


class InTurn:
    """Scripts of which each call uses the next one. A call too many fails the test."""

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
    """A script, or several in turn, for each method and path (str or pattern). Otherwise 404."""

    def __init__(
        self, table: Mapping[tuple[str, str | re.Pattern[str]], Script | Sequence[Script]]
    ) -> None:
        self._table = [(*key, in_turn(script)) for key, script in table.items()]

    def find(self, exchange: Exchange) -> Script | None:
        for method, path, script in self._table:
            found = re.fullmatch(as_pattern(path), exchange.request.path)
            if found and method == exchange.request.method:
                exchange.match = found
                return script
        return None

    def __call__(self, exchange: Exchange) -> None:
        script = self.find(exchange)
        if script is None:
            exchange.json({"message": "Not Found"}, status=404)
        else:
            script(exchange)


def in_turn(script: Script | Sequence[Script]) -> Script:
    return script if callable(script) else InTurn(*script)


def as_pattern(path: str | re.Pattern[str]) -> re.Pattern[str]:
    return re.compile(re.escape(path)) if isinstance(path, str) else path


class ScriptedServer(LocalService):
    """Run the script for every request. Of a list, each request uses the next script."""

    def __init__(
        self,
        script: Script | Sequence[Script],
        *,
        tls: ssl.SSLContext | None = None,
        patience: float = PATIENCE,
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
        """Connections that neither side has closed, as far as the server has noticed."""
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
    for number in range(100_000):  # 8 MB: an end for clients that accept everything
        exchange.send(b"X-Filler-%d: %s\r\n" % (number, b"x" * 64))
    exchange.cut()


say_nothing = AtAccept(lambda exchange: exchange.until_gone())
hang_up = AtAccept(lambda exchange: exchange.cut())
hang_up_rudely = AtAccept(lambda exchange: exchange.reset())


@contextmanager
def refusing_port() -> Iterator[int]:
    """A port of 127.0.0.1 that refuses connections and stays reserved."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


@contextmanager
def unaccepted_port(*, full: bool = False) -> Iterator[int]:
    """A port that listens and never accepts. If `full`, clients cannot even connect."""
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
    untrusted: ssl.SSLContext  # the right names, from an untrusted authority
    ca: str  # path of the PEM file that a client must trust


@functools.cache
def certificates() -> Certificates:
    """Made once for the whole test run."""
    import trustme  # here, because the proxies need only the standard library

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
