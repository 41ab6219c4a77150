"""Find, create and copy conversations, for all routes."""

from __future__ import annotations

import re

from msgspec import UNSET
from starlette.requests import Request

from h2o_client.server.records import Conversation, Shared, parse_id
from h2o_client.server.replies import Refusal
from h2o_client.server.store import Store
from h2o_client.server.v0_9_6 import tree
from h2o_client.server.v0_9_6.bodies import Creation

NEW = "New Chat"
"""The title of a conversation without messages."""

LONGEST_TITLE = 100
SHARE_ID_LENGTH = 7


def own(store: Store, request: Request, *, malformed: Refusal | None = None) -> Conversation:
    """The session's conversation in the path. Raises `Refusal`."""
    try:
        conversation_id = parse_id(request.path_params["id"])
    except ValueError:
        raise malformed or Refusal() from None
    found = store.conversation(request.state.session, conversation_id)
    if found is None:
        raise Refusal(404, "Conversation not found")
    return found


def shared(store: Store, shared_id: str) -> Shared:
    """The shared conversation with that id. Raises `Refusal`."""
    found = store.shared(shared_id)
    if found is None:
        raise Refusal(404, "Conversation not found")
    return found


def created(store: Store, session: str, asked: Creation) -> Conversation:
    """Create a conversation with only a system message. May raise `Full`."""
    preprompt = "" if asked.preprompt is UNSET else str(asked.preprompt)
    return store.create(
        session,
        model=asked.model,
        title=NEW,
        preprompt=preprompt,
        messages=[tree.root(preprompt)],
    )


def copied(store: Store, session: str, shared_id: str) -> Conversation:
    """Copy a shared conversation for the session. Raises `Refusal`, and may raise `Full`."""
    found = shared(store, shared_id)
    return store.create(
        session,
        model=found.model,
        title=found.title,
        preprompt=found.preprompt,
        messages=found.messages,
    )


def clean(title: str) -> str:
    """The title as it is stored, without the marks of a reasoning model."""
    return re.sub("</?think>", "", title, flags=re.IGNORECASE).strip()
