"""The routes outside ``/api``: settings, conversations and their messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar
from urllib.parse import quote

import msgspec
from msgspec import UNSET
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from h2o_client.server import replies
from h2o_client.server.bodies import read_json
from h2o_client.server.engine import Engine, Turn
from h2o_client.server.forms import Form, read_form
from h2o_client.server.generation import Generations
from h2o_client.server.records import Conversation, Message, Shared, Update, now
from h2o_client.server.replies import Refusal
from h2o_client.server.store import Store
from h2o_client.server.v0_9_6 import files, stored_conversations, tree
from h2o_client.server.v0_9_6.answer import Answer
from h2o_client.server.v0_9_6.answer_updates import AnswerUpdates
from h2o_client.server.v0_9_6.api import Api
from h2o_client.server.v0_9_6.bodies import Creation, Question, read_question
from h2o_client.server.v0_9_6.runs import Run, Runs
from h2o_client.wire.pagedata import Skipped


class Routes:
    """The routes of chat-ui v0.10.0 that a client can use."""

    api: ClassVar[type[Api]] = Api
    question: ClassVar[type[Question]] = Question
    kept_every: ClassVar[float | None] = None

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
        self._runs = Runs(generations, kept_every=self.kept_every)
        self._engine = engine
        self._model = model
        self._parameters = dict(parameters)
        self._api = self.api(store, model=model, parameters=parameters)

    def table(self) -> list[BaseRoute]:
        """All routes."""
        conversation = "/conversation/{id}"
        return [
            *self._api.table(),
            Route("/", self.home),
            Route("/healthcheck", self.health),
            Route("/__data.json", self.page_data),
            Route("/settings/__data.json", self.settings_data),
            Route("/models/{model:path}/__data.json", self.page_data),
            Route("/settings", self._api.save_settings, methods=["POST"]),
            Route("/conversation", self.conversations, methods=["GET", "POST"]),
            Route(f"{conversation}/__data.json", self.page_data),
            Route(conversation, self.conversation, methods=replies.ALL_METHODS),
            Route(f"{conversation}/stop-generating", self.stop, methods=["POST"]),
            Route(f"{conversation}/share", self.share, methods=["POST"]),
            Route(f"{conversation}/output/{{sha}}", self.output),
            Route("/r/{id}", self.shared),
            Route("/r/{id}/__data.json", self.page_data),
        ]

    async def close(self) -> None:
        """Wait for the end of all stopped answers."""
        await self._runs.close()

    # Pages

    async def home(self, request: Request) -> Response:
        return replies.home(request, self._model)

    async def health(self, request: Request) -> Response:
        return PlainTextResponse("OK")

    async def page_data(self, request: Request) -> Response:
        return _no_data(request, nodes=2)

    async def settings_data(self, request: Request) -> Response:
        return _no_data(request, nodes=4)

    async def shared(self, request: Request) -> Response:
        location = f"/conversation/{quote(request.path_params['id'], safe='')}"
        return Response(status_code=302, headers={"location": location})

    # Conversations

    async def conversations(self, request: Request) -> Response:
        if request.method != "POST":
            return Response(status_code=302, headers={"location": "/"})
        asked = await read_json(request, Creation, unfit=_INVALID)
        if asked.model != self._model:
            raise Refusal(400, _INVALID)
        session = request.state.session
        if asked.from_share is UNSET:
            made = stored_conversations.created(self._store, session, asked)
        else:
            made = stored_conversations.copied(self._store, session, str(asked.from_share))
        return JSONResponse({"conversationId": made.id, **self._also_created(made)})

    async def conversation(self, request: Request) -> ASGIApp:
        if request.method == "POST":
            return await self._answer(request)
        if request.method == "PATCH":
            await self._api.change(request)
            return Response()
        if request.method == "DELETE":
            found = stored_conversations.own(self._store, request)
            self._store.delete(found.session, found.id)
            return Response()
        return self._opened(request)

    async def stop(self, request: Request) -> Response:
        await self._generations.stop(stored_conversations.own(self._store, request).id)
        return Response()

    async def share(self, request: Request) -> Response:
        shared = self._store.share(stored_conversations.own(self._store, request))
        return JSONResponse({"shareId": shared.id})

    async def output(self, request: Request) -> Response:
        file = files.find(self._shown(request).messages, request.path_params["sha"])
        if file is None:
            raise Refusal(404, "File not found")
        return files.download(file)

    def _opened(self, request: Request) -> Response:
        # A browser gets the page, other clients the allowed methods.
        is_shared = len(request.path_params["id"]) == stored_conversations.SHARE_ID_LENGTH
        wants_page = (is_shared and replies.opens_page(request)) or replies.wants_html(
            request, unsaid="application/json"
        )
        if request.method not in ("GET", "HEAD") or not wants_page:
            raise HTTPException(405, headers={"Allow": "POST, PATCH, DELETE"})
        found = self._shown(request)
        said = [f"{each.sender}: {each.content}" for each in found.messages if each.content]
        return replies.page(found.title, *said)

    def _shown(self, request: Request) -> Conversation | Shared:
        if len(request.path_params["id"]) == stored_conversations.SHARE_ID_LENGTH:
            return stored_conversations.shared(self._store, request.path_params["id"])
        return stored_conversations.own(self._store, request)

    def _also_created(self, made: Conversation) -> Mapping[str, object]:
        """More fields in the response to a creation."""
        return {}

    # Messages

    async def _answer(self, request: Request) -> ASGIApp:
        conversation = stored_conversations.own(self._store, request)
        self._store.expect_message(conversation)
        try:
            form = await read_form(request)
        except ValueError:
            raise Refusal() from None
        asked = read_question(form, self.question)
        # Read the conversation again, because messages may have been added in the meantime.
        conversation = stored_conversations.own(self._store, request)
        branch = self._branch(conversation, asked, form)
        title = self._title(conversation, branch)
        run = self._start(conversation, branch, title)
        # This is early enough: no part of the answer is sent before this coroutine waits.
        self._store.add_messages(conversation.session, conversation.id, branch.added)
        if title:
            self._store.rename(conversation.session, conversation.id, title)
        return Answer(run.outbox)

    def _branch(self, conversation: Conversation, asked: Question, form: Form) -> tree.Branch:
        """The messages that the prompt adds to the conversation. Raises `Refusal`."""
        return _branch(conversation.messages, asked, form)

    def _start(self, conversation: Conversation, branch: tree.Branch, title: str) -> Run:
        """Start the answer. May raise `Overloaded`."""
        return self._runs.begin(
            conversation.id,
            _turns(branch.history),
            self._parameters,
            title=title,
            keep=_Keeper(self._store, conversation, branch.added[-1]),
            updates=self._new_updates(branch.added[-1]),
        )

    def _new_updates(self, answer: Message) -> AnswerUpdates:
        """Return the object that collects the updates of the answer."""
        return AnswerUpdates()

    def _title(self, conversation: Conversation, branch: tree.Branch) -> str:
        # A title only for the first message.
        if conversation.title != stored_conversations.NEW:
            return ""
        messages = (*conversation.messages, *branch.added)
        first = next(each.content for each in messages if each.sender == "user")
        own = getattr(self._engine, "title", None)
        made = str(own(first)) if own is not None else " ".join(first.split()[:5])
        return stored_conversations.clean(made)[: stored_conversations.LONGEST_TITLE]


_INVALID = "Invalid request"


class _Keeper:
    """Stores an answer that has ended, or its text so far."""

    def __init__(self, store: Store, conversation: Conversation, answer: Message) -> None:
        self._store = store
        self._conversation = conversation
        self._answer = answer

    def __call__(self, text: str, updates: Sequence[Update], interrupted: bool | None) -> None:
        answer = msgspec.structs.replace(
            self._answer,
            content=text,
            updates=tuple(updates),
            interrupted=interrupted,
            materialized_seq=len(updates) if self._answer.generation_id else None,
            updated_at=now(),
        )
        self._store.save_message(self._conversation.session, self._conversation.id, answer)


def _no_data(request: Request, *, nodes: int) -> Response:
    # The pages of this version have no data: it is under /api. The parameter has a flag per node.
    wanted = request.query_params.get("x-sveltekit-invalidated", "1" * nodes)
    flags = wanted[:nodes].ljust(nodes, "0")
    return replies.page_data([None if flag == "1" else Skipped() for flag in flags])


def _branch(messages: Sequence[Message], asked: Question, form: Form) -> tree.Branch:
    sent = files.read_files(form.files, messages)
    about = tree.find(messages, str(asked.id)) if asked.id is not UNSET else None
    if not (asked.is_retry is True and asked.id is not UNSET):
        if about is None:
            raise Refusal()
        return tree.next_prompt(messages, about, asked.text, sent)
    if about is None:
        raise Refusal(404, "Message not found")
    if about.sender == "assistant":
        return tree.retry(messages, about)
    if about.sender == "user" and asked.text:
        return tree.edit(messages, about, asked.text, sent)
    raise Refusal(500, "Failed to create message")


def _turns(history: Sequence[Message]) -> list[Turn]:
    said = [Turn(each.sender, files.told(each)) for each in history]
    return [turn for turn in said if turn.role != "system" or turn.content.strip()]
