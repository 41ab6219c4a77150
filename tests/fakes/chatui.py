"""A scripted chat-ui of 2023 (generation A) for tests: every route answers as v0.4 does.

Tests replace the routes they are about; the rest behaves.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping

from h2o_client.wire import pagedata
from h2o_client.wire.events import Token
from h2o_client.wire.pagedata import Data, Skipped
from h2o_client.wire.tgi import write_token
from scripted import Exchange, Routes, Script

COOKIE = "hf-chat=e41adc77; Path=/; HttpOnly; Secure; SameSite=None"
ID = "6b02c9d11306e1473508e3f3"
MODEL = "h2oai/h2ogpt-gm-oasst1-en-2048-falcon-40b-v1"

LAYOUT: Mapping[str, object] = {
    "conversations": [],
    "settings": {
        "shareConversationsWithModelAuthors": True,
        "ethicsModalAcceptedAt": None,
        "activeModel": MODEL,
        "searchEnabled": False,
    },
    "models": [
        {"id": MODEL, "name": MODEL, "parameters": {"temperature": 0.3, "top_k": 50}},
        {"id": "other", "name": "other", "parameters": {}},
    ],
    "oldModels": [],
    "user": pagedata.UNDEFINED,
    "requiresLogin": False,
    "messagesBeforeLogin": 0,
}

_CONVERSATION = r"/conversation/[0-9a-f]{24}"


def tokens(*texts: str, end: bool = True) -> list[bytes]:
    """The events of an answer, one a text, as text-generation-inference sends them."""
    events = [write_token(Token(text, id=place)) for place, text in enumerate(texts)]
    if end:
        last = Token("<|endoftext|>", special=True, id=0)
        events.append(write_token(last, generated_text="".join(texts)))
    return events


def streams(
    events: Iterable[bytes], *, framing: str = "chunked", end: bool = True
) -> Callable[[Exchange], None]:
    """A message route that sends ``events``, one a write, and ends."""

    def message(exchange: Exchange) -> None:
        events_now = list(events)
        size = sum(map(len, events_now))
        exchange.head(
            200,
            {"Content-Type": "text/event-stream", "Set-Cookie": COOKIE},
            framing=framing,  # type: ignore[arg-type]
            length=size if framing == "length" else None,
        )
        for event in events_now:
            exchange.write(event)
        if end:
            exchange.end()

    return message


def no_such_page(exchange: Exchange) -> None:
    """What these servers give for /api/models: a page, and a session's cookie."""
    body = b'<!doctype html><title>Not found</title><div data-sveltekit-preload-data="hover">'
    exchange.answer(404, body, content_type="text/html", headers={"Set-Cookie": COOKIE})


def layout(value: Mapping[str, object] = LAYOUT) -> Callable[[Exchange], None]:
    """The page data of the root page."""

    def root(exchange: Exchange) -> None:
        exchange.answer(
            200,
            pagedata.write([Data(value), None]),
            content_type="application/json",
            headers={"Set-Cookie": COOKIE},
        )

    return root


def page(messages: list[Mapping[str, object]]) -> Callable[[Exchange], None]:
    """The page data of a conversation."""

    def conversation(exchange: Exchange) -> None:
        value = {"messages": messages, "title": "New Chat", "model": MODEL, "searches": {}}
        body = pagedata.write([Skipped(), Data(value)])
        exchange.answer(200, body, content_type="application/json")

    return conversation


def remembered(exchange: Exchange) -> None:
    """The page data of a conversation in which every message was answered, and that is stored."""
    messages: list[Mapping[str, object]] = []
    conversation_path = exchange.request.path.removesuffix("/__data.json")
    for request in exchange.server.requests:
        if request.method == "POST" and request.path == conversation_path:
            asked = json.loads(request.body)
            options = asked["options"]
            messages += [
                {"from": "user", "content": asked["inputs"], "id": options["id"]},
                {"from": "assistant", "content": "Hello there", "id": options["response_id"]},
            ]
    page(messages)(exchange)


def accepts_settings(exchange: Exchange) -> None:
    """The redirect that says yes."""
    referer = exchange.request.headers["Referer"] or ""
    value = {"type": "redirect", "status": 303, "location": referer}
    exchange.json(value, headers={"Set-Cookie": COOKIE})


def creates(exchange: Exchange) -> None:
    exchange.json({"conversationId": ID}, headers={"Set-Cookie": COOKIE})


def done(exchange: Exchange) -> None:
    """200 with nothing in it, as for a stop or a delete."""
    exchange.answer(200, b"")


def refuses(
    status: int, document: object, headers: Mapping[str, str] | None = None
) -> Callable[[Exchange], None]:
    """An error as JSON."""

    def refusing(exchange: Exchange) -> None:
        exchange.answer(
            status,
            json.dumps(document).encode(),
            content_type="application/json",
            headers=headers or {},
        )

    return refusing


def chat_ui(
    message: Script | list[Script] | None = None,
    *,
    root: Script | None = None,
    settings: Script | list[Script] | None = None,
    create: Script | list[Script] | None = None,
    read: Script | list[Script] | None = None,
    stop: Script | None = None,
    delete: Script | list[Script] | None = None,
) -> Routes:
    """All routes; those given are used instead."""
    return Routes(
        {
            ("GET", "/api/models"): no_such_page,
            ("GET", "/__data.json"): root or layout(),
            ("POST", "/settings"): settings or accepts_settings,
            ("POST", "/conversation"): create or creates,
            ("POST", re.compile(_CONVERSATION)): message or streams(tokens("Hello", " there")),
            ("GET", re.compile(_CONVERSATION + r"/__data\.json")): read or remembered,
            ("POST", re.compile(_CONVERSATION + "/stop-generating")): stop or done,
            ("DELETE", re.compile(_CONVERSATION)): delete or done,
        }
    )
