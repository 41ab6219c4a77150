"""The access log: one record for each request, without cookies, queries and prompts."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from typing import TextIO

import msgspec
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from h2o_client.server.records import now


class Access(msgspec.Struct, frozen=True):
    """A completed request.

    ``status`` is None if no response was sent (a stop before the first token, or a client that has
    disconnected). ``ms`` is the time until the end of the response, ``bytes`` the size of its body.
    """

    time: str
    method: str
    path: str
    status: int | None
    ms: float
    bytes: int


class AccessLog:
    """ASGI middleware that calls ``on_access`` with a record at the end of each request."""

    def __init__(self, app: ASGIApp, *, on_access: Callable[[Access], None]) -> None:
        self._app = app
        self._on_access = on_access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        record = _Record(scope, self._on_access)
        held: list[Message] = []

        async def send_counted(message: Message) -> None:
            # Delay the headers until the first piece of the body, which may be the only one.
            held.append(message)
            if message["type"] == "http.response.start":
                return
            record.sent(held)
            for each in held:
                await send(each)
            held.clear()

        try:
            await self._app(scope, receive, send_counted)
        finally:
            record.close()


class _Record:
    """Collects the record of one request, and passes it on once."""

    def __init__(self, scope: Scope, on_access: Callable[[Access], None]) -> None:
        self._arrived_at = now()
        self._started_at = time.perf_counter()
        self._scope = scope
        self._on_access: Callable[[Access], None] | None = on_access
        self._status: int | None = None
        self._size = 0

    def sent(self, messages: Sequence[Message]) -> None:
        for message in messages:
            self._status = message.get("status", self._status)
            self._size += len(message.get("body", b""))
        if not messages[-1].get("more_body", False):
            # Record it before the client sees the end of the response.
            self.close()

    def close(self) -> None:
        on_access, self._on_access = self._on_access, None
        if on_access is None:
            return
        took = round((time.perf_counter() - self._started_at) * 1000, 1)
        at = self._arrived_at
        written = at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}Z"
        # Without the query, which contains the prompt of a web search.
        method, path = self._scope["method"], self._scope["path"]
        on_access(Access(written, method, path, self._status, took, self._size))


def write_to(stream: TextIO) -> Callable[[Access], None]:
    """Return a function that writes a record as a line of JSON in printable ASCII.

    Errors while writing are ignored, so that they do not break requests.
    """

    def write(access: Access) -> None:
        line = json.dumps(msgspec.to_builtins(access), separators=(",", ":"))
        try:
            stream.write(line.replace("\x7f", "\\u007f") + "\n")
            stream.flush()
        except (OSError, ValueError):
            return

    return write
