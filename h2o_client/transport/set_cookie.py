"""Parse a Set-Cookie header as browsers do (RFC 6265, 5.2 and 5.3).

http.cookiejar follows an older specification: it drops a cookie whose Max-Age is not a number, or
whose Domain is the server's own name, and answers a Version in a format that no server understands.
"""

from __future__ import annotations

import re
import time
from http.cookiejar import Cookie, http2time  # type: ignore[attr-defined]

from requests.cookies import create_cookie

_CONTROLS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_MAX_AGE = re.compile(r"-?[0-9]+")
_LONGEST_AGE = 400 * 86400  # seconds; the limit of today's browsers


def read_set_cookie(line: str, *, host: str, domain: str, path: str) -> Cookie | None:
    """Return the cookie; None if it must be ignored. To delete one, servers send it expired.

    ``host`` is the server's host, ``domain`` the same as jars write it, and ``path`` the path of
    the request.
    """
    if _CONTROLS.search(line):
        return None
    pair, *rest = line.split(";")
    name, equals, value = pair.partition("=")
    if not equals or not name.strip():
        return None
    attributes = {}
    for each in rest:
        attribute, _, said = each.partition("=")
        attributes[attribute.strip().lower()] = said.strip()
    place = _place(attributes.get("domain", ""), host, domain)
    if place is None:
        return None
    own_path = attributes.get("path", "")
    expires = _expiry(attributes)
    made: Cookie = create_cookie(  # type: ignore[no-untyped-call]
        name.strip(),
        value.strip(),
        domain=place,
        path=own_path if own_path.startswith("/") else _default_path(path),
        secure="secure" in attributes,
        expires=expires,
        discard=expires is None,
        rest={"HttpOnly": None} if "httponly" in attributes else {},
    )
    return made


def _place(attribute: str, host: str, domain: str) -> str | None:
    """The cookie's domain; None if this server must not set cookies for it."""
    wanted = attribute.removeprefix(".").lower()
    if wanted in ("", host.lower()):
        return domain  # for this host alone
    is_address = re.search(r"[^0-9.]", host) is None or ":" in host
    if is_address or "." not in wanted or not host.lower().endswith(f".{wanted}"):
        return None
    return f".{wanted}"


def _expiry(attributes: dict[str, str]) -> int | None:
    """Seconds since 1970; None for a session cookie."""
    age = attributes.get("max-age", "")
    if _MAX_AGE.fullmatch(age):
        seconds = int(age[:12])
        return int(time.time()) + min(seconds, _LONGEST_AGE) if seconds > 0 else 1
    moment: float | None = http2time(attributes.get("expires", ""))
    return None if moment is None else max(1, int(moment))


def _default_path(path: str) -> str:
    return path[: path.rfind("/")] or "/"
