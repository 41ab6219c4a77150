"""What stands before every route: the session's cookie, the Referer rule, the terms, the limits.

chat-ui does the same in its ``hooks.server.ts``. Refusals made here set no cookie.
"""

from __future__ import annotations

import uuid
from datetime import timedelta
from email.utils import format_datetime
from urllib.parse import quote, unquote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import cookie_parser
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from h2o_client.server.forms import MULTIPART, URLENCODED, media_type
from h2o_client.server.store import Store, now

COOKIE = "hf-chat"
BODY_LIMIT = 512 * 1024


class Hook:
    """ASGI middleware. The session's id stands in ``request.state.session`` behind it.

    ``origin`` is what the server believes its own origin to be: a scheme alone ("https") or a
    whole origin; by default http and the request's Host.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        store: Store,
        terms: bool,
        origin: str | None,
        secure_cookie: bool,
    ) -> None:
        self._app = app
        self._store = store
        self._terms = terms
        self._origin = origin or "http"
        self._secure = secure_cookie

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        session = unquote(cookie_parser(headers.get("cookie", "")).get(COOKIE, ""))
        session = session or str(uuid.uuid4())
        refusal = self._refusal(scope, headers, session)
        if refusal is not None:
            await refusal(scope, receive, send)
            return

        async def send_with_cookie(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).append("set-cookie", self._cookie(session))
            await send(message)

        scope.setdefault("state", {})["session"] = session
        await self._app(scope, _limited(receive), send_with_cookie)

    def own_origin(self, headers: Headers) -> str:
        """The origin that a form's Referer must have."""
        return self._origin if "://" in self._origin else f"{self._origin}://{headers.get('host')}"

    def _refusal(self, scope: Scope, headers: Headers, session: str) -> Response | None:
        if _declared_length(headers) > BODY_LIMIT:
            return PlainTextResponse("Invalid request body", 413)
        if scope["method"] == "POST" and _is_form(headers):
            refusal = self._referer_refusal(headers)
            if refusal is not None:
                return refusal
        if self._terms and scope["method"] not in _SAFE and scope["path"] != "/settings":
            return self._terms_refusal(headers, session)
        return None

    def _referer_refusal(self, headers: Headers) -> Response | None:
        referer = headers.get("referer")
        if not referer:
            return _refused(403, "Non-JSON form requests need to have a referer", headers)
        try:
            own, theirs = _origin_of(self.own_origin(headers)), _origin_of(referer)
        except ValueError:
            return JSONResponse({"message": "Internal Error"}, 500)
        if own != theirs:
            return _refused(403, "Invalid referer for POST request", headers)
        return None

    def _terms_refusal(self, headers: Headers, session: str) -> Response | None:
        if self._store.settings(session).accepted_at is not None:
            return None
        return _refused(405, "You need to accept the welcome modal first", headers)

    def _cookie(self, session: str) -> str:
        expires = format_datetime(now() + timedelta(days=365), usegmt=True)
        scope = "Secure; SameSite=None" if self._secure else "SameSite=Lax"
        value = quote(session, safe="!'()*")
        return f"{COOKIE}={value}; Path=/; Expires={expires}; HttpOnly; {scope}"


_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_FORMS = frozenset({URLENCODED, MULTIPART, "text/plain"})
_PORTS = {"http": 80, "https": 443}


def _refused(status: int, said: str, headers: Headers) -> Response:
    wanted = headers.get("accept", ""), headers.get("content-type", "")
    if any("application/json" in each for each in wanted):
        return JSONResponse({"error": said}, status)
    # No charset, as chat-ui.
    return Response(said, status, {"content-type": "text/plain"})


def _is_form(headers: Headers) -> bool:
    return media_type(headers.get("content-type", "")) in _FORMS


def _origin_of(url: str) -> tuple[str, str, int | None]:
    parts = urlsplit(url)
    if not parts.scheme or not parts.hostname:
        raise ValueError(f"{url!r} has no origin")
    return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme)


def _declared_length(headers: Headers) -> int:
    length = headers.get("content-length", "0")
    return int(length) if length.isdecimal() else 0


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
