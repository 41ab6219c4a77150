"""The routes of chat-ui v0.4."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from h2o_client.server import replies
from h2o_client.server.bodies import read_json
from h2o_client.server.engine import Engine, Turn, prompt_of
from h2o_client.server.forms import read_form
from h2o_client.server.generation import Generations
from h2o_client.server.records import Conversation, Message, Shared, parse_id
from h2o_client.server.replies import NO_ACCESS, Refusal
from h2o_client.server.store import Store
from h2o_client.server.v0_3 import page_nodes
from h2o_client.server.v0_3.answer import Answer, Title
from h2o_client.server.v0_3.bodies import Creation, Question, Renaming, Vote
from h2o_client.server.v0_3.message_list import with_answer, with_question
from h2o_client.wire.pagedata import Data, Failed, Node, Skipped

_SUMMARIZE = "Please summarize the following message as a single sentence of less than 5 words:\n"
_LONGEST_TITLE = 100
_MARK_LASTS = 30.0  # seconds
_SEARCH_LASTS = 300.0  # seconds, so that the connection of an idle client ends


class Routes:
    """Every route of a chat-ui v0.4 that a client can use."""

    def __init__(
        self,
        store: Store,
        generations: Generations,
        *,
        engine: Engine,
        model: str,
        parameters: Mapping[str, object],
    ) -> None:
        self._store = store
        self._generations = generations
        self._engine = engine
        self._model = model
        self._parameters = dict(parameters)
        # For each conversation, the time until which another stop has no effect.
        self._marks: dict[str, float] = {}

    def table(self) -> list[BaseRoute]:
        """All routes."""
        conversation, message = "/conversation/{id}", "/conversation/{id}/message/{message}"
        return [
            Route("/", self.home),
            Route("/__data.json", self.home_data),
            Route("/settings", self.settings, methods=["POST"]),
            Route("/conversations", self.delete_all, methods=["POST"]),
            Route("/conversation", self.conversations, methods=["GET", "POST"]),
            Route(f"{conversation}/__data.json", self.conversation_data),
            Route(conversation, self.conversation, methods=replies.ALL_METHODS),
            Route(f"{conversation}/stop-generating", self.stop, methods=["POST"]),
            Route(f"{conversation}/summarize", self.summarize, methods=["POST"]),
            Route(f"{conversation}/share", self.share, methods=["POST"]),
            Route(f"{conversation}/web-search", self.web_search),
            Route(f"{message}/vote", self.vote, methods=["POST"]),
            Route(f"{message}/prompt", self.prompt),
            Route("/r/{id}", self.shared),
            Route("/r/{id}/__data.json", self.shared_data),
            Route("/r/{id}/message/{message}/prompt", self.shared_prompt),
        ]

    async def close(self) -> None:
        """Do nothing: no answer runs in the background here."""

    # Pages

    async def home(self, request: Request) -> Response:
        asked = request.query_params.get("model")
        if asked is None:
            return replies.home(request, self._model)
        if asked == self._model:
            before = self._store.settings(request.state.session)
            self._store.save_settings(
                request.state.session, share=before.share, active_model=asked, accepted=False
            )
        return Response(status_code=302, headers={"location": "/"})

    async def home_data(self, request: Request) -> Response:
        return _page_data(request, [self._layout(request), None])

    async def conversation_data(self, request: Request) -> Response:
        return _page_data(request, [self._layout(request), self._page(request)])

    async def shared_data(self, request: Request) -> Response:
        shared = self._store.shared(request.path_params["id"])
        page: Data | Failed = Failed(404, "Conversation not found")
        if shared is not None:
            page = page_nodes.conversation_page(shared)
        return _page_data(request, [self._layout(request), page])

    async def shared(self, request: Request) -> Response:
        shared = self._store.shared(request.path_params["id"])
        if shared is None:
            raise HTTPException(404)
        return _shown(shared)

    # Forms and bodies

    async def settings(self, request: Request) -> Response:
        try:
            form = (await read_form(request)).fields
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

    async def delete_all(self, request: Request) -> Response:
        try:
            await read_form(request)
        except ValueError:
            return replies.action_error(request)
        if "/delete" not in request.query_params:
            return replies.action_error(request)
        self._store.delete_all(request.state.session)
        return replies.action_redirect(request, "/")

    async def conversations(self, request: Request) -> Response:
        if request.method != "POST":
            return Response(status_code=302, headers={"location": "/"})
        asked = await read_json(request, Creation)
        if asked.model != self._model:
            raise Refusal()
        session = request.state.session
        if asked.from_share is msgspec.UNSET:
            made = self._store.create(session, model=asked.model)
        else:
            shared = self._store.shared(asked.from_share)
            if shared is None:
                raise Refusal(404, "Conversation not found")
            made = self._store.create(
                session,
                model=asked.model,
                title=shared.title,
                messages=shared.messages,
                searches=shared.searches,
            )
        return JSONResponse({"conversationId": made.id})

    # One conversation

    async def conversation(self, request: Request) -> ASGIApp:
        if request.method in _ELSEWHERE:
            return self._opened(request)
        conversation = self._conversation(request)
        if request.method == "POST":
            return self._answer(request, conversation, await read_json(request, Question))
        if request.method == "PATCH":
            return self._renamed(conversation, await read_json(request, Renaming))
        self._store.delete(conversation.session, conversation.id)
        return Response()

    async def stop(self, request: Request) -> Response:
        """Stop the answer. As in chat-ui, another stop within 30 s has no effect."""
        conversation_id = self._conversation(request).id
        moment = time.monotonic()
        self._marks = {name: ends for name, ends in self._marks.items() if ends > moment}
        if conversation_id not in self._marks:
            self._marks[conversation_id] = moment + _MARK_LASTS
            await self._generations.stop(conversation_id)
        return Response()

    async def share(self, request: Request) -> Response:
        shared = self._store.share(self._conversation(request))
        return JSONResponse({"url": f"{request.state.origin}/r/{shared.id}"})

    async def summarize(self, request: Request) -> ASGIApp:
        conversation = self._conversation(request)
        first = conversation.messages[0].content if conversation.messages else ""

        def save(text: str) -> object:
            title = " ".join(text.split()).strip(" \"'")[:_LONGEST_TITLE]
            if title:
                self._store.rename(conversation.session, conversation.id, title)
            return {"title": title} if title else {}

        own = getattr(self._engine, "title", None)
        if own is not None:
            return JSONResponse(save(own(first)))
        begin = partial(
            self._generations.begin,
            f"{conversation.id}/summarize",  # another name, because a stop is for the answer
            [Turn("user", _SUMMARIZE + first)],
            {**self._parameters, **_OF_TITLES},
        )
        return Title(begin, save=save, crashed=replies.internal_error(request))

    async def web_search(self, request: Request) -> Response:
        conversation = self._conversation(request)
        if not request.query_params.get("prompt", "").strip():
            raise Refusal()
        steps = page_nodes.search_steps(self._store.note_search(conversation))

        async def documents() -> AsyncIterator[bytes]:
            for each in steps:
                yield msgspec.json.encode({"messages": each})
            # chat-ui does not end the body: clients disconnect after the result.
            await asyncio.sleep(_SEARCH_LASTS)

        return StreamingResponse(documents(), media_type="application/json")

    async def vote(self, request: Request) -> Response:
        asked = await read_json(request, Vote)
        session, message_id = request.state.session, request.path_params["message"]
        if not self._store.vote(session, _id(request), message_id, asked.score):
            raise Refusal(404, "Message not found")
        return Response()

    async def prompt(self, request: Request) -> Response:
        return await self._preview(request, self._conversation(request))

    async def shared_prompt(self, request: Request) -> Response:
        shared = self._store.shared(request.path_params["id"])
        if shared is None:
            raise Refusal(404, "Conversation not found")
        return await self._preview(request, shared)

    def _opened(self, request: Request) -> Response:
        # A browser gets the page, other clients the allowed methods.
        if request.method != "GET" or not replies.wants_html(request, unsaid="application/json"):
            raise HTTPException(405, headers={"Allow": "POST, PATCH, DELETE"})
        return _shown(self._conversation(request))

    def _renamed(self, conversation: Conversation, asked: Renaming) -> Response:
        title = asked.title.strip()
        if not 1 <= len(title) <= _LONGEST_TITLE:
            raise Refusal()
        self._store.rename(conversation.session, conversation.id, title)
        return Response()

    def _answer(self, request: Request, conversation: Conversation, asked: Question) -> ASGIApp:
        self._store.expect_message(conversation, allowance=1)
        options = asked.options
        content = asked.inputs.strip()
        search = options.web_search_id or ""
        if not content or (search and search not in conversation.searches):
            raise Refusal()
        messages = with_question(
            conversation.messages,
            id=options.id or str(uuid.uuid4()),
            content=content,
            retry=bool(options.is_retry and options.id),
        )
        answer_id = options.response_id or str(uuid.uuid4())

        def save(text: str) -> None:
            # As in chat-ui, an answer that is not streamed is not stored.
            if asked.stream:
                saved = with_answer(
                    messages, id=answer_id, content=text.rstrip(), web_search_id=search
                )
                self._store.save_messages(conversation.session, conversation.id, saved)

        begin = partial(
            self._generations.begin,
            conversation.id,
            _turns(messages),
            {**self._parameters, **(asked.parameters or {})},
        )
        crashed = replies.internal_error(request)
        return Answer(begin, save=save, streamed=asked.stream, crashed=crashed)

    async def _preview(self, request: Request, conversation: Conversation | Shared) -> Response:
        ids = [each.id for each in conversation.messages]
        if request.path_params["message"] not in ids:
            raise Refusal(404, "Message not found")
        turns = _turns(conversation.messages[: ids.index(request.path_params["message"]) + 1])
        # In a thread, because an engine may have to call its model.
        prompt = await asyncio.to_thread(prompt_of, self._engine, turns, self._parameters)
        document = {
            "note": _PREVIEW,
            "prompt": prompt,
            "model": conversation.model,
            "parameters": {**self._parameters, "return_full_text": False},
        }
        shown = json.dumps(document, indent=2, ensure_ascii=False)
        return Response(shown, media_type="application/json")

    def _conversation(self, request: Request) -> Conversation:
        found = self._store.conversation(request.state.session, _id(request))
        if found is None:
            raise Refusal(404, "Conversation not found")
        return found

    def _layout(self, request: Request) -> Data:
        session = request.state.session
        return page_nodes.layout(
            self._store.conversations(session),
            self._store.settings(session),
            model=self._model,
            parameters=self._parameters,
        )

    def _page(self, request: Request) -> Data | Failed:
        try:
            conversation_id = _id(request)
        except Refusal:
            return Failed(500, "Internal Error")
        found = self._store.conversation(request.state.session, conversation_id)
        if found is not None:
            return page_nodes.conversation_page(found)
        if self._store.exists(conversation_id):
            return Failed(403, NO_ACCESS)
        return Failed(404, "Conversation not found.")


_ELSEWHERE = frozenset({"GET", "HEAD", "PUT", "OPTIONS"})
_OF_TITLES = {"max_new_tokens": 32, "truncate": 1000, "return_full_text": False}
_PREVIEW = (
    "This is a preview of the prompt that will be sent to the model when retrying the message. "
    "It may differ from what was sent in the past if the parameters have been updated since"
)


def _page_data(request: Request, nodes: Sequence[Node]) -> Response:
    wanted = request.query_params.get("x-sveltekit-invalidated")
    if wanted is not None:
        # SvelteKit 1.15: one flag for each node, separated by underscores; an empty one is false.
        flags = [bool(flag) for flag in wanted.split("_")] + [False] * len(nodes)
        nodes = [node if flag else Skipped() for node, flag in zip(nodes, flags, strict=False)]
    return replies.page_data(nodes)


def _id(request: Request) -> str:
    try:
        return parse_id(request.path_params["id"])
    except ValueError:
        raise Refusal() from None


def _turns(messages: Sequence[Message]) -> list[Turn]:
    return [Turn(each.sender, each.content) for each in messages]


def _shown(conversation: Conversation | Shared) -> Response:
    said = [f"{each.sender}: {each.content}" for each in conversation.messages]
    return replies.page(conversation.title, *said)
