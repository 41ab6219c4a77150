"""A stateful chat-ui of any version, as strict as the real ones.

This module has the routes of sessions and the table of all routes. `fake_server.py` has the base of
the routes, `fake_conversations.py` and `fake_messages.py` have the other routes, `fake_model.py`
streams the answers, `fake_store.py` stores the data, and `fake_documents.py` creates the documents.
"""

from __future__ import annotations

import json

import fake_documents as documents
from fake_messages import MessageRoutes
from fake_server import FORMS, Route
from fake_store import Refusal, Session, settings_of_form, settings_of_json
from fake_wire import superjson
from scripted import Exchange


class FakeChatUi(MessageRoutes):
    """A chat-ui; its arguments are in `FakeServer`."""

    def root(self, exchange: Exchange, value: str) -> None:
        if not self.version.has_pages:
            exchange.answer(200, b'{"type":"data","nodes":[null,null]}\n', "application/json")
            return
        node, chunk = self.layout(value)
        kind = "application/json" if chunk is None else "text/sveltekit-data"
        self.reply(exchange, value, documents.page(node, None, chunk=chunk), kind)

    def post_settings(self, exchange: Exchange, value: str) -> None:
        request, version = exchange.request, self.version
        kind = request.headers.get("content-type", "").partition(";")[0]
        if version.before(0, 7):
            try:
                if kind not in FORMS:
                    raise Refusal(500)
                fields = {each.name: each.data.decode() for each in request.form()}
                found, accepted = settings_of_form(version, fields, json.loads)
            except (Refusal, ValueError):
                error = b'{"type":"error","error":{"message":"Internal Error"}}'
                self.reply(exchange, value, error, status=500)
                return
        else:
            body = self.body(exchange)
            if isinstance(body, dict) and "shareConversationsWithModelAuthors" not in body:
                self.violate("the settings left sharing out, which turns it on")
            found, accepted = settings_of_json(version, body)
        with self.changed:
            self.cookie(value)
            session = self.sessions[value]
            session.settings = found
            session.accepted = session.accepted or accepted
        if version.before(0, 7):
            place = request.headers.get("referer") or f"{self.base}/"
            answer = {"type": "redirect", "status": 303, "location": place}
            self.reply(exchange, value, json.dumps(answer).encode())
        else:
            self.reply(exchange, value, b"", "")

    def get_settings(self, exchange: Exchange, value: str) -> None:
        session = self.sessions.get(value, Session())
        exchange.answer(
            200,
            superjson(documents.v2_settings(self.version, session)),
            "application/json",
        )

    def models(self, exchange: Exchange, value: str) -> None:
        exchange.json(documents.api_models(self.version))

    def api_user(self, exchange: Exchange, value: str) -> None:
        user = self.sessions.get(value, Session()).user
        if user is None:
            exchange.json({"message": "Must be signed in"}, status=401)
        else:
            exchange.json(user)

    def v2_user(self, exchange: Exchange, value: str) -> None:
        user = self.sessions.get(value, Session()).user
        exchange.answer(200, superjson(user), "application/json")

    def feature_flags(self, exchange: Exchange, value: str) -> None:
        flags = {"enableAssistants": False, "loginEnabled": bool(self.login), "isAdmin": False}
        exchange.answer(200, superjson(flags), "application/json")


_C = "/conversation/([^/]+)"
FakeChatUi.routes = (
    Route("GET", r"/__data\.json", FakeChatUi.root),
    Route("POST", "/settings", FakeChatUi.post_settings),
    Route("POST", "/conversation", FakeChatUi.create),
    Route("POST", "/conversations", FakeChatUi.delete_all, before=(0, 9, 5)),
    Route("POST", _C, FakeChatUi.message),
    Route("PATCH", _C, FakeChatUi.rename),
    Route("DELETE", _C, FakeChatUi.delete),
    Route("GET", _C + r"/__data\.json", FakeChatUi.conversation_page),
    Route("POST", _C + "/stop-generating", FakeChatUi.stop_run),
    Route("GET", _C + "/stream", FakeChatUi.resume, first=(0, 11)),
    Route("GET", "/api/v2/generations/live", FakeChatUi.running, first=(0, 11)),
    Route("POST", _C + "/elicitation", FakeChatUi.elicitation, first=(0, 11)),
    Route("POST", _C + "/share", FakeChatUi.share),
    Route("POST", _C + "/summarize", FakeChatUi.summarize, before=(0, 7)),
    Route("GET", _C + "/web-search", FakeChatUi.web_search, before=(0, 7)),
    Route("POST", _C + "/message/([^/]+)/vote", FakeChatUi.vote, before=(0, 9, 6)),
    Route("GET", "/api/models", FakeChatUi.models, first=(0, 8)),
    Route("GET", "/api/user", FakeChatUi.api_user, first=(0, 8)),
    Route("GET", "/api/conversations", FakeChatUi.listed, first=(0, 8)),
    Route("DELETE", "/api/conversations", FakeChatUi.delete_all, first=(0, 9, 5)),
    Route("GET", "/api/conversation/([^/]+)", FakeChatUi.api_conversation, first=(0, 8)),
    Route("GET", "/api/v2/user", FakeChatUi.v2_user, first=(0, 9, 6)),
    Route("GET", "/api/v2/feature-flags", FakeChatUi.feature_flags, first=(0, 9, 6)),
    Route("GET", "/api/v2/user/settings", FakeChatUi.get_settings, first=(0, 9, 6)),
    Route("POST", "/api/v2/user/settings", FakeChatUi.post_settings, first=(0, 9, 6)),
    Route("GET", "/api/v2/conversations", FakeChatUi.v2_listed, first=(0, 9, 6)),
    Route("GET", "/api/v2/conversations/([^/]+)", FakeChatUi.v2_conversation, first=(0, 9, 6)),
)
