"""One request as a value: a dialect makes it, a transport sends it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from urllib.parse import urlencode

import msgspec


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """``path`` is relative to the base URL; ``safe`` means that twice does no more than once.

    ``budget`` names the timeout within which the answer has to begin.
    """

    method: str
    path: str
    body: bytes | None = None
    content_type: str = ""
    accept: str = "application/json"
    safe: bool = False
    budget: str = "idle"

    def __str__(self) -> str:
        # Without the query: that of a web search is the prompt.
        return f"{self.method} {self.path.partition('?')[0]}"

    def __repr__(self) -> str:
        # Error trackers show what the frames of a traceback hold.
        return f"<Request {self}>"


def get(path: str, *, budget: str = "idle") -> Request:
    """A request that changes nothing."""
    return Request(method="GET", path=path, safe=True, budget=budget)


def post_json(
    path: str,
    document: Mapping[str, object],
    *,
    accept: str = "application/json",
    budget: str = "idle",
    safe: bool = False,
) -> Request:
    """A JSON body in UTF-8."""
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
    """An urlencoded form, which chat-ui checks the Referer of."""
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
        # Half a surrogate pair, which a server may have given; JSON has it as an escape only.
        return json.dumps(document, separators=(",", ":"), default=str).encode()


class Part(msgspec.Struct, frozen=True):
    """One part of a multipart form; with a ``filename`` it is a file."""

    name: str
    content: bytes
    filename: str = ""
    content_type: str = ""

    def __repr__(self) -> str:
        return f"<Part {self.name}>"


def post_multipart(path: str, parts: Sequence[Part], *, accept: str, budget: str) -> Request:
    """A multipart/form-data body (RFC 7578), which chat-ui checks the Origin of."""
    # What no part of the body can have been made to hold.
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
    """A change that is the same however often it is made."""
    return Request(
        method="PATCH",
        path=path,
        body=_json(document),
        content_type="application/json",
        safe=True,
    )


def post(path: str, *, budget: str = "idle") -> Request:
    """A POST that says all in its path."""
    return Request(method="POST", path=path, budget=budget)


def delete(path: str) -> Request:
    """Deleting twice is as good as once."""
    return Request(method="DELETE", path=path, safe=True)


def _written(part: Part, boundary: str) -> bytes:
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="{part.name}"'
    if part.filename:
        head += f'; filename="{_escaped(part.filename)}"'
    if part.content_type:
        head += f"\r\nContent-Type: {part.content_type}"
    return head.encode() + b"\r\n\r\n" + part.content + b"\r\n"


def _escaped(filename: str) -> str:
    # As browsers do (WHATWG HTML, "Multipart form data").
    return filename.replace("\r", "%0D").replace("\n", "%0A").replace('"', "%22")
