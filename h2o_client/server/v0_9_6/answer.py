"""The answer to a message as an ASGI response with JSON lines, while the client is connected."""

from __future__ import annotations

from starlette.types import Receive, Scope, Send

from h2o_client.server import asgi_messages
from h2o_client.server.race import Overtaken, unless
from h2o_client.server.v0_9_6.outbox import Outbox


class Answer:
    """Sends the data in ``outbox``. The answer continues if the client disconnects."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        outbox = self._outbox
        try:
            await unless(
                self._write(send),
                asgi_messages.until_disconnected(receive),
                outbox.neglected.wait(),
            )
        except Overtaken:
            if outbox.neglected.is_set():
                await asgi_messages.drop(scope, receive)
        finally:
            outbox.leave()

    async def _write(self, send: Send) -> None:
        await send(asgi_messages.head(200, "application/jsonl"))
        while data := await self._outbox.take():
            await send(asgi_messages.body(data, more=True))
        await send(asgi_messages.body(b"", more=False))
