"""Generation A, chat-ui v0.3 to v0.6 (June to September 2023; H2O's service was a fork of it).

Forms for the settings, page data to read with, and the model server's own events as the answer.
Measured on v0.3, v0.4, v0.5 and v0.6.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from urllib.parse import quote

import msgspec

from h2o_client.messages import Message
from h2o_client.wire import pagedata
from h2o_client.wire.request import Request, delete, get, post, post_form, post_json

NAME = "chat-ui v0.3 to v0.6"
FIRST, LAST = (0, 3), (0, 6)

SAMPLING: Mapping[str, object] = {
    "temperature": 0.4,
    "truncate": 2048,
    "max_new_tokens": 1024,
    "do_sample": True,
    "repetition_penalty": 1.2,
    "return_full_text": False,
}
"""The ancestor's sampling parameters, where neither the caller nor the server has any."""


class Model(msgspec.Struct, frozen=True):
    """A model the server offers, with the sampling parameters its operator set."""

    id: str
    name: str
    display_name: str = ""
    description: str = ""
    parameters: dict[str, object] = {}


class Settings(msgspec.Struct, frozen=True):
    """A session's settings as the server stores them."""

    accepted: bool = False
    shares_data: bool = True
    active_model: str = ""
    web_search: bool = False
    custom_prompts: dict[str, str] | None = None


class Layout(msgspec.Struct, frozen=True):
    """What every page of the server tells: node 0 of its page data."""

    settings: Settings
    models: tuple[Model, ...]


def layout_request() -> Request:
    """The first request to a server; it also tells the generation."""
    return get("/__data.json")


def is_spoken_in(layout: Mapping[str, object]) -> bool:
    """Whether node 0 of a server's page data is this generation's."""
    return "requiresLogin" in layout


def read_layout(layout: Mapping[str, object]) -> Layout:
    """Node 0 of the page data."""
    settings = _mapping(layout.get("settings"))
    prompts = settings.get("customPrompts")
    models = layout.get("models")
    return Layout(
        settings=Settings(
            accepted=bool(settings.get("ethicsModalAcceptedAt")),
            shares_data=settings.get("shareConversationsWithModelAuthors") is not False,
            active_model=str(settings.get("activeModel") or ""),
            web_search=bool(settings.get("searchEnabled")),
            custom_prompts=(
                {str(model): str(prompt) for model, prompt in prompts.items()}
                if isinstance(prompts, dict)
                else None
            ),
        ),
        models=tuple(_model(model) for model in models if isinstance(model, dict))
        if isinstance(models, list)
        else (),
    )


def settings_request(settings: Settings) -> Request:
    """The whole settings document: what a form leaves out goes back to its default.

    Two fields count as true whatever their value ("false" too): they are left out to say no.
    """
    fields = [("activeModel", settings.active_model)]
    if settings.accepted:
        fields += [("ethicsModalAccepted", "true"), ("ethicsModalAcceptedAt", "")]
    if settings.shares_data:
        fields.append(("shareConversationsWithModelAuthors", "true"))
    if settings.web_search:
        fields.append(("searchEnabled", "true"))
    if settings.custom_prompts is not None:
        fields.append(("customPrompts", json.dumps(settings.custom_prompts)))
    return post_form("/settings", fields, safe=True)


def create_request(model: str) -> Request:
    """A new conversation."""
    return post_json("/conversation", {"model": model})


def read_created(body: bytes) -> str:
    """The new conversation's id. Raises ValueError."""
    document = json.loads(body)
    if not isinstance(document, dict) or not isinstance(document.get("conversationId"), str):
        raise ValueError("no conversationId")
    return str(document["conversationId"])


def message_request(
    conversation_id: str,
    prompt: str,
    *,
    parameters: Mapping[str, object],
    message_id: str,
    answer_id: str,
    retry: bool = False,
) -> Request:
    """One prompt. Both ids are UUIDs the client chooses; a retry's is the user message's.

    ``web_search_id`` must be there: leaving it out or null is refused by some versions.
    """
    document = {
        "inputs": prompt,
        "parameters": dict(parameters),
        "stream": True,
        "options": {
            "id": message_id,
            "response_id": answer_id,
            "is_retry": retry,
            "use_cache": False,
            "web_search_id": "",
        },
    }
    return post_json(_conversation(conversation_id), document, accept="*/*", budget="first_token")


def stop_request(conversation_id: str) -> Request:
    """Stops the answer that is being given: the server looks once a second, at the next token."""
    return post(_conversation(conversation_id) + "/stop-generating")


def delete_request(conversation_id: str) -> Request:
    """Deletes a conversation; 404 on a repeat."""
    return delete(_conversation(conversation_id))


def read_request(conversation_id: str) -> Request:
    """A conversation's messages: node 1 of its page alone."""
    return get(_conversation(conversation_id) + "/__data.json?x-sveltekit-invalidated=_1")


def read_messages(page: Mapping[str, object]) -> list[Message]:
    """Node 1 of a conversation's page data."""
    messages = page.get("messages")
    if not isinstance(messages, list):
        return []
    return [_message(message) for message in messages if isinstance(message, dict)]


def node(nodes: Sequence[pagedata.Node], index: int) -> Mapping[str, object] | pagedata.Failed:
    """A node's value, or how it failed. Raises ValueError if there is none."""
    found = nodes[index] if index < len(nodes) else None
    if isinstance(found, pagedata.Failed):
        return found
    if isinstance(found, pagedata.Data) and isinstance(found.value, dict):
        return found.value
    raise ValueError(f"page data without node {index}")


def _conversation(conversation_id: str) -> str:
    return "/conversation/" + quote(conversation_id, safe="")


def _model(model: Mapping[str, object]) -> Model:
    name = str(model.get("name") or model.get("id") or "")
    return Model(
        id=str(model.get("id") or name),
        name=name,
        display_name=_text(model.get("displayName")) or name,
        description=_text(model.get("description")),
        parameters={
            name: value
            for name, value in _mapping(model.get("parameters")).items()
            if value is not None and value is not pagedata.UNDEFINED
        },
    )


def _message(message: Mapping[str, object]) -> Message:
    created = message.get("createdAt")
    return Message(
        role=_text(message.get("from")),
        content=_text(message.get("content")),
        id=_text(message.get("id")) or None,
        created_at=created if isinstance(created, datetime) else None,
    )


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
