"""Small HTTP and SOCKS5 proxies on 127.0.0.1 that log requests and forward bytes unchanged.

They reach only this machine: loopback addresses, and names given as `hosts={"chat.example": port}`,
so that a test can use any host name without DNS. A cut or a reset on one side is passed on.
"""

from __future__ import annotations

import base64
import ipaddress
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPMessage
from typing import Generic, TypeVar
from urllib.parse import urlsplit

from local_service import PATIENCE, LocalService, Over, Request, Wire, read_request
from scripted import chunk, header_lines


@dataclass(frozen=True)
class SocksRequest:
    """The target of a SOCKS5 client. `kind` is "domain" if the proxy resolves it, or "ipv4"."""

    host: str
    port: int
    kind: str
    user: str | None


class OneWay:
    """A thread that forwards bytes from `source` to `target`, and notes the end of the source."""

    def __init__(self, service: LocalService, source: Wire, target: Wire) -> None:
        self.retired = False  # the end is not forwarded to the target
        self.over = threading.Event()
        self._source = source
        self._target = target
        service.spawn(self.carry)

    def carry(self) -> None:
        try:
            while carry_some(self._source, self._target):
                pass
        finally:
            if not self.retired:
                pass_on_end(self._source, self._target)
            self._source.close()
            self.over.set()


def carry_some(source: Wire, target: Wire) -> bool:
    """Return False if the source has ended or nothing arrived in time."""
    with suppress(TimeoutError):
        if source.buffer or source.more(source.service.patience):
            target.send(source.take())
            return True
    return False


def pass_on_end(source: Wire, target: Wire) -> None:
    # Another thread reads the target. If it were closed here, that thread could wait on whatever
    # socket gets the same descriptor.
    target.rst(close=False) if source.was_reset else target.fin(notify=False)


Entry = TypeVar("Entry")


class Proxy(LocalService, Generic[Entry]):
    """The base of both proxies. `login` is (user, password). `failing` refuses all requests."""

    def __init__(
        self,
        *,
        login: tuple[str, str] | None = None,
        failing: bool = False,
        hosts: Mapping[str, int] | None = None,
        patience: float = PATIENCE,
    ) -> None:
        super().__init__(patience=patience)
        self.login = login
        self.failing = failing
        self.hosts = dict(hosts or {})
        self._log: list[Entry] = []

    @property
    def log(self) -> list[Entry]:
        """All requests to the proxy, in order, including refused ones."""
        with self.changed:
            return list(self._log)

    def note(self, entry: Entry) -> None:
        with self.changed:
            self._log.append(entry)
            self.changed.notify_all()

    def reach(self, host: str, port: int) -> Wire | None:
        """A connection to the target, or None if it is refused or not on this machine."""
        if host in self.hosts:
            host, port = "127.0.0.1", self.hosts[host]
        with suppress(OSError, ValueError):
            if host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback:
                return self.wire(socket.create_connection((host.strip("[]"), port), self.patience))
        return None

    def wait_until(self, event: threading.Event) -> None:
        """Wait, at most until the proxy stops."""
        end = time.monotonic() + self.patience
        while not event.wait(0.02) and not self.stopping.is_set() and time.monotonic() < end:
            pass

    def tunnel(self, client: Wire, target: Wire) -> None:
        back = OneWay(self, target, client)
        try:
            while carry_some(client, target):
                pass
        finally:
            pass_on_end(client, target)
            self.wait_until(back.over)


class LoggingProxy(Proxy[Request]):
    """An HTTP proxy: CONNECT tunnels, and absolute-form requests, which it forwards."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def url_with_login(self) -> str:
        user, password = self.login or ("", "")
        return f"http://{user}:{password}@127.0.0.1:{self.port}"

    def lines(self) -> list[str]:
        """A "METHOD target" for each request; the target is a URL, or host:port of a CONNECT."""
        return [f"{request.method} {request.target}" for request in self.log]

    def serve(self, wire: Wire, number: int) -> None:
        upstream: Wire | None = None
        reached = ("", 0)
        back: OneWay | None = None
        try:
            while request := read_request(wire, number, self.patience):
                self.note(request)
                if not self._admits(request.headers):
                    return refuse(wire, "407 Proxy Authentication Required")
                tunnel = request.method == "CONNECT"
                url = urlsplit("//" + request.target if tunnel else request.target)
                where = (url.hostname or "", url.port or 80)
                if where != reached and upstream and back:
                    back.retired = True
                    upstream.wake()
                    upstream = None
                if not upstream:
                    upstream = None if self.failing else self.reach(*where)
                    if not upstream:
                        return refuse(wire, "502 Bad Gateway")
                    reached = where
                    if tunnel:
                        wire.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
                        return self.tunnel(wire, upstream)
                    back = OneWay(self, upstream, wire)
                upstream.send(forwarded(request))
        finally:
            if upstream and back:
                pass_on_end(wire, upstream)
                self.wait_until(back.over)

    def _admits(self, headers: HTTPMessage) -> bool:
        wanted = base64.b64encode(":".join(self.login or ()).encode()).decode()
        return not self.login or headers.get("proxy-authorization") == f"Basic {wanted}"


def refuse(wire: Wire, status: str) -> None:
    lines = f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n"
    if status.startswith("407"):
        lines += 'Proxy-Authenticate: Basic realm="proxy"\r\n'
    wire.send(f"{lines}\r\n".encode())
    wire.fin()


def forwarded(request: Request) -> bytes:
    """The request in origin form, without the headers for the proxy."""
    url = urlsplit(request.target)
    target = (url.path or "/") + (f"?{url.query}" if url.query else "")
    kept = [pair for pair in request.headers.items() if not pair[0].lower().startswith("proxy-")]
    body = request.body
    if "transfer-encoding" in request.headers:
        body = (chunk(body) if body else b"") + b"0\r\n\r\n"
    head = f"{request.method} {target} HTTP/1.1\r\n{header_lines(kept)}\r\n"
    return head.encode("latin-1") + body


class SocksProxy(Proxy[SocksRequest]):
    """A SOCKS5 proxy (RFC 1928, 1929): CONNECT to a domain name or an IPv4 address."""

    @property
    def url(self) -> str:
        """The URL of the proxy, with its login. With socks5h the proxy resolves names."""
        login = ":".join(self.login) + "@" if self.login else ""
        return f"socks5h://{login}127.0.0.1:{self.port}"

    def serve(self, wire: Wire, number: int) -> None:
        user = self._greet(wire)
        _, command, _, kind = wire.exactly(4)
        if kind == 1:
            host, name = ".".join(str(byte) for byte in wire.exactly(4)), "ipv4"
        elif kind == 3:
            host, name = wire.exactly(wire.exactly(1)[0]).decode("latin-1"), "domain"
        else:
            self._reply(wire, 8)  # address type not supported
            return
        port = int.from_bytes(wire.exactly(2), "big")
        self.note(SocksRequest(host, port, name, user))
        if command != 1:
            self._reply(wire, 7)  # command not supported
        elif self.failing:
            self._reply(wire, 1)  # general failure
        elif upstream := self.reach(host, port):
            self._reply(wire, 0)
            self.tunnel(wire, upstream)
        else:
            self._reply(wire, 5)  # connection refused

    def _greet(self, wire: Wire) -> str | None:
        version, count = wire.exactly(2)
        assert version == 5, f"not SOCKS5: version {version}"
        method = 2 if self.login else 0
        if method not in wire.exactly(count):
            wire.send(b"\x05\xff")
            wire.fin()
            raise Over("the client offers no method that would do")
        wire.send(bytes([5, method]))
        if not self.login:
            return None
        _, length = wire.exactly(2)
        user = wire.exactly(length).decode()
        password = wire.exactly(wire.exactly(1)[0]).decode()
        good = (user, password) == self.login
        wire.send(b"\x01\x00" if good else b"\x01\x01")
        if not good:
            wire.fin()
            raise Over("wrong user or password")
        return user

    def _reply(self, wire: Wire, code: int) -> None:
        wire.send(bytes([5, code, 0, 1, 0, 0, 0, 0, 0, 0]))
        if code:
            wire.fin()
