"""The private names of sockets, http.client, urllib3 and requests that the transport uses.

They are used nowhere else. The public interfaces can neither end a read that blocks in another
thread nor bound the whole wait for a response. Each of these names has a test in
``tests/transport/test_compat.py``:

- http.client: ``HTTPResponse.fp``, ``_read_status``, ``_check_close``, ``_method``, the module's
  ``_read_headers``, ``HTTPConnection.response_class``, ``_tunnel``, ``_buffer``.
- urllib3: ``HTTPResponse._fp``, ``HTTPConnection._new_conn``, ``_dns_host``,
  ``SOCKSConnection._socks_options``, ``HTTPConnectionPool._get_conn``, ``_put_conn``,
  ``ConnectionCls``, ``PoolManager.pool_classes_by_scheme``, ``pools``, and the module
  ``util.connection``, whose functions other libraries replace.
- requests: ``Session.send``, ``Session.get_adapter`` and ``HTTPAdapter.send``, which other
  libraries replace, and ``HTTPAdapter.init_poolmanager``, ``cert_verify``,
  ``get_connection_with_tls_context``, ``build_connection_pool_key_attributes``, which are meant to
  be overridden.
- requests' ``CaseInsensitiveDict._store``, and ``os.environ._data``, where it is a dict.
- PySocks: none; ``socksocket`` is public.

A connection attaches its socket to the current `Call`, so that other threads can wake the call, and
reads within the timeouts of the call. Classes with which another library has replaced urllib3's
(VCR's cassettes, mocks) are used unchanged. Redirects, .netrc and the cookie jar of requests are
not used.
"""

from __future__ import annotations

import email.parser
import http.client
import importlib
import io
import os
import re
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from http.client import HTTPException
from http.cookiejar import DefaultCookiePolicy
from typing import TYPE_CHECKING, Any

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from requests.utils import select_proxy
from urllib3.connection import HTTPConnection
from urllib3.exceptions import (
    ConnectTimeoutError,
    NameResolutionError,
    NewConnectionError,
    ProxyError,
)
from urllib3.util import connection as urllib3_connection

from h2o_client.timeouts import monotonic
from h2o_client.transport.failures import raise_from_handler

if TYPE_CHECKING:
    from urllib3 import HTTPConnectionPool

    from h2o_client.transport.call import Call

_BUFFER = 1 << 11  # for headers only; small, because there may be thousands of connections
_LONGEST_IDLE = 4.0  # seconds; servers close idle connections after 5
_MOST_IDLE = 1000
_MOST_INTERIM = 100
_LONGEST_HELD = 1 << 14
_LONGEST_LINE = 1 << 16
# A header that is sent or read unchanged. Values of urllib3's own (SKIP_HEADER) begin with "@".
_PLAIN_HEADER = re.compile(r"[A-Za-z0-9-]+: (?!@)[ -~]*")
_PLAIN_HEAD = re.compile(r"(?:[!-9;-~]+:[\t -~\xa0-\xff]*\r?\n)*\r?\n")
_HEADER = re.compile(r"([!-9;-~]+):[ \t]*([\t -~\xa0-\xff]*)")
# A connection is urllib3's own if these methods are defined in these modules.
_OWN_METHODS = (
    *("connect", "request", "putheader", "send", "getresponse", "close"),
    *("_new_conn", "_tunnel"),
)
_OWN_MODULES = ("http.client", "urllib3.connection", "urllib3.contrib.socks")


def new_session(verify: bool | str | ssl.SSLContext) -> requests.Session:
    """A session of requests whose pools use the connections of this module."""
    session = requests.Session()
    session.headers.clear()
    session.auth = _KeepHeaders()
    # The transport has its own jar.
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    context = verify if isinstance(verify, ssl.SSLContext) else None
    adapter = _Adapter(context) if _IS_URLLIB3 else _ContextAdapter(context)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session


# urllib3-future, which niquests installs, replaces urllib3 and works differently inside.
_IS_URLLIB3 = issubclass(HTTPConnection, http.client.HTTPConnection)


def send(
    session: requests.Session,
    request: requests.PreparedRequest,
    *,
    timeout: tuple[Any, Any],
    settings: Mapping[str, Any],
) -> urllib3.BaseHTTPResponse:
    """Send a prepared request, and return urllib3's response.

    If there is no proxy, and no other library has replaced a part of requests, urllib3's pool is
    used directly: requests costs more time than the request. Otherwise the adapter sends the
    request, without the session's handling of redirects and cookies. If ``Session.send`` was
    replaced (requests-mock), it is called. ``settings`` are the adapter's arguments; the caller
    passes the same object until they change.
    """
    url = request.url or ""
    is_requests_own = (
        requests.Session.send is _session_send
        and requests.Session.get_adapter is _get_adapter
        and HTTPAdapter.send is _adapter_send
    )
    if is_requests_own:
        adapter = session.get_adapter(url)
        pool = adapter.direct_pool(request, settings) if isinstance(adapter, _Adapter) else None
        if pool is not None:
            raw: urllib3.BaseHTTPResponse = pool.urlopen(
                request.method or "",
                request.path_url,
                body=request.body,
                headers=_plain(request.headers),  # a plain dict, because urllib3 reads it often
                redirect=False,
                assert_same_host=False,
                preload_content=False,
                decode_content=False,
                retries=adapter.max_retries,  # type: ignore[attr-defined]
                timeout=urllib3.Timeout(connect=timeout[0], read=timeout[1]),
            )
            return raw
        response = adapter.send(request, timeout=timeout, **settings)
    elif requests.Session.send is _session_send:
        response = session.get_adapter(url).send(request, timeout=timeout, **settings)
    else:
        response = session.send(request, timeout=timeout, allow_redirects=False, **settings)
    found: urllib3.BaseHTTPResponse = response.raw
    return found


def _plain(headers: Any) -> dict[str, str]:
    return dict(headers._store.values())


_session_send = requests.Session.send
_get_adapter = requests.Session.get_adapter
_adapter_send = HTTPAdapter.send


class Addresses:
    """Makes the URLs of requests to one server. They are normalized in the way of requests.

    The base URL is normalized once. A path of plain characters needs no normalization.
    """

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url
        self._normalized = ""  # made when it is needed, because the base URL may be invalid

    def url(self, path: str) -> str:
        """The URL of a path that begins with a slash. Raises the errors of requests."""
        if _PLAIN_PATH.fullmatch(path) is None or "/." in path:
            return self._normalize(self._base_url + path)
        if not self._normalized:
            self._normalized = self._normalize(self._base_url + "/").removesuffix("/")
        return self._normalized + path

    def _normalize(self, url: str) -> str:
        prepared = requests.PreparedRequest()
        prepared.prepare_url(url, None)
        return prepared.url or ""


_PLAIN_PATH = re.compile(r"/[A-Za-z0-9/_.?&=,~-]*")


def prepare(
    method: str, url: str, headers: Mapping[str, str], body: bytes | None
) -> requests.PreparedRequest:
    """Prepare a request as requests does. ``url`` and ``headers`` must have been checked."""
    request = requests.PreparedRequest()
    request.method, request.url, request.body = method, url, body
    kept: Any = CaseInsensitiveDict()
    kept._store = {name.lower(): (name, headers[name]) for name in headers}
    request.headers = kept
    if body is not None or method not in ("GET", "HEAD"):
        request.headers["Content-Length"] = str(len(body or b""))
    return request


def environment(names: tuple[str, ...]) -> tuple[object, ...]:
    """The values of the environment variables ``names``, for comparisons with later values."""
    kept = getattr(os.environ, "_data", None)  # `os.environ` itself encodes and decodes each
    if type(kept) is not dict:
        return tuple(map(os.environ.get, names))
    return tuple(map(kept.get, _kept_names(names)))


@cache
def _kept_names(names: tuple[str, ...]) -> tuple[object, ...]:
    return tuple(map(os.environ.encodekey, names))


class _Current(threading.local):
    """The call that this thread is sending; urllib3 cannot pass it to a connection."""

    call: Call | None = None


current: _Current = _Current()


class Breaker:
    """Shuts a connection down from any thread, without using the reader's TLS object.

    SSLSocket.shutdown would remove the TLS state while the reader uses it, and patched sockets
    (eventlet, gevent) have other methods. A second file descriptor of the same connection, without
    TLS, avoids both problems.
    """

    def __init__(self, sock: Any, *, own: bool = False) -> None:
        self._own = own or is_tls(sock)
        self._socket = duplicate(sock) if self._own else sock

    def off(self) -> None:
        """End all reading and writing. Never raises."""
        with suppress(OSError, ValueError):  # it may be closed already
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the second descriptor. The connection stays open."""
        if self._own:
            self._socket.close()


class ResponseBreaker(Breaker):
    """Shuts down a response whose connection is hidden by another library, if possible."""

    def __init__(self, raw: urllib3.BaseHTTPResponse) -> None:
        self._raw: Any = raw

    def off(self) -> None:
        """End all reading. Never raises."""
        with suppress(Exception):  # the library may raise anything
            self._raw.shutdown()

    def close(self) -> None:
        """Do nothing: there is no second descriptor."""


def duplicate(sock: Any) -> Any:
    """Return a second socket for the same connection, without TLS."""
    # TLS inside TLS, as with an https proxy, is an object around the socket.
    below = getattr(sock, "socket", sock)
    return socket.fromfd(sock.fileno(), below.family, below.type)


def is_tls(sock: Any) -> bool:
    """Whether a socket of any class speaks TLS."""
    return hasattr(sock, "getpeercert")


def may_be_read_past_buffers(sock: Any) -> bool:
    """Whether the socket can be read directly: it is one of Python's own classes."""
    return type(sock) in (socket.socket, ssl.SSLSocket)


def has_pending(sock: Any) -> bool:
    """Whether bytes may have arrived that a selector would not report."""
    if isinstance(sock, ssl.SSLSocket):
        return bool(sock.pending())
    return type(sock) is not socket.socket  # TLS inside TLS has a buffer that cannot be seen


def set_cookies(raw: urllib3.BaseHTTPResponse) -> list[str]:
    """The values of the Set-Cookie headers of a response of any class."""
    headers: Any = raw.headers
    get = headers.getlist if hasattr(headers, "getlist") else headers.get_all
    return list(get("set-cookie") or ())


class RawBody:
    """The bytes of a response, read from the connection instead of through urllib3.

    urllib3 returns a body one chunk at a time. These bytes keep their framing, which the caller
    removes. If there is no connection, as in mocks, urllib3 reads and removes the framing.
    """

    def __init__(self, raw: urllib3.BaseHTTPResponse) -> None:
        self._raw: Any = raw
        found = getattr(raw, "_fp", None)
        self._response: Any = found if isinstance(found, _PacedResponse) else None
        self.has_framing: bool = self.is_open
        self.chunked: bool = bool(getattr(self._response, "chunked", False)) and self.is_open
        self.length: int | None = getattr(self._response, "length", None) if self.is_open else None

    @property
    def is_open(self) -> bool:
        """Whether there is a connection to read from."""
        return getattr(self._response, "fp", None) is not None

    def read(self, most: int) -> bytes:
        """Return the next bytes as soon as there are any."""
        if self.has_framing and not self.is_open:
            return b""
        # No decode_content=False here: some read1 do not take it, and the request has set it.
        below = self._response.fp if self.has_framing else self._raw
        data: bytes = below.read1(most)
        return data

    def finish(self) -> None:
        """The body has ended: allow the connection to be reused."""
        if self.has_framing:
            self._response.close()


class _PacedReader(io.RawIOBase):
    """Reads a socket within the timeouts of a call, which bound the whole wait, not each read."""

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


class _PacedResponse(http.client.HTTPResponse):
    """A response that reads its headers and body through a `_PacedReader`."""

    def __init__(self, sock: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp.close()
        self.fp = io.BufferedReader(_PacedReader(sock, _call()), _BUFFER)

    def begin(self) -> None:
        if self.headers is not None:
            return
        self._read_head()

    def close(self) -> None:
        if self.fp is not None and self.fp.closed:
            # By the garbage collector; http.client would fail to flush it.
            self.fp = None  # type: ignore[assignment]
        super().close()

    def _read_head(self: Any) -> None:
        """Like http.client's ``begin``, but without its parser for mails, which is slow."""
        version, status, reason = self._read_status()
        self.code = self.status = status
        self.reason = reason.strip()
        if version in ("HTTP/1.0", "HTTP/0.9"):
            self.version = 10
        elif version.startswith("HTTP/1."):
            self.version = 11
        else:
            raise http.client.UnknownProtocol(version)
        lines = http.client._read_headers(self.fp)  # type: ignore[attr-defined]
        if not lines[-1].endswith(b"\n"):
            # http.client would accept incomplete headers: half a cookie, or no Content-Length.
            self.close()
            raise http.client.RemoteDisconnected("the response headers are incomplete")
        self.headers = self.msg = _parsed(lines)
        if self.debuglevel > 0:
            for name, value in self.headers.items():
                print("header:", name + ":", value)
        coding = self.headers.get("transfer-encoding")
        self.chunked = coding is not None and coding.lower() == "chunked"
        if self.chunked:
            self.chunk_left = None
        self.will_close = self._check_close()
        self.length = None
        if not self.chunked:
            with suppress(ValueError, TypeError):
                length = int(self.headers.get("content-length"))
                self.length = None if length < 0 else length
        if status in (204, 304) or 100 <= status < 200 or self._method == "HEAD":
            self.length = 0
        if not self.will_close and not self.chunked and self.length is None:
            self.will_close = True

    def _read_status(self) -> Any:
        # http.client skips only status 100; servers may send others (1xx) before the response.
        for _ in range(_MOST_INTERIM):
            version, status, reason = super()._read_status()  # type: ignore[misc]
            if not 100 <= status < 200 or status == 101:
                return version, status, reason
            while self.fp.readline(_LONGEST_LINE).strip():
                pass
        raise http.client.HTTPException("too many interim responses")


def _parsed(lines: list[bytes]) -> http.client.HTTPMessage:
    """Parse header lines. Only lines that are not plain need the slow parser for mails."""
    head = b"".join(lines).decode("iso-8859-1")
    if _PLAIN_HEAD.fullmatch(head) is None:
        return email.parser.Parser(_class=http.client.HTTPMessage).parsestr(head)
    message = http.client.HTTPMessage()
    for name, value in _HEADER.findall(head):
        message.set_raw(name, value)
    return message


class _PacedConnection:
    """A mixin for urllib3's connections that attaches the socket to the current call."""

    response_class = _PacedResponse
    _held: list[bytes] | None = None  # data that `request` has not sent yet

    def connect(self: Any) -> None:
        call = _call()
        call.sent = False
        super().connect()  # type: ignore[misc]
        call.sent = False  # only the proxy has received anything so far
        call.connected(self.sock)

    def _tunnel(self: Any) -> None:
        try:
            super()._tunnel()  # type: ignore[misc]
        except (ConnectionError, HTTPException) as exc:
            raise ProxyError("Cannot open a tunnel", exc) from exc

    def _new_conn(self: Any) -> Any:
        if urllib3_connection.create_connection is not _create_connection:
            # Another library has replaced it. The call cannot be woken while this connects.
            sock = super()._new_conn()  # type: ignore[misc]
        else:
            sock = self._connected()
        try:
            # A second descriptor, because the first one is detached during the TLS handshake.
            _call().attach(Breaker(sock, own=True))
        except BaseException:
            sock.close()
            raise
        return sock

    def _connected(self: Any) -> Any:
        host = self._dns_host.strip("[]")
        if ":" in host:
            host = host.replace("%25", "%")  # URLs escape the zone of an IPv6 address
        if f".{host.rstrip('.').lower()}".endswith(".localhost"):
            host = "localhost"  # RFC 6761; some systems do not resolve such names

        def connect(sock: Any, address: Any) -> None:
            sock.connect(address)

        return _first_connected(self, host, self.port, socket.socket, connect)

    def request(self: Any, *args: Any, **kwargs: Any) -> None:
        if self.sock is not None:
            _call().connected(self.sock)
        self._held = []
        try:
            super().request(*args, **kwargs)  # type: ignore[misc]
            self._send_held()
        finally:
            self._held = None
        _call().request_sent()

    def putheader(self: Any, header: Any, *values: Any) -> None:
        # urllib3 and http.client check each of them again, which takes longer than all the rest.
        is_text = len(values) == 1 and isinstance(values[0], str)
        line = f"{header}: {values[0]}" if is_text else ""
        if _PLAIN_HEADER.fullmatch(line) is None:
            super().putheader(header, *values)  # type: ignore[misc]
        else:
            self._buffer.append(line.encode("ascii"))

    def send(self: Any, data: Any) -> None:
        if self._held is None:
            self._send(data)
        elif isinstance(data, bytes) and len(data) <= _LONGEST_HELD:
            self._held.append(data)  # sends the headers and a short body in one system call
        else:
            self._send_held()
            self._send(data)

    def _send_held(self: Any) -> None:
        if self._held:
            data = b"".join(self._held)
            self._held.clear()
            self._send(data)

    def _send(self: Any, data: Any) -> None:
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
        except ssl.SSLEOFError:
            # The server may have sent an alert that says why, such as a missing certificate.
            self.sock.settimeout(0.0)
            with suppress(ssl.SSLWantReadError):
                self.sock.recv(1)
            raise


class _PacedSocksConnection(_PacedConnection):
    """urllib3's SOCKS connection; the call can be woken while it waits for the proxy."""

    def _connected(self: Any) -> Any:
        socks = importlib.import_module("socks")
        options = self._socks_options
        place = (options["proxy_host"] or "", int(options["proxy_port"] or 1080))

        def connect(sock: Any, address: Any) -> None:
            sock.set_proxy(
                options["socks_version"],
                *place,
                rdns=options["rdns"],
                username=options["username"],
                password=options["password"],
            )
            sock.connect((self.host, self.port))

        try:
            return _first_connected(self, *place, socks.socksocket, connect)
        except (NameResolutionError, NewConnectionError) as exc:
            cause: Any = exc.__cause__
            reason = getattr(cause, "socket_err", None)
            if isinstance(cause, socks.GeneralProxyError) and isinstance(reason, socket.gaierror):
                # With socks5 and socks4 this machine resolves the server's name.
                raise NameResolutionError(self.host, self, reason) from exc
            raise ProxyError("Cannot connect", cause) from exc


def _first_connected(
    connection: Any,
    host: str,
    port: int,
    new_socket: Callable[..., Any],
    connect: Callable[[Any, Any], None],
) -> Any:
    """Connect to the first address of ``host`` that accepts, and return the socket.

    Works like urllib3's create_connection, but attaches the socket to the current call first.
    """
    failed: OSError = OSError("the name has no address")
    family = urllib3_connection.allowed_gai_family()
    try:
        addresses = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as exc:
        raise NameResolutionError(host, connection, exc) from exc  # type: ignore[arg-type]
    if not addresses:
        raise NameResolutionError(host, connection, failed) from failed  # type: ignore[arg-type]
    for its_family, kind, protocol, _, address in addresses:
        sock = None
        try:
            sock = new_socket(its_family, kind, protocol)
            _call().attach(Breaker(sock))
            for option in connection.socket_options or ():
                sock.setsockopt(*option)
            if isinstance(connection.timeout, int | float):
                sock.settimeout(connection.timeout)
            if connection.source_address:
                sock.bind(connection.source_address)
            connect(sock, address)
        except OSError as exc:
            if sock is not None:
                sock.close()
            raise_from_handler(exc)
            _call().check()
            failed = exc
        except BaseException:
            if sock is not None:
                sock.close()
            raise
        else:
            return sock
    if isinstance(failed, TimeoutError):
        raise ConnectTimeoutError(connection, "no connection in time") from failed
    raise NewConnectionError(connection, str(failed)) from failed


_create_connection = urllib3_connection.create_connection


def _call() -> Call:
    assert current.call is not None, "a connection is used without a call"
    return current.call


class _FreshPool:
    """A mixin for urllib3's pools. It does not reuse connections that were idle for too long."""

    @property
    def ConnectionCls(self) -> type:  # noqa: N802 - urllib3's name
        # Looked up at each use: libraries that record or mock replace the class for a while.
        return _paced(super().ConnectionCls)  # type: ignore[misc]

    def _put_conn(self: Any, conn: Any) -> None:
        if conn is not None:
            conn.idle_since = monotonic()
        super()._put_conn(conn)  # type: ignore[misc]

    def _get_conn(self: Any, timeout: float | None = None) -> Any:
        conn = super()._get_conn(timeout)  # type: ignore[misc]
        idle = monotonic() - getattr(conn, "idle_since", monotonic())
        if idle > _LONGEST_IDLE:
            conn.close()
        if isinstance(conn, _PacedConnection):
            _call().sent = False
        return conn


@cache
def _fresh_pool(pool: type) -> type:
    return type("Pool", (_FreshPool, pool), {})


@cache
def _paced(connection: Any) -> type:
    """The class with our mixin; unchanged if it is not one of urllib3's own."""
    if not issubclass(connection, HTTPConnection) or not _is_own(connection):
        return connection  # type: ignore[no-any-return]
    is_socks = hasattr(connection, "_new_conn") and "socks" in connection._new_conn.__module__
    mixed_in = _PacedSocksConnection if is_socks else _PacedConnection
    return type("Connection", (mixed_in, connection), {})


def _is_own(connection: type) -> bool:
    for name in _OWN_METHODS:
        owner = next((each for each in connection.__mro__ if name in vars(each)), None)
        if owner is None or owner.__module__ not in _OWN_MODULES:
            return False
    return True


class _ContextAdapter(HTTPAdapter):
    """The adapter of requests with the caller's SSLContext."""

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self._context = context
        super().__init__(pool_maxsize=_MOST_IDLE)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        if self._context is not None:
            kwargs.setdefault("proxy_ssl_context", self._context)
        return super().proxy_manager_for(proxy, **kwargs)

    def build_connection_pool_key_attributes(self, *args: Any, **kwargs: Any) -> Any:
        host, tls = super().build_connection_pool_key_attributes(*args, **kwargs)
        return host, tls if self._context is None else {"ssl_context": self._context}

    def cert_verify(self, conn: Any, *args: Any, **kwargs: Any) -> None:
        # The caller's context has its own CA certificates.
        if self._context is None:
            super().cert_verify(conn, *args, **kwargs)  # type: ignore[no-untyped-call]


class _Adapter(_ContextAdapter):
    """A `_ContextAdapter` whose pools use the connections of this module."""

    # The settings of requests without a proxy, and their pool. Always replaced as a whole.
    _direct: tuple[Mapping[str, Any], Any] | None = None

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        _use_fresh_pools(self.poolmanager)

    def direct_pool(
        self, request: requests.PreparedRequest, settings: Mapping[str, Any]
    ) -> HTTPConnectionPool | None:
        """The pool for requests with these ``settings``; None if they go through a proxy."""
        known = self._direct
        if known is not None and known[0] is settings:
            return known[1]  # type: ignore[no-any-return]
        url, verify = request.url or "", settings["verify"]
        if select_proxy(url, settings["proxies"]) is not None:
            return None
        pool: Any = self.get_connection_with_tls_context(
            request, verify, proxies=settings["proxies"], cert=settings["cert"]
        )
        self.cert_verify(pool, url, verify, settings["cert"])
        self._direct = settings, pool
        return pool  # type: ignore[no-any-return]

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        known = proxy in self.proxy_manager
        manager = super().proxy_manager_for(proxy, **kwargs)
        if not known:
            _use_fresh_pools(manager)
        return manager

    def close(self) -> None:
        self._direct = None
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
    """An auth that changes nothing, so that requests does not use .netrc instead."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        return request
