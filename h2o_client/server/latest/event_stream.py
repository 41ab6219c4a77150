"""An ASGI response with server-sent events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from starlette.types import Receive, Scope, Send

from h2o_client.server import asgi_messages
from h2o_client.server.race import Overtaken, unless

Frames = AsyncGenerator[bytes, None]


class EventStream:
    """Sends ``frames`` until they end, the client disconnects, or ``seconds`` have passed.

    After that time the body ends normally, and the client has to send another request for more. A
    frame is made only after the previous one was sent, so that a client that does not read uses no
    memory.
    """

    def __init__(self, frames: Frames, *, seconds: float) -> None:
        self._frames = frames
        self._seconds = seconds
        self._sending = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await unless(
                self._write(send, body=scope["method"] != "HEAD"),
                asgi_messages.until_disconnected(receive),
                asyncio.sleep(self._seconds),
            )
        except Overtaken as exc:
            if exc.by != _TIME:
                return
            if self._sending:
                await asgi_messages.drop(scope, receive)
            else:
                await send(asgi_messages.body(b"", more=False))

    async def _write(self, send: Send, *, body: bool) -> None:
        await send(asgi_messages.head(200, "text/event-stream", _HEADERS))
        async with aclosing(self._frames) as frames:
            sent = 0
            while body and (frame := await anext(frames, None)) is not None:
                self._sending = True
                await send(asgi_messages.body(frame, more=True))
                self._sending = False
                sent += 1
                if sent % _AT_ONCE == 0:
                    await asyncio.sleep(0)
        await send(asgi_messages.body(b"", more=False))


_AT_ONCE = 4  # frames between two checks of the connection; asyncio warns at the fifth
_TIME = 1  # the index of the timeout in `Overtaken.by`
_HEADERS = {"cache-control": "no-cache, no-transform", "x-accel-buffering": "no"}
