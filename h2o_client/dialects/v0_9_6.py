"""Dialect E, chat-ui v0.9.6 to v0.10.0 (2025 and 2026): ``/api/v2`` in superjson, tools by MCP.

Measured on v0.9.6 and v0.10.0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar
from urllib.parse import quote

import msgspec

from h2o_client.dialects.dialect import Ask, Dialect, Prompt, Span, Upload, Version
from h2o_client.dialects.documents import (
    Created,
    Entries,
    Model,
    Settings,
    Stored,
    User,
    mapping,
    read_entries,
    read_settings,
    read_stored,
    read_user,
)
from h2o_client.dialects.v0_8 import MODELS, read_model_list
from h2o_client.dialects.v0_9_2 import V0_9_2
from h2o_client.wire import json, superjson
from h2o_client.wire.request import Request, delete, get

_USER = "/api/v2/user"
_CONVERSATIONS = "/api/v2/conversations"
_SINCE_JULY_2026 = b'"deployedSpaces"'  # a name in every conversation, undefined most often


class V0_9_6(V0_9_2):  # noqa: N801 - named as the version
    """As v0.9.2, read through ``/api/v2``; web search, votes and continuing are gone."""

    letter = "E"
    name = "chat-ui v0.9.6 to v0.10.0"
    first: ClassVar[Version] = (0, 9, 6)
    last: ClassVar[Version] = (0, 10, 0)
    spans: ClassVar[tuple[Span, ...]] = ()
    has_pages = False
    # keepAlives come ten a second, 380 bytes in all; a proxy that hands on 8 KiB at a time makes
    # gaps of 22 s of them.
    longest_silence: ClassVar[float | None] = 30.0

    def __init__(self, *, version: Version = (), api: bool = True) -> None:
        super().__init__(version=version, api=api)
        self.stops = True

    def told_by_answer(self, content_type: str) -> Dialect:
        return self

    def models(self) -> Ask[tuple[Model, ...]]:
        return Ask(get(MODELS), read_model_list)

    def settings(self) -> Ask[Settings]:
        return Ask(
            get(_USER + "/settings"), lambda body: read_settings(_document(superjson.read(body)))
        )

    def settings_document(self, settings: Settings) -> dict[str, object]:
        document = super().settings_document(settings)
        if document.pop("ethicsModalAccepted", False):
            document["welcomeModalSeen"] = True
        return document

    def user(self) -> Ask[User | None]:
        return Ask(get(_USER), lambda body: read_user(superjson.read(body)))

    def needs_login(self) -> Ask[bool]:
        return Ask(
            get("/api/v2/feature-flags"),
            lambda body: _document(superjson.read(body)).get("loginEnabled") is True,
        )

    def conversations(self, page: int) -> Ask[Entries]:
        return Ask(get(f"{_CONVERSATIONS}?p={page}"), _read_entries)

    def delete_all(self) -> Request:
        return delete("/api/conversations")

    def read_created(self, body: bytes) -> Created:
        """On the newest servers the conversation comes with it: nothing is read for its leaf."""
        created = super().read_created(body)
        found = mapping(json.read(body)).get("conversation")
        if not isinstance(found, str):
            return created
        stored = read_stored(mapping(superjson.read(found)), self.is_finished)
        return Created(created.id, stored.leaf)

    def conversation(self, conversation_id: str) -> Sequence[Ask[Stored]]:
        """``/api/v2`` has the tree; v0.9.6 answers 500 there for what it does not find."""
        request = get(f"{_CONVERSATIONS}/{quote(conversation_id, safe='')}")
        return (
            Ask(request, self._read_stored),
            *self.api_conversation(conversation_id),
        )

    def _read_stored(self, body: bytes) -> Stored:
        stored = read_stored(_document(superjson.read(body)), self.is_finished)
        # In the text of a message the quotes are escaped.
        is_latest = bool(stored.runs) or _SINCE_JULY_2026 in body
        return msgspec.structs.replace(stored, is_latest=is_latest)

    def vote(self, conversation_id: str, message_id: str, score: int) -> Request:
        raise self.cannot("Voting")

    def check(self, *, files: Sequence[Upload] = (), web_search: bool = False) -> None:
        if web_search:
            raise self.cannot("A web search", "Its operator can give it tools (MCP) instead.")

    def check_continue(self) -> None:
        # The server would send the model an empty message of the user.
        raise self.cannot("Continuing an answer")

    def message_document(self, prompt: Prompt) -> dict[str, object]:
        document = super().message_document(prompt)
        if prompt.resumes:
            document["resumeElicitationId"] = prompt.resumes
        if prompt.run_id:
            document["generationId"] = prompt.run_id
        return document


def _read_entries(body: bytes) -> Entries:
    document = _document(superjson.read(body))
    if not isinstance(document.get("conversations"), list):
        raise ValueError("no conversations")
    return Entries(read_entries(document["conversations"]), more=document.get("hasMore") is True)


def _document(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise ValueError("no document")
    return dict(mapping(value))
