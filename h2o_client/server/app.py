"""The chat-ui of 2023 (generation A) as a Starlette application around any `Engine`.

Statuses, content types and bodies are those of recordings of a chat-ui v0.4.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Annotated, Any, TypeVar

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from h2o_client.server import pages, replies
from h2o_client.server.answer import Answer
from h2o_client.server.engine import BUNDLED_MODEL, Engine, Turn
from h2o_client.server.forms import read_form
from h2o_client.server.generation import Generations
from h2o_client.server.hook import Hook
from h2o_client.server.replies import Refusal
from h2o_client.server.store import Conversation, Store, parse_id, with_answer, with_question
from h2o_client.wire.pagedata import Data, Failed

PARAMETERS: Mapping[str, object] = {
    "temperature": 0.2,
    "top_p": 0.9,
    "repetition_penalty": 1.1,
    "max_new_tokens": 512,
}
"""The bundled model's sampling parameters: shown to clients, and used where they say nothing."""


def create_app(
    engine: Engine,
    *,
    model: str = BUNDLED_MODEL,
    parameters: Mapping[str, object] = PARAMETERS,
    terms: bool = False,
    origin: str | None = None,
    secure_cookie: bool = True,
    max_generations: int = 16,
) -> Starlette:
    """A chat-ui that answers with ``engine``, under the name ``model``.

    ``terms``: POST and DELETE are refused until the session has accepted the terms. ``origin``:
    what the server believes its origin to be, a whole origin or a scheme alone ("https" is what a
    chat-ui without ORIGIN believes). ``secure_cookie``: mark the cookie Secure, over http too, as
    chat-ui does. At most ``max_generations`` run at once; further messages wait.
    """
    store = Store()
    generations = Generations(engine, limit=max_generations)
    routes = _Routes(store, generations, model=model, parameters=parameters)
    return Starlette(
        routes=[
            Route("/", routes.home),
            Route("/__data.json", routes.home_data),
            Route("/settings", routes.settings, methods=["POST"]),
            Route("/conversation", routes.conversations, methods=["GET", "POST"]),
            Route("/conversation/{id}/__data.json", routes.conversation_data),
            Route("/conversation/{id}", routes.conversation, methods=["POST", "PATCH", "DELETE"]),
            Route("/conversation/{id}/stop-generating", routes.stop, methods=["POST"]),
        ],
        middleware=[
            Middleware(Hook, store=store, terms=terms, origin=origin, secure_cookie=secure_cookie)
        ],
        exception_handlers={
            Refusal: replies.answer_refusal,
            HTTPException: replies.answer_http_exception,
            ClientDisconnect: replies.answer_nobody,
            Exception: replies.answer_crash,
        },
        lifespan=partial(_lifespan, generations),
    )


@asynccontextmanager
async def _lifespan(generations: Generations, app: Starlette) -> AsyncIterator[None]:
    try:
        yield
    finally:
        generations.close()


class _Routes:
    """The routes: a request comes in, an ASGI response goes out."""

    def __init__(
        self,
        store: Store,
        generations: Generations,
        *,
        model: str,
        parameters: Mapping[str, object],
    ) -> None:
        self._store = store
        self._generations = generations
        self._model = model
        self._parameters = dict(parameters)

    async def home(self, request: Request) -> Response:
        return replies.home_page(f"A chat-ui server with {self._model}")

    async def home_data(self, request: Request) -> Response:
        return replies.page_data(request, [self._layout(request), None])

    async def conversation_data(self, request: Request) -> Response:
        return replies.page_data(request, [self._layout(request), self._page(request)])

    async def settings(self, request: Request) -> Response:
        try:
            form = read_form(request.headers.get("content-type", ""), await request.body())
        except ValueError:
            return replies.action_error(request)
        if form.get("activeModel", self._model) != self._model:
            return replies.action_error(request)
        self._store.save_settings(
            request.state.session,
            # Any text opts in, "false" too; an empty or missing field opts out.
            share=bool(form.get("shareConversationsWithModelAuthors")),
            active_model=self._model,
            accepted=bool(form.get("ethicsModalAccepted")),
        )
        return replies.action_redirect(request, request.headers.get("referer") or "/")

    async def conversations(self, request: Request) -> Response:
        if request.method != "POST":
            return Response(status_code=302, headers={"location": "/"})
        asked = await _read_json(request, _Creation)
        if asked.model != self._model:
            raise Refusal()
        made = self._store.create(request.state.session, model=asked.model)
        return JSONResponse({"conversationId": made.id})

    async def conversation(self, request: Request) -> ASGIApp:
        conversation = self._conversation(request)
        if request.method == "POST":
            return self._answer(conversation, await _read_json(request, _Question))
        if request.method == "PATCH":
            return self._renamed(conversation, await _read_json(request, _Renaming))
        self._store.delete(conversation.session, conversation.id)
        return Response()

    async def stop(self, request: Request) -> Response:
        await self._generations.stop(self._conversation(request).id)
        return Response()

    def _renamed(self, conversation: Conversation, asked: _Renaming) -> Response:
        title = asked.title.strip()
        if not 1 <= len(title) <= 100:
            raise Refusal()
        self._store.rename(conversation.session, conversation.id, title)
        return Response()

    def _answer(self, conversation: Conversation, asked: _Question) -> ASGIApp:
        options = asked.options
        content = asked.inputs.strip()
        # There is no web search here: the id of one is unknown.
        if not content or options.web_search_id:
            raise Refusal()
        messages = with_question(
            conversation.messages,
            id=options.id or str(uuid.uuid4()),
            content=content,
            retry=bool(options.is_retry and options.id),
        )
        answer_id = options.response_id or str(uuid.uuid4())

        def save(text: str) -> None:
            # What was not streamed is not kept, as in chat-ui.
            if asked.stream:
                saved = with_answer(messages, id=answer_id, content=text.rstrip())
                self._store.save_messages(conversation.session, conversation.id, saved)

        begin = partial(
            self._generations.begin,
            conversation.id,
            [Turn(each.sender, each.content) for each in messages],
            {**self._parameters, **(asked.parameters or {})},
        )
        return Answer(begin, save=save, streamed=asked.stream)

    def _conversation(self, request: Request) -> Conversation:
        found = self._store.conversation(request.state.session, _id(request))
        if found is None:
            raise Refusal(404, "Conversation not found")
        return found

    def _layout(self, request: Request) -> Data:
        session = request.state.session
        return pages.layout(
            self._store.conversations(session),
            self._store.settings(session),
            model=self._model,
            parameters=self._parameters,
        )

    def _page(self, request: Request) -> Data | Failed:
        try:
            conversation_id = _id(request)
        except Refusal as exc:
            return Failed(exc.status, exc.said)
        found = self._store.conversation(request.state.session, conversation_id)
        if found is not None:
            return pages.conversation_page(found)
        if self._store.exists(conversation_id):
            return Failed(403, _NO_ACCESS)
        return Failed(404, "Conversation not found.")


_NO_ACCESS = (
    "You don't have access to this conversation. "
    "If someone gave you this link, ask them to use the 'share' feature instead."
)


class _Creation(msgspec.Struct):
    model: str


class _Renaming(msgspec.Struct):
    title: str


_Uuid = Annotated[str, msgspec.Meta(pattern="^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$")]


class _Options(msgspec.Struct):
    # Absent is fine, null is not.
    id: _Uuid | msgspec.UnsetType = msgspec.UNSET
    response_id: _Uuid | msgspec.UnsetType = msgspec.UNSET
    is_retry: bool | msgspec.UnsetType = msgspec.UNSET
    web_search_id: str | msgspec.UnsetType = msgspec.UNSET


class _Question(msgspec.Struct):
    inputs: str
    options: _Options
    parameters: dict[str, Any] | None = None
    stream: bool = False


_Body = TypeVar("_Body", bound=msgspec.Struct)


def _id(request: Request) -> str:
    try:
        return parse_id(request.path_params["id"])
    except ValueError:
        raise Refusal() from None


async def _read_json(request: Request, shape: type[_Body]) -> _Body:
    # A body without Content-Type is dropped on the way, as by chat-ui's own server.
    body = await request.body() if "content-type" in request.headers else b""
    try:
        return msgspec.json.decode(body, type=shape)
    except msgspec.DecodeError:
        raise Refusal() from None
