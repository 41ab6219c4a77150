"""Requests for one conversation that have the same format in every dialect that supports them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import quote

from h2o_client.dialects.endpoint import Endpoint
from h2o_client.dialects.values import mapping, text
from h2o_client.printable import printable
from h2o_client.wire import json
from h2o_client.wire.request import Request, delete, patch_json, post, post_json


def conversation_path(conversation_id: str) -> str:
    """The path of a conversation."""
    return "/conversation/" + quote(conversation_id, safe="")


def delete_request(conversation_id: str) -> Request:
    """Delete a conversation. Deleting it again returns 404."""
    return delete(conversation_path(conversation_id))


def stop_request(conversation_id: str) -> Request:
    """Stop the answer that is being generated. Some versions ignore this."""
    return post(conversation_path(conversation_id) + "/stop-generating")


def rename_request(conversation_id: str, title: str) -> Request:
    """Set a new title, of 1 to 100 characters."""
    return patch_json(conversation_path(conversation_id), {"title": title})


def title_by_model(conversation_id: str) -> Endpoint[str]:
    """Have the model generate a title."""
    request = post(conversation_path(conversation_id) + "/summarize", budget="first_token")
    return Endpoint(request, _read_title)


def _read_title(body: bytes) -> str:
    title = mapping(json.read(body)).get("title")
    if not isinstance(title, str):
        raise ValueError("no title")
    return printable(title)


def share(conversation_id: str) -> Endpoint[str]:
    """Share a conversation; returns the id of the public page."""
    return Endpoint(post(conversation_path(conversation_id) + "/share"), read_shared)


def read_shared(body: bytes) -> str:
    """The id in the response to `share`: by itself, or at the end of a URL with any host."""
    document = mapping(json.read(body))
    shared = text(document.get("shareId")) or text(document.get("url"))
    found = re.search(r"(?:^|/r/)([A-Za-z0-9_-]{1,64})/?\Z", shared)
    if found is None:
        raise ValueError("no url and no shareId")
    return found[1]


def vote_request(conversation_id: str, message_id: str, score: int) -> Request:
    """Vote on an answer: 1, 0 or -1."""
    path = f"{conversation_path(conversation_id)}/message/{quote(message_id, safe='')}/vote"
    return post_json(path, {"score": score})


def elicitation_answer(
    conversation_id: str, elicitation_id: str, action: str, content: Mapping[str, object] | None
) -> Endpoint[bool]:
    """Send the user's answer to a tool's question; returns whether a message has to follow it."""
    document: dict[str, object] = {"elicitationId": elicitation_id, "action": action}
    if content is not None:
        document["content"] = dict(content)
    request = post_json(conversation_path(conversation_id) + "/elicitation", document)
    return Endpoint(request, lambda body: mapping(json.read(body)).get("resume") is True)
