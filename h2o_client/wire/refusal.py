"""Turn an HTTP error response into an exception. Measured on chat-ui v0.3 to HEAD."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime

from h2o_client.errors import (
    MODEL_DOWN,
    AuthenticationError,
    ElicitationClosedError,
    Hint,
    ModelUnavailableError,
    NotFoundError,
    Origin,
    OriginError,
    RateLimitError,
    ServerError,
    StatusError,
    TermsNotAcceptedError,
)
from h2o_client.wire import json

GATEWAY_FAILED = (502, 504, 520, 524)
"""Statuses of a gateway whose server may be generating the answer."""

_CLASSES: dict[int, type[StatusError]] = {
    401: AuthenticationError,
    403: AuthenticationError,
    404: NotFoundError,
    405: TermsNotAcceptedError,
    409: ElicitationClosedError,
    410: ModelUnavailableError,
    429: RateLimitError,
}
_HINTS = {
    408: "The whole request did not arrive in time. It can be sent again.",
    413: "Make the prompt shorter or the files smaller, or ask the operator to allow more.",
}
_GATEWAY_HINTS = {
    401: Hint(
        "The gateway, not the chat-ui, requires a login. Pass "
        "{base_url:https://name:password@host}, or the headers that it needs in {headers}."
    ),
    404: Hint("There is no chat-ui at this path. Check {base_url}, which may need a path."),
}
_GATEWAY_HINT = Hint(
    "The chat-ui itself did not refuse. Check {base_url}, or ask the gateway's operator. Pass "
    "headers and cookies for the gateway in {headers} and {cookies}."
)
_NO_ROUTE_HINT = Hint(
    "The server does not have this route. Check {base_url}, which may need a path, and "
    "{server_version} if you passed it."
)
_TERMS = re.compile("accept", re.IGNORECASE)
_TITLE = re.compile(r"<(?:title|h1)[^>]{0,200}>([^<]*)", re.IGNORECASE)
# Text in SvelteKit's pages, and in its error page without a layout.
_CHAT_UI_PAGE = re.compile(r"_app/immutable|sveltekit|--divider: #ccc")
_GATEWAY_STATUSES = (502, 504, 511, *range(520, 531))  # the last are Cloudflare's
# Things that chat-ui's own 404 messages name. Other messages mean that the route does not exist.
_FOUND_NOTHING = re.compile("conversation|message|assistant|model|elicitation", re.IGNORECASE)
_REFERER_REFUSALS = (b"Invalid referer", b"Cross-site", b"form requests need to have a")
_MALFORMED = (400, 500)  # statuses for a malformed conversation id
_ID_IN_URL = re.compile(r"/conversations?/([^/?]+)")
_LONGEST_BODY = 500
_YEAR = 366 * 86400.0
_LONGEST_REASON = 200
_LONGEST_HEAD = 1 << 16


def refusal(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    url: str = "",
    passes_model_on: bool = False,
    now: datetime | None = None,
) -> StatusError:
    """Return the error for a response.

    ``headers`` have lower-case names. ``passes_model_on``: the route passes on the responses of the
    model server (messages on v0.3 to v0.6); then a response with Set-Cookie but without chat-ui's
    own ``{"message"}`` comes from the model server. A page that was not made by SvelteKit comes
    from a gateway.
    """
    document = _document(body)
    text = body.decode("utf-8", "replace")
    by_model = (
        passes_model_on and "set-cookie" in headers and "message" not in document and status != 413
    )
    origin: Origin = "model" if by_model else "server"
    if origin == "server" and _is_of_gateway(status, headers, text):
        origin = "gateway"
    said = _said(document, text, headers)
    error_type = document.get("error_type")
    kind, hint = _class_of(status, headers, text, origin), _hint(status, origin, said)
    if origin == "server" and status in _MALFORMED and _has_impossible_id(url):
        kind, hint = NotFoundError, "A conversation id has 24 characters, 0 to 9 and a to f."
    elif origin == "server" and status == 500 and passes_model_on:
        hint = MODEL_DOWN
    return kind(
        status,
        said,
        url=url,
        body=text[:_LONGEST_BODY],
        request_id=headers.get("x-request-id"),
        retry_after=wait_of(headers, now),
        error_type=error_type if isinstance(error_type, str) else None,
        origin=origin,
        hint=hint,
    )


def login_wall(status: int, location: str, *, url: str = "") -> AuthenticationError:
    """The error for a redirect to a login page, with any path and host."""
    place = location.partition("?")[0][:_LONGEST_REASON]
    return AuthenticationError(
        status, f"a redirect to {place or 'another page'}, probably a login", url=url
    )


def wait_of(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """The seconds in a response's Retry-After header; None without one.

    A date is compared with the server's Date, because the clock of this machine may be wrong.
    """
    try:
        sent = parsedate_to_datetime(headers.get("date", ""))
    except (ValueError, OverflowError, TypeError):
        sent = None
    if sent is not None and sent.tzinfo is None:
        sent = sent.replace(tzinfo=timezone.utc)
    return retry_after(headers.get("retry-after", ""), now or sent)


def retry_after(value: str, now: datetime | None = None) -> float | None:
    """Parse a Retry-After header with seconds or a date; None if it is invalid.

    Returns seconds, at most a year, because longer waits overflow.
    """
    value = value.strip()
    if value.isascii() and value.isdigit():
        return min(float(value), _YEAR)
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    wait = (moment - (now or datetime.now(timezone.utc))).total_seconds()
    return min(max(0.0, wait), _YEAR)


def is_referer_refusal(status: int, body: bytes) -> bool:
    """Whether a form was refused because of its Referer (v0.3 to v0.7) or Origin (later)."""
    return status == 403 and any(words in body for words in _REFERER_REFUSALS)


def _is_of_gateway(status: int, headers: Mapping[str, str], text: str) -> bool:
    """Whether the response comes from a gateway: chat-ui never sends such a response."""
    if is_page(headers, text) or "html" in headers.get("content-type", ""):
        return _CHAT_UI_PAGE.search(text) is None
    return status in _GATEWAY_STATUSES or "www-authenticate" in headers


def is_page(headers: Mapping[str, str], text: str) -> bool:
    """Whether a response is an HTML page, even without the content type. False if it is empty."""
    text = text.lstrip()
    return bool(text) and ("html" in headers.get("content-type", "") or text[0] == "<")


def page_title(text: str) -> str:
    """The title of an HTML page, or its heading, on one line; "" without one."""
    found = _TITLE.search(text[:_LONGEST_HEAD])
    title = "" if found is None else html.unescape(found[1])
    return " ".join(title.split())[:_LONGEST_REASON]


def _has_impossible_id(url: str) -> bool:
    found = _ID_IN_URL.search(url)
    return found is not None and re.fullmatch("[0-9A-Fa-f]{24}", found[1]) is None


def _class_of(status: int, headers: Mapping[str, str], text: str, origin: str) -> type[StatusError]:
    if is_referer_refusal(status, text.encode("utf-8", "replace")):
        return OriginError
    if status == 405 and ("allow" in headers or not _TERMS.search(text)):
        return StatusError  # from SvelteKit: the route does not support the method
    if origin == "model" and status in (401, 403, 404, 405, 410):
        return StatusError
    if origin == "gateway" and status in (403, 405, 409, 410):
        return StatusError
    if status >= 500:
        return ServerError
    return _CLASSES.get(status, StatusError)


def _hint(status: int, origin: str, said: str) -> str | None:
    """What to do; None for the default hint of the error's class."""
    if status == 404 and origin == "server" and not _FOUND_NOTHING.search(said):
        return _NO_ROUTE_HINT
    if status in _HINTS:
        return _HINTS[status]
    if origin == "gateway" and status < 500 and status != 429:
        return _GATEWAY_HINTS.get(status, _GATEWAY_HINT)
    return None


def _document(body: bytes) -> dict[str, object]:
    try:
        document = json.read(body)
    except json.InvalidJson:
        return {}
    return document if isinstance(document, dict) else {}


def _said(document: dict[str, object], text: str, headers: Mapping[str, str]) -> str:
    for key in ("message", "error"):
        said = document.get(key)
        if isinstance(said, dict):
            said = said.get("message")
        if said:
            return str(said)[:_LONGEST_REASON]
    if is_page(headers, text):
        title = page_title(text)
        return f'an HTML page, "{title}"' if title else "an HTML page"
    return " ".join(text.split())[:_LONGEST_REASON]
