"""`Request`: the data of one request. A dialect creates it, the transport sends it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from urllib.parse import urlencode

import msgspec

from h2o_client.errors import TimeoutName


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """``path`` is relative to the base URL. ``safe``: the request is idempotent.

    ``budget`` is the name of the timeout within which the response has to begin.
    """

    method: str
    path: str
    body: bytes | None = None
    content_type: str = ""
    accept: str = "application/json"
    safe: bool = False
    budget: TimeoutName = "idle"

    def __str__(self) -> str:
        # Without the query, which contains the prompt in a web search.
        return f"{self.method} {self.path.partition('?')[0]}"

    def __repr__(self) -> str:
        # Error trackers show the local variables of a traceback's frames.
        return f"<Request {self}>"


def get(path: str, *, budget: TimeoutName = "idle") -> Request:
    """A request that changes nothing."""
    return Request(method="GET", path=path, safe=True, budget=budget)


def post_json(
    path: str,
    document: Mapping[str, object],
    *,
    accept: str = "application/json",
    budget: TimeoutName = "idle",
    safe: bool = False,
) -> Request:
    """A POST request with a JSON body in UTF-8."""
    return Request(
        method="POST",
        path=path,
        body=_json(document),
        content_type="application/json",
        accept=accept,
        budget=budget,
        safe=safe,
    )


def post_form(path: str, fields: Sequence[tuple[str, str]], *, safe: bool = False) -> Request:
    """A POST request with an urlencoded form; chat-ui checks its Referer."""
    return Request(
        method="POST",
        path=path,
        body=urlencode(fields, errors="replace").encode(),
        content_type="application/x-www-form-urlencoded",
        safe=safe,
    )


def _json(document: Mapping[str, object]) -> bytes:
    try:
        return msgspec.json.encode(document)
    except UnicodeEncodeError:
        # Half a surrogate pair, which a server may have sent. JSON allows it only as an escape.
        return json.dumps(document, separators=(",", ":"), default=str).encode()


class Part(msgspec.Struct, frozen=True):
    """A part of a multipart form. A part with a ``filename`` is a file."""

    name: str
    content: bytes
    filename: str = ""
    content_type: str = ""

    def __repr__(self) -> str:
        return f"<Part {self.name}>"


def post_multipart(
    path: str, parts: Sequence[Part], *, accept: str, budget: TimeoutName
) -> Request:
    """A POST request with a multipart/form-data body (RFC 7578); chat-ui checks its Origin."""
    # Random, so that no part of the body can contain the boundary.
    from secrets import token_hex

    boundary = token_hex(16)
    body = b"".join(_written(part, boundary) for part in parts) + f"--{boundary}--\r\n".encode()
    return Request(
        method="POST",
        path=path,
        body=body,
        content_type=f"multipart/form-data; boundary={boundary}",
        accept=accept,
        budget=budget,
    )


def patch_json(path: str, document: Mapping[str, object]) -> Request:
    """An idempotent PATCH request with a JSON body."""
    return Request(
        method="PATCH",
        path=path,
        body=_json(document),
        content_type="application/json",
        safe=True,
    )


def post(path: str, *, budget: TimeoutName = "idle") -> Request:
    """A POST request without a body."""
    return Request(method="POST", path=path, budget=budget)


def delete(path: str) -> Request:
    """A DELETE request, which is idempotent."""
    return Request(method="DELETE", path=path, safe=True)


def _written(part: Part, boundary: str) -> bytes:
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="{part.name}"'
    if part.filename:
        head += f'; filename="{_escaped(part.filename)}"'
    if part.content_type:
        head += f"\r\nContent-Type: {part.content_type}"
    return head.encode() + b"\r\n\r\n" + part.content + b"\r\n"


def _escaped(filename: str) -> str:
    # As browsers escape it (WHATWG HTML, "Multipart form data").
    return filename.replace("\r", "%0D").replace("\n", "%0A").replace('"', "%22")
