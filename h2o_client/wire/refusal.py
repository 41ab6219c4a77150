"""An HTTP answer that is no success, to its error. Measured on chat-ui v0.3 to HEAD."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime

from h2o_client.errors import (
    AuthenticationError,
    ElicitationClosedError,
    ModelUnavailableError,
    NotFoundError,
    RateLimitError,
    ServerError,
    StatusError,
    TermsNotAcceptedError,
)
from h2o_client.wire import json

_CLASSES: dict[int, type[StatusError]] = {
    401: AuthenticationError,
    403: AuthenticationError,
    404: NotFoundError,
    405: TermsNotAcceptedError,
    409: ElicitationClosedError,
    410: ModelUnavailableError,
    429: RateLimitError,
}
_REFERER_REFUSALS = (b"Invalid referer", b"Cross-site", b"form requests need to have a")
_LONGEST_BODY = 500
_LONGEST_REASON = 200


class OriginError(StatusError):
    """403 for the Referer or Origin: the server believes that it has another address."""

    hint = (
        "The server's ORIGIN setting names another address than the one you use, or a proxy takes "
        "the Referer off: give H2oSession the address the server was told it has."
    )


def refusal(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    url: str = "",
    passes_model_on: bool = False,
    now: datetime | None = None,
) -> StatusError:
    """The error for an answer.

    ``headers`` have lower-case names. With ``passes_model_on`` the route hands the model server's
    answers through (messages on v0.3 to v0.6): one with a Set-Cookie that is not chat-ui's own
    ``{"message"}`` is the model server's.
    """
    document = _document(body)
    text = body.decode("utf-8", "replace")
    by_model = (
        passes_model_on and "set-cookie" in headers and "message" not in document and status != 413
    )
    error_type = document.get("error_type")
    return _class_of(status, headers, text, by_model)(
        status,
        _said(document, text, headers),
        url=url,
        body=text[:_LONGEST_BODY],
        request_id=headers.get("x-request-id"),
        retry_after=retry_after(headers.get("retry-after", ""), now),
        error_type=error_type if isinstance(error_type, str) else None,
        origin="model" if by_model else "server",
    )


def login_wall(status: int, location: str, *, url: str = "") -> AuthenticationError:
    """The error for a redirect that is no success: to a login page, whatever its path or host."""
    place = location.partition("?")[0][:_LONGEST_REASON]
    return AuthenticationError(status, f"go to {place or 'another page'} first (a login)", url=url)


def retry_after(value: str, now: datetime | None = None) -> float | None:
    """Seconds from a Retry-After header, which holds seconds or a date; None for anything else."""
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return max(0.0, (moment - (now or datetime.now(timezone.utc))).total_seconds())


def is_referer_refusal(status: int, body: bytes) -> bool:
    """Whether a form was refused for its Referer (v0.3 to v0.7) or Origin (later)."""
    return status == 403 and any(words in body for words in _REFERER_REFUSALS)


def _class_of(
    status: int, headers: Mapping[str, str], text: str, by_model: bool
) -> type[StatusError]:
    if is_referer_refusal(status, text.encode("utf-8", "replace")):
        return OriginError
    if status == 405 and "allow" in headers:
        return StatusError  # SvelteKit's: no such method on this route
    if by_model and status in (401, 403, 404, 405, 410):
        return StatusError
    if status >= 500:
        return ServerError
    return _CLASSES.get(status, StatusError)


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
    if "html" in headers.get("content-type", "") or text.lstrip()[:1] == "<":
        return "(an HTML page)"
    return " ".join(text.split())[:_LONGEST_REASON]
