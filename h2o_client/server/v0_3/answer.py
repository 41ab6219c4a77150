"""The answer to a message as an ASGI response with server-sent events.

The response ends when the generation ends or is stopped, or when the connection to the model
breaks. The text of a stopped answer is stored. If the client disconnects before the first token,
the answer ends; later, the answer is completed and stored, like in chat-ui.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager, suppress
from typing import Any, TypeVar

import msgspec
from starlette.types import ASGIApp, Receive, Scope, Send

from h2o_client.server import asgi_messages
from h2o_client.server.generation import Cut, Generation, Refused
from h2o_client.server.race import Overtaken, unless
from h2o_client.wire import tgi
from h2o_client.wire.events import Final, Token

Begin = Callable[[], AbstractContextManager[Generation]]


class Answer:
    """Streams a generation, which ``begin`` starts. ``save`` is called with the text to store.

    ``crashed`` is the response if the model cannot be reached.
    """

    def __init__(
        self, begin: Begin, *, save: Callable[[str], None], streamed: bool, crashed: ASGIApp
    ) -> None:
        self._begin = begin
        self._save = save
        self._crashed = crashed
        self._write = self._write_stream if streamed else self._write_whole
        self._begun = False
        self._texts: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._begin() as generation:
            try:
                await _unless_left(self._write(generation, send), generation, receive)
            except _GoneError:
                await self._finish(generation)
            except _StoppedError:
                self._save(self._text)
                # Like chat-ui, end a stopped stream without generated_text and a last chunk.
                await asgi_messages.drop(scope, receive)
            except _CutError:
                if self._begun:
                    await asgi_messages.drop(scope, receive)
                else:
                    await self._crashed(scope, receive, send)

    @property
    def _text(self) -> str:
        return "".join(self._texts)

    async def _write_stream(self, generation: Generation, send: Send) -> None:
        event = await generation.next()
        if isinstance(event, Refused):
            await _send_refusal(send, event)
            return
        if isinstance(event, Cut):
            raise _CutError
        # Like chat-ui of that time, send the headers only with the first token.
        self._begun = True
        await send(asgi_messages.head(200, "text/event-stream"))
        while event is not None:
            await send(asgi_messages.body(self._written(event, generation), more=True))
            event = await generation.next()
        await send(asgi_messages.body(b"", more=False))

    async def _finish(self, generation: Generation) -> None:
        # Like a real chat-ui, complete the answer and store it.
        if not self._texts:
            return
        with suppress(Overtaken):
            await unless(self._read_on(generation), generation.stopped.wait())
            return
        self._save(self._text)

    async def _read_on(self, generation: Generation) -> None:
        while isinstance(event := await generation.next(), Token | Final):
            self._written(event, generation)

    async def _write_whole(self, generation: Generation, send: Send) -> None:
        while isinstance(event := await generation.next(), Token | Final):
            self._written(event, generation)
        if isinstance(event, Refused):
            await _send_refusal(send, event)
            return
        if isinstance(event, Cut):
            raise _CutError
        await send(asgi_messages.head(200, "application/json"))
        whole = msgspec.json.encode([{"generated_text": generation.prompt + self._text}])
        await send(asgi_messages.body(whole, more=False))

    def _written(self, event: Token | Final | Refused | Cut, generation: Generation) -> bytes:
        if isinstance(event, Cut):
            raise _CutError
        if isinstance(event, Refused):
            return tgi.write_failure(event)
        if isinstance(event, Token):
            if not event.special:
                self._texts.append(event.text)
            return tgi.write_token(event)
        # Store the text before the client sees the end, so that it can read the same text.
        self._save(self._text)
        mark, reason = _ENDS.get(event.finish_reason, _ENDS["stop"])
        whole = generation.prompt + self._text
        return tgi.write_token(mark, generated_text=whole, finish_reason=reason)


class Title:
    """Responds with a generated title in JSON.

    ``save`` is called with the text, and returns the document. ``crashed`` is the response to a
    failure.
    """

    def __init__(self, begin: Begin, *, save: Callable[[str], object], crashed: ASGIApp) -> None:
        self._begin = begin
        self._save = save
        self._crashed = crashed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._begin() as generation:
            try:
                text = await _unless_left(_whole_text(generation), generation, receive)
            except _GoneError:
                return
            except (_StoppedError, _CutError):
                await self._crashed(scope, receive, send)
                return
        await send(asgi_messages.head(200, "application/json"))
        await send(asgi_messages.body(msgspec.json.encode(self._save(text)), more=False))


class _GoneError(Exception):
    """The client has disconnected."""


class _StoppedError(Exception):
    """The generation was stopped."""


class _CutError(Exception):
    """The connection to the model broke."""


_Result = TypeVar("_Result")


async def _unless_left(
    work: Coroutine[Any, Any, _Result], generation: Generation, receive: Receive
) -> _Result:
    # Return the result of the work, unless the client disconnects or the generation is stopped.
    try:
        return await unless(
            work, asgi_messages.until_disconnected(receive), generation.stopped.wait()
        )
    except Overtaken as exc:
        raise (_StoppedError if exc.by else _GoneError) from None


async def _whole_text(generation: Generation) -> str:
    texts: list[str] = []
    while isinstance(event := await generation.next(), Token | Final):
        if isinstance(event, Token) and not event.special:
            texts.append(event.text)
    if event is not None:
        raise _CutError
    return "".join(texts)


_ENDS = {
    "stop": (Token("<|endoftext|>", special=True), "eos_token"),
    "length": (Token(special=True), "length"),
}


async def _send_refusal(send: Send, refused: Refused) -> None:
    said = {"error": refused.message}
    if refused.error_type is not None:
        said["error_type"] = refused.error_type
    status = refused.status if refused.status and 400 <= refused.status < 600 else 500
    start = asgi_messages.head(status, "application/json")
    if refused.retry_after is not None:
        start["headers"].append((b"retry-after", f"{refused.retry_after:g}".encode()))
    await send(start)
    await send(asgi_messages.body(msgspec.json.encode(said), more=False))
