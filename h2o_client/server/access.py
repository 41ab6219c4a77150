"""The access log: one record a request, with no cookie, no query and no prompt in it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from typing import TextIO

import msgspec
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from h2o_client.server.records import now


class Access(msgspec.Struct, frozen=True):
    """A request that was answered: its ``status`` is None where no answer went out (a stop before
    the first token, a client that had gone), ``ms`` until the end of the answer, ``bytes`` of its
    body."""

    time: str
    method: str
    path: str
    status: int | None
    ms: float
    bytes: int


class AccessLog:
    """ASGI middleware that gives ``on_access`` a record of each request when it is over."""

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
            # The head waits for the first of the body: where that is empty, it is all there is.
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
    """One request's record, handed over once."""

    def __init__(self, scope: Scope, on_access: Callable[[Access], None]) -> None:
        self._came = now()
        self._begun = time.perf_counter()
        self._scope = scope
        self._on_access: Callable[[Access], None] | None = on_access
        self._status: int | None = None
        self._size = 0

    def sent(self, messages: Sequence[Message]) -> None:
        for message in messages:
            self._status = message.get("status", self._status)
            self._size += len(message.get("body", b""))
        if not messages[-1].get("more_body", False):
            # Before the client can know of the end: what it asked for is recorded when it does.
            self.close()

    def close(self) -> None:
        hand_over, self._on_access = self._on_access, None
        if hand_over is None:
            return
        took = round((time.perf_counter() - self._begun) * 1000, 1)
        came = self._came
        written = came.strftime("%Y-%m-%dT%H:%M:%S.") + f"{came.microsecond // 1000:03d}Z"
        # The path alone: a web search has its prompt in the query.
        method, path = self._scope["method"], self._scope["path"]
        hand_over(Access(written, method, path, self._status, took, self._size))


def write_to(stream: TextIO) -> Callable[[Access], None]:
    """Writes each record as a line of JSON, in printable ASCII: a path steers no terminal.

    A reader that has gone stops no request.
    """

    def write(access: Access) -> None:
        line = json.dumps(msgspec.to_builtins(access), separators=(",", ":"))
        try:
            stream.write(line.replace("\x7f", "\\u007f") + "\n")
            stream.flush()
        except (OSError, ValueError):
            return

    return write
