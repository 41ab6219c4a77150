"""The page data of chat-ui v0.4: the nodes of ``__data.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from h2o_client.server.records import Conversation, Message, Settings, Shared
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


def conversation_page(conversation: Conversation | Shared) -> Data:
    """Node 1 of the page of a conversation or a shared conversation."""
    used = {each.web_search_id for each in conversation.messages}
    return Data(
        {
            "messages": [_message(each) for each in conversation.messages],
            "title": conversation.title,
            "model": conversation.model,
            "searches": {each: [*_NO_SEARCH] for each in conversation.searches if each in used},
        }
    )


def search_steps(search_id: str) -> list[list[Entry]]:
    """The documents of a web search, each with all steps so far. The search always fails.

    A chat-ui v0.4 without a key sends the same steps, with another reason.
    """
    steps: list[Entry] = [*_NO_SEARCH, {"type": "result", "id": search_id}]
    return [steps[:count] for count in range(1, len(steps) + 1)]


_NO_SEARCH: list[Entry] = [
    {"type": "update", "message": "Generating search query"},
    {
        "type": "error",
        "message": "An error occurred with the web search",
        "args": ['"Web search is not available on this server"'],
    },
]


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
        entry["webSearchId"] = message.web_search_id
    if message.created_at is not None:
        entry["createdAt"] = message.created_at
    entry["updatedAt"] = message.updated_at
    if message.score is not None:
        entry["score"] = message.score
    return entry
