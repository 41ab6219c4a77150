"""Documents of stored data in the format of each version: pages and JSON."""

from __future__ import annotations

import json

import fake_wire
from fake_store import (
    HIDDEN,
    Conversation,
    Document,
    Message,
    Session,
    Version,
    default_settings,
    now,
)
from fake_wire import UNDEFINED, Failed, Skipped

PARAMETERS = {"temperature": 0.3, "truncate": 1000, "max_new_tokens": 777, "top_k": 50}
NOT_FOUND = "Conversation not found."
NOT_YOURS = (
    "You don't have access to this conversation. If someone gave you this link, ask them to use "
    "the 'share' feature instead."
)


def page(*nodes: Document | Skipped | Failed | None, chunk: object = None) -> bytes:
    """Page data. ``chunk`` is sent later and resolves the promise in node 0."""
    written = fake_wire.page(*nodes)
    if chunk is None:
        return written + b"\n"
    document = json.loads(written)
    if document["nodes"][0].get("type") == "data":
        values = document["nodes"][0]["data"]
        place = values[0]["conversations"]
        values[place] = ["Promise", len(values)]
        values.append(1)
    late = {"type": "chunk", "id": 1, "data": fake_wire.flatten(chunk)}
    return json.dumps(document).encode() + b"\n" + json.dumps(late).encode() + b"\n"


def api_models(version: Version) -> list[Document]:
    """The models as listed by ``/api/models`` since v0.8."""
    signs: Document = {"multimodal": False, "unlisted": False, "hasInferenceAPI": False}
    if version.within((0, 9, 2), (0, 9, 6)):
        signs["tools"] = False
    if version.since(0, 9, 6):
        signs |= {"supportsTools": False, "supportsReasoning": False}
    if version.is_latest:
        signs["supportsArtifacts"] = False
    return [
        {"id": name, "name": name, "displayName": name.upper(), "description": "", **signs}
        for name in version.models
    ]


def page_models(version: Version) -> list[Document]:
    models: list[Document] = [
        {
            "id": name,
            "name": name,
            "websiteUrl": UNDEFINED,
            "displayName": name.upper(),
            "description": UNDEFINED,
            "parameters": PARAMETERS
            if name == version.models[0]
            else {"stop_sequences": UNDEFINED},
        }
        for name in version.models
    ]
    if version.since(0, 7):
        models.append({**models[0], "id": HIDDEN, "name": HIDDEN})
        for model in models:
            model |= {"preprompt": "", "multimodal": False, "unlisted": model["id"] == HIDDEN}
    return models


def settings_of(version: Version, session: Session) -> Document:
    return session.settings if session.settings is not None else default_settings(version)


def page_settings(version: Version, session: Session) -> Document:
    moment = now() if session.accepted else None
    settings = settings_of(version, session)
    if version.before(0, 7):
        order = {"ethicsModalAcceptedAt": moment, "searchEnabled": False, **settings}
        if version.number < (0, 4):
            del order["searchEnabled"]
        return order
    accepted = {"ethicsModalAccepted": session.accepted, "ethicsModalAcceptedAt": moment}
    return {"searchEnabled": False, **accepted, **settings}


def v2_settings(version: Version, session: Session) -> Document:
    settings = {"billingOrganization": UNDEFINED, **settings_of(version, session)}
    moment = now() if session.accepted else None
    return {"welcomeModalSeen": session.accepted, "welcomeModalSeenAt": moment, **settings}


def layout(
    version: Version, session: Session, conversations: list[Conversation], *, login: bool = False
) -> Document:
    """Node 0 of every page up to v0.9.5. With a ``login``, guests have no conversations."""
    listed = [entry(version, each) for each in conversations]
    user = session.user if session.user is not None else UNDEFINED
    node: Document = {
        "conversations": listed if version.before(0, 9, 2) else "@@promised",
        "settings": page_settings(version, session),
        "models": page_models(version),
        "oldModels": [],
        "user": user,
    }
    if version.before(0, 7):
        node["requiresLogin"] = login
        if version.number >= (0, 4):
            node["messagesBeforeLogin"] = 0
        return node
    if version.within((0, 8), (0, 9, 2)) and version.number >= (0, 9):
        node["tools"] = []
    if version.within((0, 9, 2), (0, 9, 6)):
        node = {"nConversations": len(conversations), **node, "communityToolCount": 0}
        node["tools"] = [{"_id": "0" * 24, "name": "calculator", "isOnByDefault": True}]
    if version.since(0, 8):
        node |= {"assistants": [], "assistant": None, "enableAssistants": False}
    if version.number >= (0, 9, 5):
        node |= {"isAdmin": False, "publicConfig": {"PUBLIC_APP_NAME": "ChatUI"}}
    # v0.7 sends this only if guests may send a number of messages.
    required = login and session.user is None and version.since(0, 8)
    return node | {"loginRequired": required, "loginEnabled": login, "guestMode": False}


def entry(version: Version, conversation: Conversation) -> Document:
    """A conversation in the list of a page."""
    found: Document = {
        "id": conversation.id,
        "title": conversation.title,
        "model": conversation.model,
    }
    if version.since(0, 7):
        found["updatedAt"] = conversation.updated
    if version.within((0, 8), (0, 9, 6)):
        found["assistantId"] = UNDEFINED
    return found


def api_entry(version: Version, conversation: Conversation) -> Document:
    """A conversation in the list of the API."""
    found: Document = {"_id": conversation.id} if version.number >= (0, 9, 5) else {}
    found |= {"id": conversation.id, "title": conversation.title}
    found |= {"updatedAt": conversation.updated, "modelId": conversation.model}
    if version.number >= (0, 9, 5):
        found["model"] = conversation.model
    if version.before(0, 9, 6):
        found["assistantId"] = None
    if version.within((0, 9, 2), (0, 9, 6)):
        found["modelTools"] = False
    return found


def message(version: Version, stored: Message, *, tree: bool = True) -> Document:
    """A message in pages and ``/api/v2``; without the tree, in ``/api``."""
    found: Document = {"from": stored.role, "content": stored.content, "id": stored.id}
    found |= {"createdAt": stored.created, "updatedAt": stored.created}
    if stored.files:
        found["files"] = stored.files
    if stored.search_id:
        found["webSearchId"] = stored.search_id
    if stored.sources and version.number == (0, 7):
        found["webSearch"] = {"prompt": "", "contextSources": stored.sources}
    if version.before(0, 7):
        return found
    if stored.updates or version.since(0, 9, 6):
        found["updates"] = list(stored.updates)
    if version.has_tree and tree:
        found |= {"children": list(stored.children), "ancestors": list(stored.ancestors)}
        if stored.interrupted is not None:
            found["interrupted"] = stored.interrupted
        if version.is_latest and stored.run_id:
            found |= {"generationId": stored.run_id, "materializedSeq": len(stored.updates)}
    return found


def conversation(version: Version, stored: Conversation) -> Document:
    """The node of a conversation's page, and the document of ``/api/v2``."""
    found: Document = {
        "messages": [message(version, each) for each in stored.messages],
        "title": stored.title,
        "model": stored.model,
    }
    if version.before(0, 7):
        return {**found, "searches": dict(stored.searches)}
    found |= {"preprompt": stored.preprompt, "shared": False}
    if version.has_tree:
        found["rootMessageId"] = stored.root
    if version.within((0, 8), (0, 9, 6)):
        found["assistant"] = None
    if version.since(0, 9, 6):
        found |= {"id": stored.id, "updatedAt": stored.updated, "modelId": stored.model}
    if version.is_latest:
        found["deployedSpaces"] = UNDEFINED
    return found


def api_conversation(version: Version, stored: Conversation) -> Document:
    """The document of ``/api/conversation/{id}``."""
    return {
        **api_entry(version, stored),
        "messages": [message(version, each, tree=False) for each in stored.messages],
    }
