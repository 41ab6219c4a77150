"""Check the origin and the key of each request before its route is called.

A web page must not be able to use the session with the chat-ui. So requests with another host name
(DNS rebinding) or from another origin are refused unless the operator allows them, and prompts must
be JSON, which an HTML form cannot send.
"""

from __future__ import annotations

from collections.abc import Collection

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from h2o_client.gateway.keys import Keys, Owner
from h2o_client.gateway.openai_error import ApiError
from h2o_client.gateway.responses import send_error
from h2o_client.server.hook import host_name, is_loopback

OWNER = "h2o_client.owner"
"""The key of the `Owner` in a request's ASGI scope."""

OPEN_PATHS = frozenset({"/health"})
"""Paths that need no key."""

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_OTHER_SITES = frozenset({"cross-site", "same-site"})
_EXPOSED = "x-conversation-id, x-ignored-parameters"


class RequestRules:
    """ASGI middleware that checks requests, and adds the `OWNER` to their scope.

    ``hosts``: the accepted host names besides those of loopback; None accepts any. ``origins``: the
    origins whose pages may use the gateway ("*": all).
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: Keys,
        hosts: Collection[str] | None,
        origins: Collection[str],
    ) -> None:
        self._app = app
        self._keys = keys
        self._hosts = hosts
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        try:
            self._check_name(scope, headers)
            self._check_origin(headers)
            if origin is not None:
                send = _allowing(origin, send)
            if scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
                await _allow(headers, send)
                return
            self._check_type(scope, headers)
            if scope["path"] not in OPEN_PATHS:
                scope[OWNER] = self._owner(headers)
        except ApiError as exc:
            await send_error(send, exc)
            return
        await self._app(scope, receive, send)

    def _check_name(self, scope: Scope, headers: Headers) -> None:
        host = host_name(headers.get("host", ""))
        if self._hosts is not None and not (host and (is_loopback(host) or host in self._hosts)):
            raise ApiError(
                421,
                f"Unknown host name {host[:80]!r}. Use the address that the gateway listens on, or "
                "allow this name with --allow-host.",
                code="unknown_host",
            )
        address, port = scope.get("server") or ("", None)
        # A Unix socket has no port.
        if not self._keys.are_needed and port is not None and not is_loopback(address):
            raise ApiError(
                403,
                "Without keys, the gateway serves this machine only. Start it with --keys.",
                type="permission_error",
                code="keys_needed",
            )

    def _check_origin(self, headers: Headers) -> None:
        origin = headers.get("origin")
        if "*" in self._origins or origin in self._origins:
            return
        if origin is None:
            # Browsers send no Origin with a GET for an image or a link of a page.
            if headers.get("sec-fetch-site", "none") in _OTHER_SITES:
                raise ApiError(
                    403,
                    "Pages of other sites may not use this gateway. Open its address directly.",
                    type="permission_error",
                    code="foreign_origin",
                )
            return
        own = headers.get("host", "").lower()
        if origin.lower() in (f"http://{own}", f"https://{own}"):
            return
        raise ApiError(
            403,
            f"Pages of {origin[:80]!r} may not use this gateway. Allow them with --allow-origin.",
            type="permission_error",
            code="foreign_origin",
        )

    def _check_type(self, scope: Scope, headers: Headers) -> None:
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if scope["method"] not in _SAFE and kind != "application/json":
            raise ApiError(
                415,
                "Send the body as JSON, with 'Content-Type: application/json'.",
                code="unsupported_media_type",
            )

    def _owner(self, headers: Headers) -> Owner:
        owner = self._keys.owner(headers.get("authorization", ""))
        if owner is None:
            raise ApiError(
                401,
                "Unknown or missing API key. Send 'Authorization: Bearer KEY' with a key from the "
                "gateway's keys file.",
                type="authentication_error",
                code="invalid_api_key",
                headers={"www-authenticate": "Bearer"},
            )
        return owner


def _allowing(origin: str, send: Send) -> Send:
    """Wrap ``send`` so that pages of ``origin`` may read the response."""

    async def send_allowing(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["access-control-allow-origin"] = origin
            headers["access-control-expose-headers"] = _EXPOSED
            headers.add_vary_header("origin")
        await send(message)

    return send_allowing


async def _allow(headers: Headers, send: Send) -> None:
    """Answer a browser's CORS preflight request."""
    allowed = [
        (b"access-control-allow-methods", b"GET, POST"),
        (
            b"access-control-allow-headers",
            headers.get("access-control-request-headers", "").encode("latin-1"),
        ),
        (b"access-control-max-age", b"600"),
        (b"content-length", b"0"),
    ]
    await send({"type": "http.response.start", "status": 204, "headers": allowed})
    await send({"type": "http.response.body", "body": b""})
