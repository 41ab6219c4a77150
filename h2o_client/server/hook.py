"""Middleware before every route: the session's cookie, checks of forms, the terms, and limits.

chat-ui does the same in its ``hooks.server.ts``. `Rules` describes the differences between the
dialects. Refusals by this middleware set no cookie. Two checks are not in chat-ui: web pages of
other sites can neither use another host name of this machine (DNS rebinding) nor send requests that
change something.
"""

from __future__ import annotations

import ipaddress
import uuid
from collections.abc import Callable, Collection, Mapping
from datetime import timedelta
from email.utils import format_datetime
from typing import NamedTuple
from urllib.parse import quote, unquote

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from h2o_client.server.forms import MULTIPART, URLENCODED, media_type
from h2o_client.server.records import now
from h2o_client.server.store import Store

COOKIE = "hf-chat"
BODY_LIMIT = 512 * 1024
_LONGEST_SESSION = 1024


class Rules(NamedTuple):
    """The differences between the dialects in this middleware.

    ``refused_form`` gets the headers of a posted form and the server's origin, and returns the
    refusal or None. ``crash`` returns the document of an error without a message.
    """

    refused_form: Callable[[Headers, str], Response | None]
    crash: Callable[[], Mapping[str, str]]
    cookie_methods: Collection[str]
    cookie_lasts: timedelta


class Hook:
    """The ASGI middleware. It puts the session's id into ``request.state.session``.

    ``origin`` is the server's configured origin, or only its scheme ("https"); by default http and
    the request's Host. ``hosts``: the accepted host names besides those of loopback; None for any.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        store: Store,
        rules: Rules,
        terms: bool,
        origin: str | None,
        secure_cookie: bool,
        hosts: Collection[str] | None,
    ) -> None:
        self._app = app
        self._store = store
        self._rules = rules
        self._terms = terms
        self._origin = origin or "http"
        self._secure = secure_cookie
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        session = session_of(headers) or str(uuid.uuid4())
        refusal = self._refusal(scope, headers, session)
        if refusal is not None:
            await refusal(scope, receive, send)
            return

        async def send_with_cookie(message: Message) -> None:
            begins = message["type"] == "http.response.start"
            if begins and scope["method"] in self._rules.cookie_methods:
                MutableHeaders(scope=message).append("set-cookie", self._cookie(session))
            await send(message)

        scope.setdefault("state", {}).update(session=session, origin=self.own_origin(headers))
        await self._app(scope, _limited(receive), send_with_cookie)

    def own_origin(self, headers: Headers) -> str:
        """The required origin of a form."""
        return self._origin if "://" in self._origin else f"{self._origin}://{headers.get('host')}"

    def _refusal(self, scope: Scope, headers: Headers, session: str) -> Response | None:
        if not self._is_own_host(headers.get("host", "")):
            return refused(421, _NO_SUCH_HOST, headers)
        if _declared_length(headers) > BODY_LIMIT:
            return PlainTextResponse("Invalid request body", 413)
        if scope["method"] == "POST" and _is_form(headers):
            refusal = self._rules.refused_form(headers, self.own_origin(headers))
            if refusal is not None:
                return refusal
        if scope["method"] not in _SAFE and not self._is_own_site(headers):
            return refused(403, "Cross-site requests are refused", headers)
        if self._terms and scope["method"] not in _SAFE and scope["path"] != "/settings":
            return self._terms_refusal(headers, session)
        return None

    def _is_own_host(self, host: str) -> bool:
        if self._hosts is None or not host:
            return True  # DNS rebinding needs a browser, which always sends Host
        name = host_name(host)
        return is_loopback(name) or name in self._hosts

    def _is_own_site(self, headers: Headers) -> bool:
        origin = headers.get("origin")
        if origin is None:
            return True
        # Ignore the scheme, which may differ behind a proxy.
        theirs = origin.rpartition("://")[2].lower()
        own = self.own_origin(headers).rpartition("://")[2].lower()
        return theirs in (own, headers.get("host", "").lower())

    def _terms_refusal(self, headers: Headers, session: str) -> Response | None:
        if self._store.settings(session).accepted_at is not None:
            return None
        return refused(405, "You need to accept the welcome modal first", headers)

    def _cookie(self, session: str) -> str:
        expires = format_datetime(now() + self._rules.cookie_lasts, usegmt=True)
        scope = "Secure; SameSite=None" if self._secure else "SameSite=Lax"
        value = quote(session, safe="!'()*")
        return f"{COOKIE}={value}; Path=/; Expires={expires}; HttpOnly; {scope}"


def refused(status: int, message: str, headers: Headers) -> Response:
    """A refusal by the hook: JSON if the request sent or accepts JSON, else text."""
    wanted = headers.get("accept", ""), headers.get("content-type", "")
    if any("application/json" in each for each in wanted):
        return JSONResponse({"error": message}, status)
    # Without a charset, like chat-ui.
    return Response(message, status, {"content-type": "text/plain"})


_NO_SUCH_HOST = (
    "Unknown host name. Use http://localhost and the server's port, or allow the name with "
    "--allow-host."
)
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_FORMS = frozenset({URLENCODED, MULTIPART, "text/plain"})


def host_name(host: str) -> str:
    """A Host header without its port, in lower case."""
    name = host.strip().lower()
    if name.startswith("["):
        return name[1:].partition("]")[0]
    return name.partition(":")[0].removesuffix(".")


def is_loopback(name: str) -> bool:
    """Whether the name always means this machine."""
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")


def _is_form(headers: Headers) -> bool:
    return media_type(headers.get("content-type", "")) in _FORMS


def _declared_length(headers: Headers) -> int:
    length = headers.get("content-length", "0")
    # Only the first digits: int() refuses more than 4,300.
    return int(length[:20]) if length.isdecimal() else 0


def session_of(headers: Headers) -> str:
    """The value of the session's cookie; "" if it is missing or too long.

    http.cookies is not used: before Python 3.12.6 it takes quadratic time for backslashes.
    """
    found = ""
    for part in headers.get("cookie", "").split(";"):
        name, _, value = part.partition("=")
        if name.strip() == COOKIE:
            found = value.strip().removeprefix('"').removesuffix('"')
    session = unquote(found)
    return session if len(session) <= _LONGEST_SESSION else ""


def _limited(receive: Receive) -> Receive:
    received = 0

    async def receive_some() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > BODY_LIMIT:
            raise HTTPException(413, "Invalid request body")
        return message

    return receive_some
