"""Send requests to one server and return its responses. Adds cookies and Referer, and retries."""

from __future__ import annotations

import os
import random
import re
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests
import urllib3
from requests.utils import select_proxy

from h2o_client.errors import (
    ConfigurationError,
    H2oError,
    TimeoutName,
    TransportError,
    TransportTimeout,
)
from h2o_client.log import log
from h2o_client.timeouts import Expired, monotonic
from h2o_client.transport.address import (
    check_environment,
    check_headers,
    check_verify,
    parse_base_url,
    parse_proxy,
)
from h2o_client.transport.call import Call
from h2o_client.transport.compat import (
    Addresses,
    ResponseBreaker,
    current,
    environment,
    new_session,
    prepare,
    send,
    set_cookies,
)
from h2o_client.transport.cookies import SessionJar, cookie_of_environment, is_loopback
from h2o_client.transport.failures import (
    NETWORK_FAILURES,
    proxy_refused,
    root_of,
    translated,
    without_frames,
)
from h2o_client.transport.locks import Slots
from h2o_client.transport.response import Response
from h2o_client.version import __version__
from h2o_client.wire.refusal import is_referer_refusal, wait_of
from h2o_client.wire.request import Request

if TYPE_CHECKING:
    from h2o_client.config import SessionConfig

_LONGEST_RETRY_AFTER = 60.0
_PROXY_VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
_ENVIRONMENT = (
    *_PROXY_VARIABLES,
    *map(str.upper, _PROXY_VARIABLES),
    "REQUEST_METHOD",  # of CGI, where HTTP_PROXY is a client's header
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
)


class Transport:
    """One server: its base URL, its cookies, its connections. Threads may share it."""

    base_url: str

    def __init__(self, config: SessionConfig) -> None:
        self.base_url, credentials = parse_base_url(config.address)
        given, cookies = check_headers(config.headers), config.cookies
        for name in [name for name in given if name.lower() == "cookie"]:
            cookies = given[name] if cookies is None else cookies
            del given[name]
        if cookies is None:
            cookies = cookie_of_environment(self.base_url)
        if credentials:
            given.setdefault("Authorization", credentials)
        self._headers = given
        self._proxies = parse_proxy(config.proxy)
        self._uses_environment = config.proxy is None  # for the proxies
        self.cookies: SessionJar = SessionJar(
            self.base_url, cookies, insecure=config.insecure_cookies, proxy=config.proxy
        )
        self._verify = check_verify(config.verify)
        most = config.max_connections
        self._slots = None if most is None else Slots(most)
        # The default server no longer exists: do not retry.
        self.max_retries: int = config.max_retries if config.has_address else 0
        scheme, self._address = self.base_url.split("://")
        # A zone is this machine's name for a network. The server must not see it (RFC 6874).
        self._address, zones = re.subn(r"%[^\]/]*\]", "]", self._address, count=1)
        # http.client leaves the zone out of the Host header since Python 3.11.
        self._host = self._address.partition("/")[0] if zones else ""
        self._tls = scheme == "https"
        self._addresses = Addresses(self.base_url)
        # There is no lock: each of the following is replaced as a whole, and threads that replace
        # it at the same time set the same value. Cookies and the connection pool have their own
        # locks.
        self._scheme = scheme
        self._closed = False  # never becomes False again
        # The environment variables that were last read, and the settings made from them.
        self._seen: tuple[tuple[object, ...] | None, dict[str, Any]] = (None, {})
        self._pid = os.getpid()
        self._session = new_session(self._verify)

    @property
    def referer(self) -> str:
        """The Referer of forms. Its scheme is the one that the server assumes for itself."""
        return f"{self._scheme}://{self._address}/"

    def open(self, request: Request, call: Call) -> Response:
        """Send ``request`` and return the response, of any status, when its headers have arrived.

        A request is retried if it failed before a byte was sent, or was refused with a Retry-After.
        An idempotent request is retried after every network failure. At most ``max_connections``
        responses are open at once. Raises `TransportError`, `TransportTimeout`, `ProtocolError`,
        `ConfigurationError`, and `Woken`.
        """
        try:
            return self._send_with_retries(request, call, take=lambda response: None, limited=True)
        except BaseException:
            call.release()
            raise

    def request(
        self,
        request: Request,
        call: Call,
        *,
        urgent: bool = False,
        enough: Callable[[bytes], bool] | None = None,
    ) -> Response:
        """Like `open`, but read the whole body.

        Of a long body, read only the beginning that ``enough`` accepts: see `Response.whole`.
        ``urgent``: send the request even if the transport is closed.
        """
        try:
            take = partial(Response.whole, enough=enough)
            return self._send_with_retries(request, call, urgent=urgent, take=take)
        except BaseException:
            call.detach()
            raise
        finally:
            if self._closed:
                self._session.close()

    def proxies(self) -> dict[str, str]:
        """The addresses of the proxies, by the scheme of the requests that use them."""
        found = self._settings(self._open_session(), self.base_url)["proxies"]
        return dict(found)

    def close(self) -> None:
        """Close the idle connections; others are closed with their responses. Idempotent."""
        self._closed = True
        self._session.close()

    def forget(self) -> None:
        """Free all slots in a forked child: the answers that hold them belong to the parent."""
        if self._slots is not None:
            self._slots = self._slots.renewed()

    def _send_with_retries(
        self,
        request: Request,
        call: Call,
        *,
        urgent: bool = False,
        limited: bool = False,
        take: Callable[[Response], object],
    ) -> Response:
        flipped = False
        for attempt in range(self.max_retries + 2):
            # A request with a short time limit is not retried.
            last = attempt >= self.max_retries or call.at_most is not None
            if limited and self._slots is not None:
                call.sent = False
                with self.translating(call):
                    call.holds(self._slots)
                    self._slots.take(call)
            try:
                response = self._send_once(request, call, urgent)
                take(response)
                if is_referer_refusal(response.status, _refused(response)) and not flipped:
                    flipped = True
                    self._flip_referer(response.referer)
                    response = self._send_once(request, call, urgent)
                    take(response)
            except TransportError as exc:
                if last or not _may_be_repeated(request, call, exc):
                    raise
                wait, why = _backoff(attempt), str(exc)
            else:
                retry_after = _retry_after(response)
                if last or retry_after is None:
                    return response
                response.close()
                # Wait a little even if the server says 0, or a time in the past.
                wait, why = max(retry_after, _backoff(attempt)), f"status {response.status}"
            log.info("retrying %s in %.1f s: %s", request, wait, why)
            with self.translating(call):
                call.pause(wait)
        raise AssertionError("the last attempt returns or raises")  # pragma: no cover

    def _flip_referer(self, refused: str) -> None:
        # Without ORIGIN a server assumes https for itself. Decide by the refused Referer, not by
        # the current scheme: another thread may have flipped that already.
        self._scheme = "http" if refused.startswith("https:") else "https"

    @contextmanager
    def translating(self, call: Call) -> Iterator[None]:
        """Raise `TransportTimeout` if a timeout expires inside the block."""
        try:
            yield
        except Expired as exc:
            raise translated(exc, call, self.base_url) from exc

    def _send_once(self, request: Request, call: Call, urgent: bool) -> Response:
        if self._closed and not urgent:
            raise ConfigurationError("This session is closed", hint="Make another H2oSession.")
        began = monotonic()
        call.sent = False
        prepared = self._prepare(request)
        raw = self._send(prepared, call, request.budget)
        call.headers_received()
        try:
            self.cookies.take(set_cookies(raw), urlsplit(prepared.url or "").path)
        except BaseException:
            raw.close()
            raise
        response = Response(
            raw, call, prepared.url or "", prepared.headers["Referer"], request.path
        )
        if response.status == 407:
            response.close()
            raise proxy_refused(prepared.url or "")
        took = (monotonic() - began) * 1000
        log.debug("%s: %d after %.0f ms", request, response.status, took)
        return response

    def _prepare(self, request: Request) -> requests.PreparedRequest:
        referer = self.referer
        headers = {
            "User-Agent": f"h2o-chat/{__version__}",
            "Accept": request.accept,
            # A chat-ui of 2023 labels plain text as gzip: request no compression.
            "Accept-Encoding": "identity",
            "Origin": "/".join(referer.split("/", 3)[:3]),
            "Referer": referer,
        }
        if self._host:
            headers["Host"] = self._host
        if request.content_type:
            headers["Content-Type"] = request.content_type
        if self._headers:
            headers = {**headers, **self._headers}
        url = self._addresses.url(request.path)
        prepared = prepare(request.method, url, headers, request.body)
        cookie = self.cookies.header(prepared)
        if cookie:
            prepared.headers["Cookie"] = cookie
        return prepared

    def _open_session(self) -> requests.Session:
        if self._pid != os.getpid():
            # After a fork the connections belong to the parent process.
            self._pid = os.getpid()
            self._session = new_session(self._verify)
        return self._session

    def _settings(self, session: requests.Session, url: str) -> dict[str, Any]:
        # requests would read the whole environment twice for every request.
        found = environment(_ENVIRONMENT)
        seen, settings = self._seen
        if found != seen:
            verify = True if isinstance(self._verify, ssl.SSLContext) else self._verify
            settings = dict(
                # A copy, because requests adds the proxies of the environment to it.
                session.merge_environment_settings(url, dict(self._proxies), True, verify, None)
            )
            # The environment's proxies are not used for loopback addresses.
            is_direct = not self._uses_environment or is_loopback(urlsplit(url).hostname or "")
            if not self._proxies and is_direct:
                settings["proxies"] = {}
            check_environment(
                None if self._proxies else select_proxy(url, settings["proxies"]),
                settings["verify"] if verify is True and self._tls else None,
            )
            self._seen = found, settings
        return settings

    def _proxy_of(self, url: str) -> str:
        """The address of the proxy, without credentials; "" without one."""
        proxy = select_proxy(url, self._seen[1].get("proxies"))
        return "" if proxy is None else proxy.rpartition("@")[2].rpartition("://")[2].rstrip("/")

    def _send(
        self, prepared: requests.PreparedRequest, call: Call, budget: TimeoutName
    ) -> urllib3.BaseHTTPResponse:
        url = prepared.url or ""
        session = self._open_session()
        try:
            connect = call.connecting(budget)
            current.call = call
            call.sent = True  # until the connection reports that no byte was sent
            # The read timeout is for connections of other libraries. Others use the call's clock.
            timeout = (connect, getattr(call.timeouts, budget))
            settings = self._settings(session, url)
            raw = send(session, prepared, timeout=timeout, settings=settings)
        except (*NETWORK_FAILURES, ValueError) as exc:
            if isinstance(exc, H2oError):
                raise
            try:
                call.check()
                # Translate before detaching the socket: the name of the timeout depends on it.
                error = translated(exc, call, url, proxy=self._proxy_of(url))
            finally:
                call.detach()
            without_frames(exc)
            # The message of the original error may show a secret, such as a cookie or a password.
            raise error from (None if isinstance(error, ConfigurationError) else root_of(exc))
        finally:
            current.call = None
        if not call.is_connected:  # another library hides its connection
            call.attach(ResponseBreaker(raw))
            call.await_response()
        return raw


def _refused(response: Response) -> bytes:
    return response.whole() if response.status == 403 else b""


def _retry_after(response: Response) -> float | None:
    if response.status not in (429, 503):
        return None
    # A 429 without the header is not retried: v0.6 prolongs the ban with each refused attempt.
    seconds = wait_of(response.headers)
    return seconds if seconds is not None and seconds <= _LONGEST_RETRY_AFTER else None


def _may_be_repeated(request: Request, call: Call, exc: TransportError) -> bool:
    if exc.permanent:
        return False
    if isinstance(exc, TransportTimeout) and exc.which != "connect":
        return False
    return request.safe or not call.sent


def _backoff(attempt: int) -> float:
    return float(min(8.0, 0.5 * 2**attempt) * random.uniform(0.5, 1.0))
