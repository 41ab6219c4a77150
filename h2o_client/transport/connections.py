"""requests and urllib3 with connections of our own in their pools.

A connection tells the `Call` under way about its socket, so that it can be woken, and is read
within the call's clock. requests does nothing on its own here: no redirects, no .netrc, no jar.
"""

from __future__ import annotations

import http.client
import io
import socket
import ssl
import threading
import time
from functools import cache
from http.client import HTTPException
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection
from urllib3.exceptions import (
    ConnectTimeoutError,
    NameResolutionError,
    NewConnectionError,
    ProxyError,
)

from h2o_client.transport.call import Call
from h2o_client.transport.failures import raise_from_handler

_BUFFER = 1 << 16
_LONGEST_IDLE = 4.0  # seconds; servers close theirs after 5
_MOST_IDLE = 1000
_MOST_INTERIM = 100


def new_session(verify: bool | str | ssl.SSLContext) -> requests.Session:
    session = requests.Session()
    session.headers.clear()
    session.auth = _KeepHeaders()
    adapter = _Adapter(verify if isinstance(verify, ssl.SSLContext) else None)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session


class _UnderWay(threading.local):
    """The call that this thread is sending: urllib3 has no way to hand it to a connection."""

    call: Call | None = None


under_way: _UnderWay = _UnderWay()


class _PacedReader(io.RawIOBase):
    """A socket read within a call's clock, which bounds the whole wait and not each byte's."""

    def __init__(self, sock: Any, call: Call) -> None:
        self._socket = sock
        self._raw = sock.makefile("rb", buffering=0)
        self._call = call

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        clock = self._call.clock
        left = clock.left() if self._call.patient else 0.0
        if left != self._socket.gettimeout():
            self._socket.settimeout(left)
        try:
            size: int | None = self._raw.readinto(buffer)
        except ssl.SSLWantReadError:
            size = None
        except TimeoutError as exc:
            raise_from_handler(exc)
            clock.expire()
        if size is None:
            self._call.starved = True
        return size

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Head:
    """The lines of an answer's head, up to the blank one, if that comes."""

    def __init__(self, below: Any) -> None:
        self.below = below
        self.is_cut = False

    def readline(self, limit: int) -> bytes:
        line: bytes = self.below.readline(limit)
        self.is_cut = not line.endswith(b"\n")
        return line

    def close(self) -> None:
        self.below.close()

    def flush(self) -> None:
        """Nothing is written here."""


class _PacedResponse(http.client.HTTPResponse):
    """Reads its head and body through a `_PacedReader`."""

    def __init__(self, sock: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp.close()
        self.fp = io.BufferedReader(_PacedReader(sock, _call()), _BUFFER)

    def begin(self) -> None:
        if self.headers is not None:
            return
        head = _Head(self.fp)
        self.fp = head
        try:
            super().begin()
        finally:
            if self.fp is head:
                self.fp = head.below
        if head.is_cut:
            # http.client takes it for whole: with half a cookie, and no word on the body's length.
            self.close()
            raise http.client.RemoteDisconnected("the head of the answer is cut")

    def _read_status(self) -> Any:
        # http.client passes over 100 only: other interim answers come before the real one too.
        for _ in range(_MOST_INTERIM):
            version, status, reason = super()._read_status()  # type: ignore[misc]
            if not 101 < status < 200:
                return version, status, reason
            while self.fp.readline(_BUFFER).strip():
                pass
        raise http.client.HTTPException("too many interim answers")


class _PacedConnection:
    """Mixed into urllib3's connections: tells the call under way about its socket."""

    response_class = _PacedResponse

    def connect(self: Any) -> None:
        self.spare = None
        try:
            super().connect()  # type: ignore[misc]
        finally:
            if self.spare is not None:
                self.spare.close()
        call = _call()
        call.sent = False  # what was sent so far was said to a proxy
        call.connected(self.sock)

    def _tunnel(self: Any) -> None:
        try:
            super()._tunnel()  # type: ignore[misc]
        except (ConnectionError, HTTPException) as exc:
            raise ProxyError("It has made no tunnel", exc) from exc

    def _new_conn(self: Any) -> Any:
        sock = super()._new_conn()  # type: ignore[misc]
        try:
            self.spare = _reached(sock)
        except BaseException:
            sock.close()
            raise
        return sock

    def request(self: Any, *args: Any, **kwargs: Any) -> None:
        if self.sock is not None:
            _call().connected(self.sock)
        super().request(*args, **kwargs)  # type: ignore[misc]
        _call().asked()

    def send(self: Any, data: Any) -> None:
        if self.sock is None:
            self.connect()
        call = _call()
        call.sends()
        self.sock.settimeout(call.clock.left())
        try:
            super().send(data)  # type: ignore[misc]
        except TimeoutError as exc:
            raise_from_handler(exc)
            call.clock.expire()


def _reached(sock: socket.socket) -> socket.socket:
    """A second way to a socket: TLS takes the first one away for the time of its handshake."""
    spare = sock.dup()
    try:
        _call().reaches(spare)
    except BaseException:
        spare.close()
        raise
    return spare


def _call() -> Call:
    assert under_way.call is not None, "a connection is used without a call"
    return under_way.call


class _DirectConnection(_PacedConnection):
    """For connections that urllib3 makes itself: one that is being made can be woken as well."""

    def _new_conn(self: Any) -> Any:
        host = self._dns_host.strip("[]")
        failed = OSError("the name has no address")
        try:
            addresses = socket.getaddrinfo(host, self.port, type=socket.SOCK_STREAM)
        except (socket.gaierror, UnicodeError) as exc:
            raise NameResolutionError(self.host, self, exc) from exc  # type: ignore[arg-type]
        for family, kind, protocol, _, address in addresses:
            sock = socket.socket(family, kind, protocol)
            try:
                _call().reaches(sock)
                for option in self.socket_options or ():
                    sock.setsockopt(*option)
                sock.settimeout(self.timeout)
                sock.connect(address)
                self.spare = _reached(sock)
                return sock
            except OSError as exc:
                sock.close()
                raise_from_handler(exc)
                failed = exc
            except BaseException:
                sock.close()
                raise
        if isinstance(failed, TimeoutError):
            raise ConnectTimeoutError(self, "no connection in time") from failed
        raise NewConnectionError(self, str(failed)) from failed


class _FreshPool:
    """Mixed into urllib3's pools: gives no connection out that has been idle for long."""

    def _put_conn(self: Any, conn: Any) -> None:
        if conn is not None:
            conn.idle_since = time.monotonic()
        super()._put_conn(conn)  # type: ignore[misc]

    def _get_conn(self: Any, timeout: float | None = None) -> Any:
        conn = super()._get_conn(timeout)  # type: ignore[misc]
        idle = time.monotonic() - getattr(conn, "idle_since", time.monotonic())
        if idle > _LONGEST_IDLE:
            conn.close()
        return conn


@cache
def _fresh_pool(pool: Any) -> type:
    below = pool.ConnectionCls
    direct = below._new_conn is HTTPConnection._new_conn
    connection = type("Connection", (_DirectConnection if direct else _PacedConnection, below), {})
    return type("Pool", (_FreshPool, pool), {"ConnectionCls": connection})


class _Adapter(HTTPAdapter):
    """requests' adapter with our connections in its pools, straight or through any proxy."""

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self._context = context
        super().__init__(pool_maxsize=_MOST_IDLE)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        _use_fresh_pools(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        known = proxy in self.proxy_manager
        if self._context is not None:
            kwargs.setdefault("proxy_ssl_context", self._context)
        manager = super().proxy_manager_for(proxy, **kwargs)
        if not known:
            _use_fresh_pools(manager)
        return manager

    def build_connection_pool_key_attributes(self, *args: Any, **kwargs: Any) -> Any:
        host, tls = super().build_connection_pool_key_attributes(*args, **kwargs)
        return host, tls if self._context is None else {"ssl_context": self._context}

    def cert_verify(self, conn: Any, *args: Any, **kwargs: Any) -> None:
        # The caller's own context says itself whom it trusts.
        if self._context is None:
            super().cert_verify(conn, *args, **kwargs)  # type: ignore[no-untyped-call]

    def close(self) -> None:
        # urllib3 leaves its pools to the garbage collector.
        for manager in (self.poolmanager, *self.proxy_manager.values()):
            for key in manager.pools.keys():  # noqa: SIM118 - it has no __iter__
                pool = manager.pools.get(key)
                if pool is not None:
                    pool.close()
        super().close()


def _use_fresh_pools(manager: Any) -> None:
    pools = manager.pool_classes_by_scheme
    manager.pool_classes_by_scheme = {name: _fresh_pool(pool) for name, pool in pools.items()}


class _KeepHeaders(requests.auth.AuthBase):
    """Without an auth of its own requests puts .netrc's over the caller's Authorization."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        return request
