"""The check of a form's Origin, and other rules of this dialect for the hook."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import timedelta
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse, Response

from h2o_client.server.hook import Rules, refused


def refused_form(headers: Headers, own_origin: str) -> Response | None:
    """Accept forms only from the server's own host and port, with any scheme."""
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
    """The document of an error without a message: an id for the log."""
    return {"message": "An error occurred", "errorId": str(uuid.uuid4())}


RULES = Rules(
    refused_form=refused_form,
    crash=crash,
    # Other requests without a cookie get a new session each time, but no cookie.
    cookie_methods=("POST",),
    cookie_lasts=timedelta(weeks=2),
)

_PORTS = {"http": 80, "https": 443}


def _host_of(url: str) -> tuple[str, int | None]:
    # Like URL.host of JavaScript: without the default port.
    parts = urlsplit(url)
    if not parts.scheme or not parts.hostname:
        raise ValueError(f"{url!r} has no host")
    return parts.hostname, None if parts.port == _PORTS.get(parts.scheme) else parts.port
