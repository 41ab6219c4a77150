"""The routes of v0.10.0 outside ``/api``, and the additional routes for runs."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from typing import ClassVar

import msgspec
from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from h2o_client.server import v0_9_6
from h2o_client.server.engine import Engine
from h2o_client.server.forms import Form
from h2o_client.server.generation import Generations
from h2o_client.server.latest import frames
from h2o_client.server.latest.api import Api
from h2o_client.server.latest.bodies import Question, expect_elicited, read_stop
from h2o_client.server.latest.event_stream import EventStream
from h2o_client.server.latest.run_logs import Log, Logs
from h2o_client.server.latest.stops import Stops
from h2o_client.server.records import Conversation, Message
from h2o_client.server.replies import Refusal
from h2o_client.server.store import Store
from h2o_client.server.v0_9_6 import api as v0_9_6_api
from h2o_client.server.v0_9_6 import bodies, stored_conversations, tree
from h2o_client.server.v0_9_6.runs import Run
from h2o_client.wire import superjson


class Routes(v0_9_6.Routes):
    """The routes of the latest chat-ui that a client can use."""

    api: ClassVar[type[v0_9_6_api.Api]] = Api
    question: ClassVar[type[bodies.Question]] = Question
    kept_every: ClassVar[float | None] = 3.0

    def __init__(
        self,
        store: Store,
        generations: Generations,
        *,
        engine: Engine,
        model: str,
        parameters: Mapping[str, object],
    ) -> None:
        super().__init__(store, generations, engine=engine, model=model, parameters=parameters)
        self._logs = Logs(store.limits.logs)
        self._stops = Stops()
        store.forgotten = self._forget

    def table(self) -> list[BaseRoute]:
        conversation = "/conversation/{id}"
        return [
            *super().table(),
            Route(f"{conversation}/stream", self.stream),
            Route(f"{conversation}/elicitation", self.elicitation, methods=["POST"]),
            Route("/api/v2/generations/live", self.live),
        ]

    # Runs

    async def stream(self, request: Request) -> ASGIApp:
        found = stored_conversations.own(self._store, request)
        generation_id = _query(request, "generationId")
        log = self._logs.find(found.id, generation_id)
        if log is not None:
            said = frames.of_log(log, _after(request))
        else:
            expired = any(_is_of(each, generation_id) for each in found.messages)
            said = frames.of_no_log("completed" if expired else "gone")
        return EventStream(said, seconds=self._store.limits.log_seconds)

    async def live(self, request: Request) -> ASGIApp:
        said = frames.of_all(self._store, self._logs, request.state.session)
        return EventStream(said, seconds=self._store.limits.log_seconds)

    async def stop(self, request: Request) -> Response:
        found = stored_conversations.own(self._store, request)
        asked = await read_stop(request)
        await self._stops.stop(found.id, self._runs.of(found.id), asked)
        return Response()

    async def elicitation(self, request: Request) -> Response:
        stored_conversations.own(
            self._store, request, malformed=Refusal(404, "Conversation not found")
        )
        await expect_elicited(request)
        # There are no tools here, and so no elicitations.
        raise Refusal(404, "Unknown elicitation.")

    # Messages

    def _also_created(self, made: Conversation) -> Mapping[str, object]:
        return {"conversation": superjson.write(self._api.tree(made)).decode()}

    def _branch(
        self, conversation: Conversation, asked: bodies.Question, form: Form
    ) -> tree.Branch:
        assert isinstance(asked, Question)
        if asked.resumes is not UNSET:
            raise Refusal() if asked.id is UNSET else Refusal(404, "No parked message to resume")
        branch = super()._branch(conversation, asked, form)
        own = str(uuid.uuid4()) if asked.generation_id is UNSET else asked.generation_id
        *before, answer = branch.added
        answer = msgspec.structs.replace(answer, generation_id=own)
        return tree.Branch((*before, answer), branch.history)

    def _new_updates(self, answer: Message) -> Log:
        return Log(str(answer.generation_id))

    def _start(self, conversation: Conversation, branch: tree.Branch, title: str) -> Run:
        run = super()._start(conversation, branch, title)
        assert isinstance(run.updates, Log)
        # If the id was used before, this run has no log, and the earlier run keeps its log.
        if not any(_is_of(each, run.updates.generation_id) for each in conversation.messages):
            self._logs.add(conversation.id, run.updates)
        self._stops.note_start(run)
        return run

    def _forget(self, conversation_id: str) -> None:
        self._logs.forget(conversation_id)
        self._stops.forget(conversation_id)


def _is_of(message: Message, generation_id: str) -> bool:
    # Whether it is a message of that run, or of any run without an id.
    own = message.generation_id
    return own is not None and generation_id in ("", own)


def _after(request: Request) -> int:
    # Like JavaScript's parseInt, but 0 if the text does not begin with a number.
    said = request.headers.get("last-event-id", _query(request, "fromSeq"))
    found = re.match(r"\s*\+?(\d{1,15})", said, re.ASCII)
    return int(found[1]) if found else 0


def _query(request: Request, name: str) -> str:
    # The first one, if there are several.
    return next(iter(request.query_params.getlist(name)), "")
