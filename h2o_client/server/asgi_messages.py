"""ASGI messages: the headers, the body and the end of a response."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.types import Message, Receive, Scope

DROP = "h2o_client.drop"
"""The name of an ASGI extension: a function in the scope that drops the connection."""


def head(status: int, content_type: str, headers: Mapping[str, str] | None = None) -> Message:
    """The headers of a response whose body is streamed."""
    named = {"content-type": content_type, "cache-control": "no-cache", **(headers or {})}
    encoded = [(name.encode(), value.encode()) for name, value in named.items()]
    return {"type": "http.response.start", "status": status, "headers": encoded}


def body(data: bytes, *, more: bool) -> Message:
    """A piece of the body. ``more`` is False for the last one."""
    return {"type": "http.response.body", "body": data, "more_body": more}


async def until_disconnected(receive: Receive) -> None:
    """Return when the client has disconnected."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def drop(scope: Scope, receive: Receive) -> None:
    """Drop the connection in the middle of the response."""
    drop_connection = scope.get("extensions", {}).get(DROP)
    if drop_connection is None:
        raise ConnectionAbortedError("The answer was broken off")
    drop_connection()
    await until_disconnected(receive)
