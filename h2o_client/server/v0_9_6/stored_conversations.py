"""Finding, making and copying conversations, for the routes inside ``/api`` and outside."""

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
"""The title of a conversation in which nothing has been said yet."""

LONGEST_TITLE = 100
SHARE_ID_LENGTH = 7


def own(store: Store, request: Request, *, malformed: Refusal | None = None) -> Conversation:
    """The session's conversation of the path. Raises `Refusal`."""
    try:
        conversation_id = parse_id(request.path_params["id"])
    except ValueError:
        raise malformed or Refusal() from None
    found = store.conversation(request.state.session, conversation_id)
    if found is None:
        raise Refusal(404, "Conversation not found")
    return found


def shared(store: Store, shared_id: str) -> Shared:
    """What was shared under that id. Raises `Refusal`."""
    found = store.shared(shared_id)
    if found is None:
        raise Refusal(404, "Conversation not found")
    return found


def created(store: Store, session: str, asked: Creation) -> Conversation:
    """A new conversation, empty but for its system message. May raise `Full`."""
    preprompt = "" if asked.preprompt is UNSET else str(asked.preprompt)
    return store.create(
        session,
        model=asked.model,
        title=NEW,
        preprompt=preprompt,
        messages=[tree.root(preprompt)],
    )


def copied(store: Store, session: str, shared_id: str) -> Conversation:
    """The session's own copy of a shared conversation. Raises `Refusal`; may raise `Full`."""
    found = shared(store, shared_id)
    return store.create(
        session,
        model=found.model,
        title=found.title,
        preprompt=found.preprompt,
        messages=found.messages,
    )


def clean(title: str) -> str:
    """The title as it is kept: without a reasoning model's marks."""
    return re.sub("</?think>", "", title, flags=re.IGNORECASE).strip()
