"""A client's connection, in ASGI's words: the head and the body of an answer, and its end."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.types import Message, Receive, Scope

DROP = "h2o_client.drop"
"""The ASGI extension that drops the connection: a callable under this name in the scope."""


def head(status: int, content_type: str, headers: Mapping[str, str] | None = None) -> Message:
    """The head of an answer whose body comes bit by bit."""
    named = {"content-type": content_type, "cache-control": "no-cache", **(headers or {})}
    encoded = [(name.encode(), value.encode()) for name, value in named.items()]
    return {"type": "http.response.start", "status": status, "headers": encoded}


def body(data: bytes, *, more: bool) -> Message:
    """A piece of the body; the last one says that there is no ``more``."""
    return {"type": "http.response.body", "body": data, "more_body": more}


async def until_gone(receive: Receive) -> None:
    """Returns when the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def drop(scope: Scope, receive: Receive) -> None:
    """Breaks the connection off, in the middle of the answer."""
    break_off = scope.get("extensions", {}).get(DROP)
    if break_off is None:
        raise ConnectionAbortedError("The answer was broken off")
    break_off()
    await until_gone(receive)
