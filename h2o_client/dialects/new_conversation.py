"""The requests that create a conversation, for each dialect."""

from __future__ import annotations

from h2o_client.dialects.documents import Created, has_ended, is_id, read_stored
from h2o_client.dialects.endpoint import Endpoint
from h2o_client.dialects.values import mapping
from h2o_client.wire import json, superjson
from h2o_client.wire.request import Request, post_json

_PATH = "/conversation"


def without_preprompt(model: str, preprompt: str | None) -> Endpoint[Created]:
    """v0.3 to v0.6. A system prompt has to be put into the prompt's text."""
    return Endpoint(post_json(_PATH, {"model": model}), _read_id)


def with_preprompt(model: str, preprompt: str | None) -> Endpoint[Created]:
    """v0.7 to v0.9.5."""
    return Endpoint(_request(model, preprompt), _read_id)


def with_leaf(model: str, preprompt: str | None) -> Endpoint[Created]:
    """v0.9.6 and later. The newest servers return the new conversation with its first message."""
    return Endpoint(_request(model, preprompt), _read_id_and_leaf)


def _request(model: str, preprompt: str | None) -> Request:
    document = {"model": model}
    if preprompt is not None:
        document["preprompt"] = preprompt
    return post_json(_PATH, document)


def _read_id(body: bytes) -> Created:
    found = mapping(json.read(body)).get("conversationId")
    if not isinstance(found, str) or not is_id(found):
        raise ValueError("no conversationId")
    return Created(found)


def _read_id_and_leaf(body: bytes) -> Created:
    created = _read_id(body)
    found = mapping(json.read(body)).get("conversation")
    if not isinstance(found, str):
        return created
    return Created(created.id, read_stored(mapping(superjson.read(found)), has_ended).leaf)
