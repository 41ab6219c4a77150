"""The documents in responses of chat-ui v0.10.0, as plain values. Dates are datetimes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from h2o_client.server.records import Conversation, Message, Shared, Streamed, Update
from h2o_client.wire import json, updates
from h2o_client.wire.pagedata import UNDEFINED

Document = dict[str, object]


def entry(conversation: Conversation) -> Document:
    """A conversation in a list."""
    return {
        "_id": conversation.id,
        "id": conversation.id,
        "title": conversation.title,
        "updatedAt": conversation.updated_at,
        "model": conversation.model,
        "modelId": conversation.model,
    }


def conversation(found: Conversation) -> Document:
    """A conversation in ``/api``."""
    return {
        "id": found.id,
        "title": found.title,
        "updatedAt": found.updated_at,
        "modelId": found.model,
        "messages": _messages(found.messages),
    }


def conversation_tree(found: Conversation | Shared) -> Document:
    """A conversation in ``/api/v2``, where messages have ancestors and children."""
    places = _places(found.messages)
    return {
        "messages": [
            {**document, **places[each.id], **_run(each)}
            for document, each in zip(_messages(found.messages), found.messages, strict=True)
        ],
        "title": found.title,
        "model": found.model,
        "preprompt": found.preprompt,
        "rootMessageId": found.messages[0].id,
        "id": found.id,
        "updatedAt": found.updated_at,
        "modelId": found.model,
        "shared": isinstance(found, Shared),
    }


def model(name: str) -> Document:
    """The model in ``/api``."""
    return {
        "id": name,
        "name": name,
        "displayName": name,
        "description": "",
        "promptExamples": [],
        "preprompt": "",
        "multimodal": False,
        "supportsTools": False,
        "supportsReasoning": False,
        "unlisted": False,
        "hasInferenceAPI": False,
    }


def model_in_full(name: str, parameters: Mapping[str, object]) -> Document:
    """The model in ``/api/v2``."""
    unknown = ("websiteUrl", "modelUrl", "datasetName", "datasetUrl", "logoUrl", "providers")
    return {
        **model(name),
        **dict.fromkeys(unknown, UNDEFINED),
        "multimodalAcceptedMimetypes": UNDEFINED,
        "parameters": dict(parameters),
        "isRouter": False,
    }


def _messages(messages: Sequence[Message]) -> list[Document]:
    # Once an answer has ended, every message has updates.
    others: Document = {} if all(each.updates is None for each in messages) else {"updates": []}
    return [
        {**_message(each), **({} if each.sender == "assistant" else others)} for each in messages
    ]


def _message(message: Message) -> Document:
    document: Document = {
        "id": message.id,
        "from": message.sender,
        "content": message.content,
        "createdAt": message.created_at,
        "updatedAt": message.updated_at,
    }
    if message.sender == "user":
        document["files"] = [
            {"type": "hash", "value": each.sha, "mime": each.mime, "name": each.name}
            for each in message.files
        ]
    if message.updates is not None:
        document["updates"] = [_update(each) for each in message.updates]
    if message.interrupted is not None:
        document["interrupted"] = message.interrupted
    return document


def _places(messages: Sequence[Message]) -> dict[str, dict[str, list[str]]]:
    # One pass is enough, because a message always comes after its parent.
    places: dict[str, dict[str, list[str]]] = {}
    for each in messages:
        above = places.get(each.parent or "")
        ancestors = [] if above is None else [*above["ancestors"], str(each.parent)]
        places[each.id] = {"ancestors": ancestors, "children": []}
        if above is not None:
            above["children"].append(each.id)
    return places


def _run(message: Message) -> Document:
    # Only the latest chat-ui has these fields, and only here.
    run = {"generationId": message.generation_id, "materializedSeq": message.materialized_seq}
    return {name: value for name, value in run.items() if value is not None}


def _update(update: Update) -> object:
    if isinstance(update, Streamed):
        # The text is in the message's content.
        return {"type": "stream", "token": "", "len": update.length}
    return json.read(updates.write(update))
