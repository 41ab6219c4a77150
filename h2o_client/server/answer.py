"""The answer to a message, as an ASGI response: a generation's events come in, SSE goes out.

It ends in one of three ways: the generation comes to its end, somebody stops it, or the client
goes away. In the last two the part that was made is kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager

import msgspec
from starlette.types import Message, Receive, Scope, Send

from h2o_client.server.generation import Generation
from h2o_client.wire import tgi
from h2o_client.wire.events import Failure, Final, Token

DROP = "h2o_client.drop"
"""The ASGI extension that drops the connection: a callable under this name in the scope."""


class Answer:
    """Streams what ``begin`` generates; ``save`` gets the text when it is worth keeping."""

    def __init__(
        self,
        begin: Callable[[], AbstractContextManager[Generation]],
        *,
        save: Callable[[str], None],
        streamed: bool,
    ) -> None:
        self._begin = begin
        self._save = save
        self._write = self._write_stream if streamed else self._write_whole
        self._texts: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._begin() as generation:
            written = asyncio.ensure_future(self._write(generation, send))
            gone = asyncio.ensure_future(_until_gone(receive))
            stopped = asyncio.ensure_future(generation.stopped.wait())
            try:
                await asyncio.wait((written, gone, stopped), return_when=asyncio.FIRST_COMPLETED)
                if not written.done():
                    written.cancel()
                    self._save(self._text)
                    if not gone.done():
                        await _drop(scope, gone)
            finally:
                for way in (written, gone, stopped):
                    way.cancel()
                await asyncio.gather(written, gone, stopped, return_exceptions=True)
        if not written.cancelled():
            written.result()

    @property
    def _text(self) -> str:
        return "".join(self._texts)

    async def _write_stream(self, generation: Generation, send: Send) -> None:
        event = await generation.next()
        if isinstance(event, Failure):
            await _send_failure(send, event)
            return
        # Only now, as a chat-ui of that time does it: no token, no headers.
        await send(_start(200, "text/event-stream"))
        while event is not None:
            await send(_body(self._written(event), more=True))
            event = await generation.next()
        await send(_body(b"", more=False))

    async def _write_whole(self, generation: Generation, send: Send) -> None:
        while isinstance(event := await generation.next(), Token | Final):
            self._written(event)
        if isinstance(event, Failure):
            await _send_failure(send, event)
            return
        await send(_start(200, "application/json"))
        whole = msgspec.json.encode([{"generated_text": self._text}])
        await send(_body(whole, more=False))

    def _written(self, event: Token | Final | Failure) -> bytes:
        if isinstance(event, Failure):
            return tgi.write_failure(event)
        if isinstance(event, Token):
            if not event.special:
                self._texts.append(event.text)
            return tgi.write_token(event)
        # Kept before the client can know of the end, so that it reads back what it was told.
        self._save(self._text)
        mark, reason = _ENDS.get(event.finish_reason, _ENDS["stop"])
        return tgi.write_token(mark, generated_text=self._text, finish_reason=reason)


_ENDS = {
    "stop": (Token("<|endoftext|>", special=True), "eos_token"),
    "length": (Token(special=True), "length"),
}


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _drop(scope: Scope, gone: asyncio.Future[None]) -> None:
    # A chat-ui's stopped stream ends without generated_text and without its last chunk.
    drop = scope.get("extensions", {}).get(DROP)
    if drop is None:
        raise ConnectionAbortedError("The answer was stopped")
    drop()
    await gone


async def _send_failure(send: Send, failure: Failure) -> None:
    said = msgspec.json.encode({"error": failure.message, "error_type": failure.error_type})
    await send(_start(failure.status or 500, "application/json"))
    await send(_body(said, more=False))


def _start(status: int, content_type: str) -> Message:
    headers = [(b"content-type", content_type.encode()), (b"cache-control", b"no-cache")]
    return {"type": "http.response.start", "status": status, "headers": headers}


def _body(body: bytes, *, more: bool) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": more}
