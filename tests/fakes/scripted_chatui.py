"""A chat-ui v0.4 with scripts of a test as routes, and scripts shared by tests."""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import fake_documents as documents
from fake_chatui import FakeChatUi
from fake_model import Says
from fake_store import VERSIONS, Conversation, Message, Session
from fake_wire import Skipped, token_event
from local_service import PATIENCE
from scripted import Exchange, Framing, Routes, Script

SESSION = "e41adc77"
COOKIE = f"hf-chat={SESSION}; Path=/; HttpOnly; Secure; SameSite=None"
ID = "6b02c9d11306e1473508e3f3"
MODEL = "h2oai/h2ogpt-gm-oasst1-en-2048-falcon-40b-v1"
VERSION = replace(VERSIONS["0.4"], models=(MODEL, "other"))
LAYOUT: Mapping[str, object] = documents.layout(VERSION, Session(), [])

_CONVERSATION = re.compile(r"/conversation/([0-9a-f]{24})(?:/.*)?")
_MESSAGE = re.compile(r"/conversation/[0-9a-f]{24}")


Scripts = Script | Sequence[Script]


class ScriptedChatUi(FakeChatUi):
    """A chat-ui v0.4. Each given route is a script, or several in turn.

    It has one session and one id for every conversation, knows every conversation that is named,
    and counts every message of a script as answered with "Hello there".
    """

    def __init__(
        self,
        message: Scripts | None = None,
        *,
        root: Script | None = None,
        settings: Scripts | None = None,
        create: Scripts | None = None,
        read: Scripts | None = None,
        stop: Script | None = None,
        delete: Scripts | None = None,
        others: Mapping[tuple[str, str | re.Pattern[str]], Script] | None = None,
        tls: ssl.SSLContext | None = None,
        patience: float = PATIENCE,
    ) -> None:
        super().__init__(
            "0.4",
            answer=lambda prompt: Says(("Hello", " there")),
            origin="http",
            late=0.0,
            before=self._scripted,
            tls=tls,
            patience=patience,
        )
        self.version = VERSION
        path = _MESSAGE.pattern
        table: dict[tuple[str, str | re.Pattern[str]], Scripts | None] = {
            ("GET", "/__data.json"): root,
            ("POST", "/settings"): settings,
            ("POST", "/conversation"): create,
            ("POST", _MESSAGE): message,
            ("GET", re.compile(path + r"/__data\.json")): read,
            ("POST", re.compile(path + "/stop-generating")): stop,
            ("DELETE", _MESSAGE): delete,
            **(others or {}),
        }
        self._routes = Routes({key: script for key, script in table.items() if script is not None})

    def fresh_session(self) -> str:
        return SESSION

    def fresh_id(self) -> str:
        return ID

    def _check(self, exchange: Exchange, value: str) -> None:
        """Ignore the Host header."""

    def _scripted(self, exchange: Exchange) -> bool:
        conversation = self._named(exchange)
        script = self._routes.find(exchange)
        if script is None:
            return False
        if conversation is not None and _is_message(exchange):
            _note(conversation, exchange.request.body)
        script(exchange)
        return True

    def _named(self, exchange: Exchange) -> Conversation | None:
        """The conversation of a path, which exists even if it was not created."""
        found = _CONVERSATION.fullmatch(exchange.request.path)
        if found is None:
            return None
        owner = exchange.request.cookies.get("hf-chat") or SESSION
        with self.changed:
            fresh = Conversation(found[1], owner, MODEL, "", "New Chat")
            conversation = self.conversations.setdefault(found[1], fresh)
            conversation.owner = owner
            return conversation


def _is_message(exchange: Exchange) -> bool:
    return exchange.request.method == "POST" and bool(_MESSAGE.fullmatch(exchange.request.path))


def _note(conversation: Conversation, body: bytes) -> None:
    """Page data with a stored prompt and an answer."""
    asked = json.loads(body)
    ids = asked["options"]
    conversation.messages += [
        Message("user", asked["inputs"], id=ids["id"]),
        Message("assistant", "Hello there", id=ids["response_id"]),
    ]


def tokens(*texts: str, end: bool = True) -> list[bytes]:
    """The events of an answer, one per text."""
    events = [token_event(text, id=place) for place, text in enumerate(texts)]
    if end:
        events.append(token_event("<|endoftext|>", id=0, special=True, end="".join(texts)))
    return events


def streams(events: Iterable[bytes], *, framing: Framing = "chunked", end: bool = True) -> Script:
    """A message route that sends ``events``, one per write, and ends."""

    def message(exchange: Exchange) -> None:
        events_now = list(events)
        exchange.head(
            200,
            {"Content-Type": "text/event-stream", "Set-Cookie": COOKIE},
            framing=framing,
            length=sum(map(len, events_now)) if framing == "length" else None,
        )
        for event in events_now:
            exchange.write(event)
        if end:
            exchange.end()

    return message


def no_such_page(exchange: Exchange) -> None:
    """The response of these servers to /api/models: a page, and a session's cookie."""
    body = b'<!doctype html><title>Not found</title><div data-sveltekit-preload-data="hover">'
    exchange.answer(404, body, content_type="text/html", headers={"Set-Cookie": COOKIE})


def layout(value: Mapping[str, object] = LAYOUT) -> Script:
    """The page data of the root page."""

    def root(exchange: Exchange) -> None:
        body = documents.page(dict(value), None)
        exchange.answer(200, body, "application/json", headers={"Set-Cookie": COOKIE})

    return root


def page(messages: Sequence[Mapping[str, object]]) -> Script:
    """The page data of a conversation."""

    def conversation(exchange: Exchange) -> None:
        value = {"messages": messages, "title": "New Chat", "model": MODEL, "searches": {}}
        exchange.answer(200, documents.page(Skipped(), value), "application/json")

    return conversation


def accepts_settings(exchange: Exchange) -> None:
    """The redirect that accepts the settings."""
    referer = exchange.request.headers["Referer"] or ""
    value = {"type": "redirect", "status": 303, "location": referer}
    exchange.json(value, headers={"Set-Cookie": COOKIE})


def creates(exchange: Exchange) -> None:
    exchange.json({"conversationId": ID}, headers={"Set-Cookie": COOKIE})


def done(exchange: Exchange) -> None:
    """An empty 200, as for a stop or a delete."""
    exchange.answer(200, b"")


def refuses(
    status: int, document: object, headers: Mapping[str, str] | None = None
) -> Callable[[Exchange], None]:
    """An error as JSON."""
    body = json.dumps(document).encode()
    return lambda exchange: exchange.answer(status, body, "application/json", headers or {})
