"""The check of a form's Referer, and other rules of this dialect for the hook."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse, Response

from h2o_client.server.hook import Rules, refused
from h2o_client.server.replies import ALL_METHODS


def refused_form(headers: Headers, own_origin: str) -> Response | None:
    """Accept forms only from the server's own origin, including scheme and port."""
    referer = headers.get("referer")
    if not referer:
        return refused(403, "Non-JSON form requests need to have a referer", headers)
    try:
        own, theirs = _origin_of(own_origin), _origin_of(referer)
    except ValueError:
        return JSONResponse(crash(), 500)
    if own != theirs:
        return refused(403, "Invalid referer for POST request", headers)
    return None


def crash() -> Mapping[str, str]:
    """The document of an error without a message."""
    return {"message": "Internal Error"}


RULES = Rules(
    refused_form=refused_form,
    crash=crash,
    cookie_methods=ALL_METHODS,
    cookie_lasts=timedelta(days=365),
)

_PORTS = {"http": 80, "https": 443}


def _origin_of(url: str) -> tuple[str, str, int | None]:
    parts = urlsplit(url)
    if not parts.scheme or not parts.hostname:
        raise ValueError(f"{url!r} has no origin")
    return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme)
