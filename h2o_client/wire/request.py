"""One request as a value: what a generation asks for and a transport sends."""

from __future__ import annotations

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
        return f"{self.method} {self.path}"


def get(path: str) -> Request:
    """A request that changes nothing."""
    return Request(method="GET", path=path, safe=True)


def post_json(
    path: str,
    document: Mapping[str, object],
    *,
    accept: str = "application/json",
    budget: str = "idle",
) -> Request:
    """A JSON body in UTF-8."""
    return Request(
        method="POST",
        path=path,
        body=msgspec.json.encode(document),
        content_type="application/json",
        accept=accept,
        budget=budget,
    )


def post_form(path: str, fields: Sequence[tuple[str, str]], *, safe: bool = False) -> Request:
    """An urlencoded form, which chat-ui checks the Referer of."""
    return Request(
        method="POST",
        path=path,
        body=urlencode(fields).encode(),
        content_type="application/x-www-form-urlencoded",
        safe=safe,
    )


def post(path: str) -> Request:
    """A POST that says all in its path."""
    return Request(method="POST", path=path)


def delete(path: str) -> Request:
    """Deleting twice is as good as once."""
    return Request(method="DELETE", path=path, safe=True)
