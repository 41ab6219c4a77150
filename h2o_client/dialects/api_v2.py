"""The requests for reading with ``/api/v2``, which returns superjson (v0.9.6 and later)."""

from __future__ import annotations

from urllib.parse import quote

import msgspec

from h2o_client.dialects.documents import (
    Entries,
    IsFinished,
    Settings,
    Stored,
    User,
    read_entries,
    read_settings,
    read_stored,
    read_user,
)
from h2o_client.dialects.endpoint import Endpoint
from h2o_client.wire import superjson
from h2o_client.wire.request import get

_USER = "/api/v2/user"
_CONVERSATIONS = "/api/v2/conversations"
_SINCE_JULY_2026 = b'"deployedSpaces"'  # in every conversation, usually undefined


def settings() -> Endpoint[Settings]:
    """The stored settings."""
    return Endpoint(get(_USER + "/settings"), lambda body: read_settings(_document(body)))


def user() -> Endpoint[User | None]:
    """The user who is logged in."""
    return Endpoint(get(_USER), lambda body: read_user(superjson.read(body)))


def needs_login() -> Endpoint[bool]:
    """Whether a session without a login cannot chat."""
    return Endpoint(
        get("/api/v2/feature-flags"), lambda body: _document(body).get("loginEnabled") is True
    )


def conversations(page: int) -> Endpoint[Entries]:
    """A page of the list of conversations."""
    return Endpoint(get(f"{_CONVERSATIONS}?p={page}"), _read_entries)


def conversation(conversation_id: str, is_finished: IsFinished) -> Endpoint[Stored]:
    """A conversation with its tree. For an unknown conversation, v0.9.6 answers 500."""

    def read(body: bytes) -> Stored:
        stored = read_stored(_document(body), is_finished)
        # The text of a message cannot contain this, because its quotes are escaped.
        is_latest = bool(stored.runs) or _SINCE_JULY_2026 in body
        return msgspec.structs.replace(stored, is_latest=is_latest)

    return Endpoint(get(f"{_CONVERSATIONS}/{quote(conversation_id, safe='')}"), read)


def _read_entries(body: bytes) -> Entries:
    document = _document(body)
    if not isinstance(document.get("conversations"), list):
        raise ValueError("no conversations")
    return Entries(read_entries(document["conversations"]), more=document.get("hasMore") is True)


def _document(body: bytes) -> dict[str, object]:
    value = superjson.read(body)
    if not isinstance(value, dict):
        raise ValueError("no document")
    return dict(value)
