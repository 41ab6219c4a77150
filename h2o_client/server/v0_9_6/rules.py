"""The Origin that a form must have, and the rest of what the hook does in its own way."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import timedelta
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse, Response

from h2o_client.server.hook import Rules, refused


def refused_form(headers: Headers, own_origin: str) -> Response | None:
    """A form is taken from the server's own host and port, whatever the scheme."""
    origin = headers.get("origin")
    if not origin:
        return refused(403, "Non-JSON form requests need to have an origin", headers)
    try:
        own, theirs = _host_of(own_origin), _host_of(origin)
    except ValueError:
        return JSONResponse(crash(), 500)
    if own != theirs:
        return refused(403, "Invalid referer for POST request", headers)
    return None


def crash() -> Mapping[str, str]:
    """The document of an error that has no words: an id that a log would have."""
    return {"message": "An error occurred", "errorId": str(uuid.uuid4())}


RULES = Rules(
    refused_form=refused_form,
    crash=crash,
    # Elsewhere a new session is made for each request that brings none.
    cookie_methods=("POST",),
    cookie_lasts=timedelta(weeks=2),
)

_PORTS = {"http": 80, "https": 443}


def _host_of(url: str) -> tuple[str, int | None]:
    # JavaScript's URL.host: without a port that goes without saying.
    parts = urlsplit(url)
    if not parts.scheme or not parts.hostname:
        raise ValueError(f"{url!r} has no host")
    return parts.hostname, None if parts.port == _PORTS.get(parts.scheme) else parts.port
