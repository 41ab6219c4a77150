"""The page data of chat-ui v0.4: what stands in the nodes of ``__data.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from h2o_client.server.store import Conversation, Message, Settings
from h2o_client.wire.pagedata import UNDEFINED, Data

Entry = dict[str, object]


def layout(
    conversations: Sequence[Conversation],
    settings: Settings,
    *,
    model: str,
    parameters: Mapping[str, object],
) -> Data:
    """Node 0 of every page: the session's conversations and settings, and the server's model."""
    return Data(
        {
            "conversations": [_conversation(each) for each in conversations],
            "settings": _settings(settings, model=model),
            "models": [_model(model, parameters)],
            "oldModels": [],
            "user": UNDEFINED,
            "requiresLogin": False,
            "messagesBeforeLogin": 0,
        }
    )


def conversation_page(conversation: Conversation) -> Data:
    """Node 1 of a conversation's page."""
    return Data(
        {
            "messages": [_message(each) for each in conversation.messages],
            "title": conversation.title,
            "model": conversation.model,
            "searches": {},
        }
    )


def _conversation(conversation: Conversation) -> Entry:
    return {"id": conversation.id, "title": conversation.title, "model": conversation.model}


def _settings(settings: Settings, *, model: str) -> Entry:
    return {
        "shareConversationsWithModelAuthors": settings.share,
        "ethicsModalAcceptedAt": settings.accepted_at,
        "activeModel": settings.active_model or model,
        "searchEnabled": False,
    }


def _model(name: str, parameters: Mapping[str, object]) -> Entry:
    return {
        "id": name,
        "name": name,
        "websiteUrl": UNDEFINED,
        "modelUrl": UNDEFINED,
        "datasetName": UNDEFINED,
        "datasetUrl": UNDEFINED,
        "displayName": name,
        "description": UNDEFINED,
        "promptExamples": UNDEFINED,
        "parameters": dict(parameters),
    }


def _message(message: Message) -> Entry:
    entry: Entry = {"from": message.sender, "content": message.content, "id": message.id}
    if message.sender == "assistant":
        entry["webSearchId"] = ""
    if message.created_at is not None:
        entry["createdAt"] = message.created_at
    return {**entry, "updatedAt": message.updated_at}
