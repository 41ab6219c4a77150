"""The updates of chat-ui v0.7 and later: a JSON document in each line, with a ``type``.

Measured on v0.7, v0.8.4, v0.9.1, v0.9.4, v0.9.6, v0.10.0 and the chat-ui of August 2026. An update
of an unknown type does not fail: it becomes a `Notice`.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from h2o_client.wire import json
from h2o_client.wire.checkpoint import checked
from h2o_client.wire.events import (
    Elicitation,
    Event,
    Failure,
    File,
    Final,
    Notice,
    Reasoning,
    Route,
    Source,
    Status,
    Title,
    Token,
    Tool,
    WebSearch,
)
from h2o_client.wire.tgi import failure

PADDING = "\0"
"""v0.9.0 and later pad tokens with it to 16 characters, against traffic analysis."""

ANSWER_PADDING = b" " * 4096
"""Follows the line of a final answer. It has no newline, so a later update is in the same line."""


class _Stream(msgspec.Struct, tag="stream", gc=False):
    token: str = ""


class _FinalAnswer(msgspec.Struct, tag="finalAnswer", rename="camel"):
    text: str | None = None
    interrupted: bool | None = None
    web_sources: list[dict[str, object]] | None = None


class _Status(msgspec.Struct, tag="status", rename="camel"):
    status: str = ""
    message: str | None = None
    status_code: int | None = None


class _Title(msgspec.Struct, tag="title"):
    title: str = ""


_SHAPE: json.Shape[_Stream | _FinalAnswer | _Status | _Title] = json.Shape(
    _Stream | _FinalAnswer | _Status | _Title
)
_encode = msgspec.json.Encoder().encode


def read(line: bytes) -> Event:
    """The event in one line. Raises `InvalidJson`."""
    try:
        update = _SHAPE.read(line)
    except json.InvalidJson:
        return _from_plain(json.read(line))
    return _event(update)


def read_logged(document: bytes) -> Event:
    """The event in an update of a run's log, whose tokens are not padded. Raises `InvalidJson`."""
    event = read(document)
    if type(event) is Token and b"\\u0000" in document:
        update = json.read(document)
        assert isinstance(update, dict)
        return Token(str(update["token"]))
    return event


def read_several(lines: list[bytes]) -> list[Event] | None:
    """The events in several lines, decoded together; None if one of them needs `read`."""
    try:
        updates = _SHAPE.read_lines(lines)
    except json.InvalidJson:
        return None
    if len(updates) < len(lines):
        return None  # blanks, or several documents in a line
    return [
        Token(update.token.rstrip(PADDING)) if type(update) is _Stream else _event(update)
        for update in updates
    ]


def _event(update: _Stream | _FinalAnswer | _Status | _Title) -> Event:
    if isinstance(update, _Stream):
        return Token(update.token.rstrip(PADDING))
    if isinstance(update, _FinalAnswer):
        found = sources(update.web_sources)
        return Final(update.text, interrupted=update.interrupted, sources=found)
    if isinstance(update, _Title):
        return Title(update.title)
    assert isinstance(update, _Status)
    return _status(update.status, update.message or "", update.status_code)


def write(event: Token | Final | Failure | Title | Status) -> bytes:
    """One line, with its newline, as v0.10.0 writes it."""
    return _encode(_plain(event)) + b"\n"


def _plain(event: Token | Final | Failure | Title | Status) -> dict[str, object]:
    if isinstance(event, Token):
        return {"type": "stream", "token": event.text.ljust(16, PADDING)}
    if isinstance(event, Final):
        return {
            "type": "finalAnswer",
            "text": event.text or "",
            "interrupted": bool(event.interrupted),
        }
    if isinstance(event, Title):
        return {"type": "title", "title": event.title}
    if isinstance(event, Failure):
        status = {} if event.status is None else {"statusCode": event.status}
        return {"type": "status", "status": "error", "message": event.message, **status}
    message = {"message": event.message} if event.message else {}
    return {"type": "status", "status": event.status, **message}


def _status(status: str, message: str, code: int | None) -> Event:
    if status == "error":
        return Failure(message or "no reason given", status=code)
    if status == "title":
        return Title(message)
    return Status(status, message)


def _from_plain(update: object) -> Event:
    # Unknown types, and known ones that msgspec refuses: v0.8.4's lone surrogates, NaN.
    if not isinstance(update, dict):
        return Notice(update)
    kind = update.get("type")
    if kind == "stream" and isinstance(update.get("token"), str):
        return Token(update["token"].rstrip(PADDING))
    if kind == "finalAnswer" and isinstance(update.get("text"), str):
        found = sources(update.get("webSources"))
        interrupted = update.get("interrupted")
        return Final(
            update["text"],
            interrupted=None if interrupted is None else bool(interrupted),
            sources=found,
        )
    if kind == "status" and isinstance(update.get("status"), str):
        code = update.get("statusCode")
        message = str(update.get("message") or "")
        return _status(update["status"], message, code if isinstance(code, int) else None)
    if kind == "title" and isinstance(update.get("title"), str):
        return Title(update["title"])
    if isinstance(kind, str) and kind in _OTHERS:
        return _OTHERS[kind](update)
    if kind == "redirect":
        return Failure(str(update.get("location", "")), "redirect")
    if kind is None and update.get("error"):
        return failure(update["error"], update.get("error_type"))
    return Notice(update)


def sources(found: object) -> tuple[Source, ...]:
    """The pages in a list, which web searches return and conversations store."""
    return tuple(
        Source(str(source.get("title") or ""), str(source.get("link") or source.get("uri") or ""))
        for source in checked(found if isinstance(found, list) else ())
        if isinstance(source, dict)
    )


def _web_search(update: dict[str, object]) -> WebSearch:
    kind = update.get("subtype") or update.get("messageType") or ""
    return WebSearch(str(kind), str(update.get("message") or ""), sources(update.get("sources")))


def _tool(update: dict[str, object]) -> Tool:
    call = update.get("call")
    if not isinstance(call, dict):
        result = update.get("result")
        call = result.get("call") if isinstance(result, dict) else None
    name = call.get("name") if isinstance(call, dict) else update.get("name")
    return Tool(str(update.get("subtype") or ""), str(name or ""), update)


def _reasoning(update: dict[str, object]) -> Reasoning:
    return Reasoning(str(update.get("token") or update.get("status") or "").rstrip(PADDING))


def _file(update: dict[str, object]) -> File:
    return File(*(str(update.get(name) or "") for name in ("name", "sha", "mime")))


def _route(update: dict[str, object]) -> Route:
    return Route(*(str(update.get(name) or "") for name in ("route", "model", "provider")))


def _elicitation(update: dict[str, object]) -> Event:
    request = update.get("request")
    details = request if isinstance(request, dict) else {}
    found = details.get("elicitationId") or update.get("elicitationId")
    if not isinstance(found, str):
        return Notice(update)
    fields = details.get("fields")
    return Elicitation(
        id=found,
        state="request" if update.get("subtype") == "request" else "resolved",
        message=str(details.get("message") or ""),
        mode=str(details.get("mode") or ""),
        url=str(details.get("url") or ""),
        server=str(details.get("server") or ""),
        fields=tuple(each for each in fields if isinstance(each, dict))
        if isinstance(fields, list)
        else (),
    )


_OTHERS: dict[str, Callable[[dict[str, object]], Event]] = {
    "webSearch": _web_search,
    "tool": _tool,
    "reasoning": _reasoning,
    "file": _file,
    "routerMetadata": _route,
    "elicitation": _elicitation,
}
