"""`ChatEndpoint`: serve one chat completion request, from its body to the end of its answer.

Three tasks run at once: one reads the answer, one sends it to the client, and one waits for the
client to disconnect, and then stops the model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
from starlette.types import Message, Receive, Scope, Send

from h2o_client.errors import H2oError, RateLimitError
from h2o_client.gateway import openai_error
from h2o_client.gateway.chat_request import ChatRequest, read_request
from h2o_client.gateway.openai_error import ApiError
from h2o_client.gateway.placement import Placement, Placer, allows_another_place
from h2o_client.gateway.responses import CompletionResponse, StreamedCompletion, WholeCompletion
from h2o_client.gateway.stop_sequences import StopSequences
from h2o_client.gateway.user_sessions import UserSession
from h2o_client.log import log
from h2o_client.wire.events import Elicitation, Reasoning, Token

if TYPE_CHECKING:
    from h2o_client.aio.reply import AsyncReply
    from h2o_client.answer.steps import Answer
    from h2o_client.options import Options

CONVERSATION = "x-conversation-id"
"""The request and response header with the id of the conversation."""

IGNORED = "x-ignored-parameters"
"""The response header that lists the parameters that this chat-ui ignores."""

_LONGEST_BODY = 64 * 1024 * 1024  # bytes, including images


class ChatEndpoint:
    """``POST /v1/chat/completions`` for one owner: an ASGI application for one request."""

    def __init__(self, user: UserSession, owner: bytes, conversation_id: str | None) -> None:
        self._user = user
        self._owner = owner
        self._conversation_id = conversation_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request. Raises `ApiError` if it is invalid."""
        body = await read_body(receive)
        if body is None:
            return
        request = read_request(body)
        response = StreamedCompletion(request) if request.stream else WholeCompletion(request)
        exchange = _Exchange(self._user, request, response)
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(_cancel_at_disconnect, receive, group.cancel_scope)
                group.start_soon(exchange.run, self._owner, self._conversation_id)
                await response.send_to(send)
                group.cancel_scope.cancel()
        finally:
            await exchange.close()


async def read_body(receive: Receive) -> bytes | None:
    """Read the whole body; None if the client has disconnected. Raises `ApiError` (413)."""
    parts: list[bytes] = []
    size, more = 0, True
    while more:
        message: Message = await receive()
        if message["type"] == "http.disconnect":
            return None
        part = message.get("body", b"")
        parts.append(part)
        size += len(part)
        more = message.get("more_body", False)
        if size > _LONGEST_BODY:
            raise ApiError(413, f"The body is longer than {_LONGEST_BODY} bytes.")
    return b"".join(parts)


async def _cancel_at_disconnect(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


class _Exchange:
    """One prompt and its answer. At the end, its conversation is kept or deleted."""

    def __init__(
        self, user: UserSession, request: ChatRequest, response: CompletionResponse
    ) -> None:
        self._user = user
        self._request = request
        self._response = response
        self._placement: Placement | None = None
        self._is_kept = False  # whether the conversation is in the cache, including this answer
        self._is_untouched = False  # whether the server has certainly not received the prompt
        self._has_branches = False  # whether conversations can continue from an earlier place
        self._text: list[str] = []

    async def run(self, owner: bytes, conversation_id: str | None) -> None:
        """Send the prompt, and pass the answer or the error to the response."""
        try:
            placer = await self._placer(owner)
            self._placement = await placer.place(conversation_id)
            try:
                await self._answer(self._placement)
            except H2oError as exc:
                if self._text or not await self._makes_room(self._placement, exc):
                    raise
                await self._discard(self._placement)
                self._placement = placer.new()
                await self._answer(self._placement)
        except H2oError as exc:
            self._is_untouched = exc.resendable is True
            self._user.forget_server()
            log.info("a completion failed: %s", exc)
            self._response.fail(openai_error.from_error(exc))
        except ApiError as exc:
            self._response.fail(exc)

    async def close(self) -> None:
        """Return the conversation to the cache, or delete it if no client can continue it."""
        placement, self._placement = self._placement, None
        if placement is None:
            return
        user, kept = self._user, placement.kept
        due = user.kept.remove_overdue()
        if not self._is_kept:  # if it is kept, another request may already use it
            kept.is_busy = False
            kept.end = kept.end if self._is_untouched else None
            if placement.is_new or not (self._is_untouched or self._has_branches):
                user.kept.remove(kept)
                due.append(kept)
        await user.delete(due)

    async def _makes_room(self, placement: Placement, exc: H2oError) -> bool:
        """Whether a refused prompt can be sent in a new conversation. May delete idle ones."""
        if placement.is_new:
            if not (isinstance(exc, RateLimitError) and exc.limit == "conversations"):
                return False
            idle = self._user.kept.remove_idle()
            await self._user.delete(idle)
            return bool(idle)
        log.info("a kept conversation cannot continue: %s", exc)
        return allows_another_place(exc)

    async def _discard(self, placement: Placement) -> None:
        self._placement = None
        self._user.kept.remove(placement.kept)
        await self._user.delete([placement.kept])

    async def _placer(self, owner: bytes) -> Placer:
        request = self._request
        model = await self._user.model(request.model)
        server = await self._user.server()
        self._has_branches = "branches" in server.features
        options: Options = {}
        ignored = request.sampling_names
        if "sampling" in server.features:
            options = {**request.sampling}  # type: ignore[typeddict-item]
            ignored = tuple(name for name in ignored if name in _NEVER_PASSED_ON)
            if request.stop:
                options["stop"] = list(request.stop)
        if ignored:
            self._response.headers[IGNORED] = ", ".join(ignored)
            self._user.warn_about_ignored(ignored, server.versions)
        return Placer(self._user, request, owner=owner, model=model, options=options)

    async def _answer(self, placement: Placement) -> None:
        async with placement.send() as reply:
            if not placement.is_side_request:
                self._response.headers[CONVERSATION] = reply.conversation_id
            stops = StopSequences(self._request.stop)
            await self._read(reply, stops)
            received = "".join(self._text)
            if stops.found:
                # Closing the reply stops the model. The client does not have to wait for this.
                self._response.finish(received, "stop")
                return
            answer = await reply.read()
            text = received if self._request.stream else _without_stop(answer.text, self._request)
            if not placement.is_side_request:
                self._note_end(placement, answer, text)
            reason = "length" if answer.finish_reason == "length" else "stop"
            self._response.finish(text, reason)

    async def _read(self, reply: AsyncReply, stops: StopSequences) -> None:
        """Pass the text on, up to its end or a stop sequence."""
        put = self._put_text
        async for event in reply.events():
            if type(event) is Token:
                if event.text and not event.special:
                    put(stops.add(event.text))
                    if stops.found:
                        return
            elif type(event) is Reasoning:
                self._response.put_reasoning(event.text)
            elif type(event) is Elicitation and event.state == "request":
                # OpenAI's API cannot ask the user.
                log.info("declined a tool's question: %s", event.message)
                await reply.answer_elicitation("decline", elicitation_id=event.id)
        put(stops.end())

    def _put_text(self, piece: str) -> None:
        if piece:
            self._text.append(piece)
            self._response.put_text(piece)

    def _note_end(self, placement: Placement, answer: Answer, text: str) -> None:
        """Keep the conversation, if the client has received the text that the server stores."""
        is_whole = answer.finish_reason in ("stop", "length")
        if is_whole and text.strip() == answer.text.strip():
            self._is_kept = True
            placement.kept.is_busy = False
            self._user.kept.keep(placement.kept, placement.after(text))


_NEVER_PASSED_ON = ("frequency_penalty", "presence_penalty", "logit_bias")


def _without_stop(text: str, request: ChatRequest) -> str:
    stops = StopSequences(request.stop)
    return stops.add(text) + stops.end()
