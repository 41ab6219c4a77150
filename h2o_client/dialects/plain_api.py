"""The requests for reading with ``/api``, which returns plain JSON (v0.8 and later).

EXPOSE_API=false on the server switches it off.
"""

from __future__ import annotations

from h2o_client.dialects.conversation_requests import conversation_path
from h2o_client.dialects.documents import (
    Entries,
    IsFinished,
    Model,
    Stored,
    read_entries,
    read_models,
    read_stored,
)
from h2o_client.dialects.endpoint import Endpoint
from h2o_client.dialects.values import mapping
from h2o_client.wire import json
from h2o_client.wire.request import Request, delete, get

MODELS = "/api/models"


def models() -> Endpoint[tuple[Model, ...]]:
    """The available models."""
    return Endpoint(get(MODELS), lambda body: read_models(_array(body)))


def conversations(page: int) -> Endpoint[Entries]:
    """A page of the list of conversations. It does not say whether another page follows."""
    return Endpoint(
        get(f"/api/conversations?p={page}"),
        lambda body: Entries(read_entries(_array(body)), more=None),
    )


def conversation(conversation_id: str, is_finished: IsFinished) -> Endpoint[Stored]:
    """A conversation without its branches."""
    return Endpoint(
        get("/api" + conversation_path(conversation_id)),
        lambda body: read_stored(mapping(json.read(body)), is_finished),
    )


def delete_all() -> Request:
    """Delete all conversations of the session or user, from v0.9.5 on."""
    return delete("/api/conversations")


def _array(body: bytes) -> list[object]:
    found = json.read(body)
    if not isinstance(found, list):
        raise ValueError("no list")
    return found
