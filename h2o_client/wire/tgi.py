"""The events of text-generation-inference, which a chat-ui of 2023 passes on unchanged.

Each event is a JSON document: ``{"token": {...}, "generated_text": null, "details": null}``. In
the last event ``generated_text`` is a string. Its text is not used, because it may be empty or
repeat the prompt. Measured on chat-ui v0.3 to v0.6.
"""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec.structs import replace

from h2o_client.wire import json
from h2o_client.wire.events import Event, Failure, Final, Notice, Token
from h2o_client.wire.sse import write_event

_NULL = msgspec.Raw(b"null")


class _Details(msgspec.Struct):
    finish_reason: str | None = None


class _Generation(msgspec.Struct, gc=False):
    token: Token | None = None
    # Raw, because the last event repeats the whole answer, which need not be decoded.
    generated_text: msgspec.Raw = _NULL
    details: _Details | None = None
    error: str | None = None
    error_type: str | None = None


class _TokenEvent(msgspec.Struct, gc=False):
    """An event with only a token. Decoding any other event fails."""

    token: Token
    generated_text: None = None
    error: None = None


END = "<|endoftext|>"
"""The mark that ends an answer; some model servers do not mark it as a special token."""

_GENERATION = json.Shape[_Generation](_Generation)
_TOKEN_EVENT = json.Shape[_TokenEvent](_TokenEvent)
_encode = msgspec.json.Encoder().encode


def read(data: bytes) -> tuple[Event, ...]:
    """The events in the data of one server-sent event. Raises `InvalidJson`."""
    try:
        generation = _GENERATION.read(data)
    except json.InvalidJson:
        return _read_leniently(data)
    token = None if generation.token is None else _marked(generation.token)
    if token is not None and generation.generated_text == _NULL and not generation.error:
        return (token,)
    if generation.error:
        return (Failure(generation.error, generation.error_type),)
    if generation.generated_text != _NULL:
        final = Final(finish_reason=_finish_reason(generation.details))
        return (token, final) if token is not None else (final,)
    return (Notice(json.read(data)),)


def read_tokens(documents: list[bytes]) -> list[Token] | None:
    """The tokens of several events' data, decoded together; None if one of them is not a token."""
    try:
        events = _TOKEN_EVENT.read_lines(documents)
    except json.InvalidJson:
        return None
    if len(events) != len(documents):
        return None
    return [each.token if each.token.text != END else _marked(each.token) for each in events]


def read_whole(document: object) -> tuple[Event, ...]:
    """The events of an answer that was not streamed: ``[{"generated_text": "..."}]``."""
    answer = document[0] if isinstance(document, list) and len(document) == 1 else document
    if isinstance(answer, dict) and isinstance(answer.get("generated_text"), str):
        return (Token(answer["generated_text"].removesuffix(END)), Final())
    return _from_plain(answer)


def write_token(
    token: Token, *, generated_text: str | None = None, finish_reason: str | None = None
) -> bytes:
    """The event of a token; with ``generated_text`` it is the last event."""
    details = {"finish_reason": finish_reason} if finish_reason else None
    generation = {"token": token, "generated_text": generated_text, "details": details}
    return write_event(_encode(generation))


def write_failure(failure: Failure) -> bytes:
    """The event that a failing model server sends instead of a token."""
    return write_event(_encode({"error": failure.message, "error_type": failure.error_type}))


def failure(error: object, error_type: object) -> Failure:
    """The event for an error of a model server, which is a text or an object with a message."""
    if isinstance(error, dict):
        error_type = error.get("type", error_type)
        error = error.get("message") or error
    return Failure(str(error), error_type if isinstance(error_type, str) else None)


def _read_leniently(data: bytes) -> tuple[Event, ...]:
    # json accepts what msgspec does not: lone surrogates, NaN, a field of another type.
    return _from_plain(json.read(data))


def _from_plain(document: object) -> tuple[Event, ...]:
    if not isinstance(document, dict):
        return (Notice(document),)
    if document.get("error"):
        return (failure(document["error"], document.get("error_type")),)
    events: list[Event] = []
    token = document.get("token")
    if isinstance(token, dict) and isinstance(token.get("text"), str):
        events.append(_marked(Token(token["text"], special=bool(token.get("special")))))
    if document.get("generated_text") is not None:
        details = document.get("details")
        if isinstance(details, dict) and details.get("finish_reason") == "length":
            events.append(Final(finish_reason="length"))
        else:
            events.append(Final())
    return tuple(events) or (Notice(document),)


def _marked(token: Token) -> Token:
    """The token, marked as special if it is the end mark."""
    return replace(token, special=True) if token.text == END else token


def _finish_reason(details: _Details | None) -> Literal["stop", "length"]:
    return "length" if details is not None and details.finish_reason == "length" else "stop"
