"""Send a completion to the client: streamed, whole, or an error.

The reader of the answer adds text without waiting; ``send_to`` sends it as fast as the client
accepts it. The headers are sent with the first text, so that an earlier failure has its own HTTP
status. Tokens that arrive together are sent as one piece of the body.
"""

from __future__ import annotations

import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping

import anyio
from starlette.types import Send

from h2o_client.gateway import completion
from h2o_client.gateway.chat_request import ChatRequest
from h2o_client.gateway.openai_error import ApiError


class CompletionResponse(ABC):
    """The response with one completion. ``headers`` are additional headers."""

    def __init__(self, request: ChatRequest) -> None:
        self.headers: dict[str, str] = {}
        self.id: str = f"chatcmpl-{secrets.token_hex(12)}"
        self.created: int = int(time.time())
        self.model: str = request.model

    @abstractmethod
    def put_text(self, piece: str) -> None:
        """Add a piece of the answer."""

    @abstractmethod
    def put_reasoning(self, piece: str) -> None:
        """Add a piece of the model's reasoning."""

    @abstractmethod
    def finish(self, text: str, finish_reason: str) -> None:
        """End the response: the answer is complete, and ``text`` is all of it."""

    @abstractmethod
    def fail(self, error: ApiError) -> None:
        """End the response: the answer failed."""

    @abstractmethod
    async def send_to(self, send: Send) -> None:
        """Send the response. Returns when all of it was sent."""


class StreamedCompletion(CompletionResponse):
    """A stream of events, each sent as soon as possible."""

    def __init__(self, request: ChatRequest) -> None:
        super().__init__(request)
        self._chunks = completion.Chunks(
            id=self.id, created=self.created, model=self.model, with_usage=request.with_usage
        )
        self._waiting: list[bytes] = []
        self._error: ApiError | None = None
        self._has_begun = False
        self._is_over = False
        self._wake = anyio.Event()

    def put_text(self, piece: str) -> None:
        self._put(self._chunks.text(piece))

    def put_reasoning(self, piece: str) -> None:
        self._put(self._chunks.reasoning(piece))

    def finish(self, text: str, finish_reason: str) -> None:
        self._is_over = True
        self._put(self._chunks.finish(finish_reason) + completion.DONE)

    def fail(self, error: ApiError) -> None:
        self._is_over = True
        if self._has_begun:
            self._put(completion.error_event(error.body()) + completion.DONE)
        else:
            self._error = error
            self._wake.set()

    async def send_to(self, send: Send) -> None:
        await self._wake.wait()
        if self._error is not None:
            await send_error(send, self._error, self.headers)
            return
        headers = {"cache-control": "no-cache", "x-accel-buffering": "no", **self.headers}
        await send(_head(200, "text/event-stream; charset=utf-8", headers))
        more = True
        while more:
            await self._wake.wait()
            self._wake = anyio.Event()
            more = not self._is_over
            data = b"".join(self._waiting)
            self._waiting.clear()
            await send({"type": "http.response.body", "body": data, "more_body": more})

    def _put(self, event: bytes) -> None:
        if not self._has_begun:
            self._has_begun = True
            self._waiting.append(self._chunks.role())
        self._waiting.append(event)
        self._wake.set()


class WholeCompletion(CompletionResponse):
    """One JSON document, sent when the answer has ended."""

    def __init__(self, request: ChatRequest) -> None:
        super().__init__(request)
        self._reasoning: list[str] = []
        self._outcome: bytes | ApiError = b""
        self._over = anyio.Event()

    def put_text(self, piece: str) -> None:
        pass

    def put_reasoning(self, piece: str) -> None:
        self._reasoning.append(piece)

    def finish(self, text: str, finish_reason: str) -> None:
        self._outcome = completion.whole(
            id=self.id,
            created=self.created,
            model=self.model,
            text=text,
            reasoning="".join(self._reasoning),
            finish_reason=finish_reason,
        )
        self._over.set()

    def fail(self, error: ApiError) -> None:
        self._outcome = error
        self._over.set()

    async def send_to(self, send: Send) -> None:
        await self._over.wait()
        if isinstance(self._outcome, ApiError):
            await send_error(send, self._outcome, self.headers)
        else:
            await send_json(send, 200, self._outcome, self.headers)


async def send_error(send: Send, error: ApiError, headers: Mapping[str, str] = {}) -> None:
    """Send an error as the whole response."""
    await send_json(send, error.status, error.body(), {**headers, **error.headers})


async def send_json(
    send: Send, status: int, document: bytes, headers: Mapping[str, str] = {}
) -> None:
    """Send a JSON document as the whole response."""
    length = {"content-length": str(len(document)), **headers}
    await send(_head(status, "application/json", length))
    await send({"type": "http.response.body", "body": document, "more_body": False})


def _head(status: int, content_type: str, headers: Mapping[str, str]) -> dict[str, object]:
    named = {"content-type": content_type, **headers}
    encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in named.items()]
    return {"type": "http.response.start", "status": status, "headers": encoded}
