"""The routes under ``/api``, in JSON, and under ``/api/v2``, in superjson."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import ClassVar

import msgspec
from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from h2o_client.server.bodies import read_json
from h2o_client.server.records import Conversation, Shared, parse_id
from h2o_client.server.replies import NO_ACCESS, Refusal
from h2o_client.server.store import Store
from h2o_client.server.v0_9_6 import preferences, response_documents, stored_conversations
from h2o_client.server.v0_9_6.bodies import Change, Import
from h2o_client.server.v0_9_6.preferences import Preferences
from h2o_client.wire import pagedata, superjson

_PAGE = 30


class Api:
    """The routes of chat-ui v0.10.0 with the data of its pages."""

    preferences: ClassVar[type[Preferences]] = Preferences

    def __init__(self, store: Store, *, model: str, parameters: Mapping[str, object]) -> None:
        self._store = store
        self._model = model
        self._parameters = dict(parameters)

    def table(self) -> list[BaseRoute]:
        """All routes."""
        changing = ["GET", "PATCH", "DELETE"]
        return [
            Route("/api/models", self.models),
            Route("/api/user", self.user),
            Route("/api/conversations", self.conversations, methods=["GET", "DELETE"]),
            Route("/api/conversation/{id}", self.conversation),
            Route("/api/v2/feature-flags", self.flags),
            Route("/api/v2/models", self.models_v2),
            Route("/api/v2/models/old", self.old_models_v2),
            Route("/api/v2/models/{model:path}", self.model_v2),
            Route("/api/v2/user", self.user_v2),
            Route("/api/v2/user/settings", self.settings_v2, methods=["GET", "POST"]),
            Route("/api/v2/conversations", self.conversations_v2, methods=["GET", "DELETE"]),
            Route("/api/v2/conversations/import-share", self.copy_v2, methods=["POST"]),
            Route("/api/v2/conversations/{id}", self.conversation_v2, methods=changing),
        ]

    # Models and users

    async def models(self, request: Request) -> Response:
        return _plain([self._model_entry()])

    async def models_v2(self, request: Request) -> Response:
        return _super([self._model_in_full()])

    async def old_models_v2(self, request: Request) -> Response:
        return _super([])

    async def model_v2(self, request: Request) -> Response:
        if request.path_params["model"] != self._model:
            raise Refusal(404, "Model not found")
        return _super(self._model_in_full())

    async def flags(self, request: Request) -> Response:
        flags = ("enableAssistants", "loginEnabled", "isAdmin", "transcriptionEnabled")
        return _super(dict.fromkeys(flags, False))

    async def user(self, request: Request) -> Response:
        raise Refusal(401, "Must be signed in")

    async def user_v2(self, request: Request) -> Response:
        return _super(None)

    def _model_entry(self) -> response_documents.Document:
        return response_documents.model(self._model)

    def _model_in_full(self) -> response_documents.Document:
        return response_documents.model_in_full(self._model, self._parameters)

    # Settings

    async def settings_v2(self, request: Request) -> Response:
        if request.method == "POST":
            return await self.save_settings(request)
        kept = self._store.settings(request.state.session)
        return _super(preferences.shown(kept, self.preferences, model=self._model))

    async def save_settings(self, request: Request) -> Response:
        asked = await read_json(request, self.preferences)
        self._store.save_settings(
            request.state.session,
            share=asked.share_conversations_with_model_authors,
            active_model=self._model,
            accepted=asked.welcome_modal_seen is True,
            document=msgspec.json.encode(asked),
        )
        return Response()

    # Conversations

    async def conversations(self, request: Request) -> Response:
        if request.method == "DELETE":
            self._store.delete_all(request.state.session)
            return Response()
        page, _ = self._page(request)
        return _plain([response_documents.entry(each) for each in page])

    async def conversations_v2(self, request: Request) -> Response:
        if request.method == "DELETE":
            return _super(self._store.delete_all(request.state.session))
        page, more = self._page(request)
        return _super(
            {"conversations": [response_documents.entry(each) for each in page], "hasMore": more}
        )

    async def copy_v2(self, request: Request) -> Response:
        asked = await read_json(request, Import, unfit="Missing shareId")
        made = stored_conversations.copied(self._store, request.state.session, asked.share_id)
        return _super({"conversationId": made.id})

    async def conversation(self, request: Request) -> Response:
        return _plain(
            response_documents.conversation(stored_conversations.own(self._store, request))
        )

    async def conversation_v2(self, request: Request) -> Response:
        if request.method in ("GET", "HEAD"):
            return _super(self.tree(self._shown(request)))
        if request.method == "PATCH":
            await self.change(request, v2=True)
        else:
            found = stored_conversations.own(self._store, request, malformed=_malformed())
            self._store.delete(found.session, found.id)
        return _super({"success": True})

    def tree(self, found: Conversation | Shared) -> response_documents.Document:
        """Respond with the document of a conversation."""
        return response_documents.conversation_tree(found)

    async def change(self, request: Request, *, v2: bool = False) -> None:
        """Rename the conversation in the path. Raises `Refusal`."""
        asked = await read_json(request, Change)
        title = asked.title if v2 or not isinstance(asked.title, str) else asked.title.strip()
        named = isinstance(title, str) and 1 <= len(title) <= stored_conversations.LONGEST_TITLE
        if title is not UNSET and not named:
            raise Refusal(400, _NO_TITLE) if v2 else Refusal()
        if asked.model not in (UNSET, self._model):
            raise Refusal(400, "Invalid model ID") if v2 else Refusal()
        found = stored_conversations.own(
            self._store, request, malformed=_malformed() if v2 else None
        )
        if isinstance(title, str):
            self._store.rename(found.session, found.id, stored_conversations.clean(title))

    def _shown(self, request: Request) -> Conversation | Shared:
        asked = request.path_params["id"]
        if len(asked) == stored_conversations.SHARE_ID_LENGTH:
            return stored_conversations.shared(self._store, asked)
        try:
            conversation_id = parse_id(asked)
        except ValueError:
            raise Refusal(400, "Invalid conversation ID format") from None
        found = self._store.conversation(request.state.session, conversation_id)
        if found is None and self._store.exists(conversation_id):
            raise Refusal(403, NO_ACCESS)
        if found is None:
            raise Refusal(404, "Conversation not found.")
        return found

    def _page(self, request: Request) -> tuple[list[Conversation], bool]:
        asked = request.query_params.get("p", "")
        first = int(asked) * _PAGE if asked.isdecimal() and len(asked) < 10 else 0
        found = self._store.conversations(request.state.session)[first : first + _PAGE + 1]
        return found[:_PAGE], len(found) > _PAGE


_NO_TITLE = "Title must be a string between 1 and 100 characters"


def _malformed() -> Refusal:
    return Refusal(400, "Invalid conversation ID")


def _plain(document: object) -> Response:
    text = json.dumps(
        document, ensure_ascii=False, separators=(",", ":"), default=pagedata.write_date
    )
    return Response(text, media_type="application/json")


def _super(document: object) -> Response:
    return Response(superjson.write(document), media_type="application/json")
