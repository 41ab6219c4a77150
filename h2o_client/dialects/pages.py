"""The requests for reading from pages, in SvelteKit's page data (chat-ui up to v0.9.5)."""

from __future__ import annotations

from collections.abc import Mapping

from h2o_client.dialects.conversation_requests import conversation_path
from h2o_client.dialects.documents import (
    Entries,
    IsFinished,
    Layout,
    Model,
    Settings,
    Stored,
    User,
    read_layout,
    read_stored,
)
from h2o_client.dialects.endpoint import Endpoint, Moved, Refused
from h2o_client.wire import pagedata
from h2o_client.wire.request import Request, get, post_form

ROOT = "/__data.json"


def root_request() -> Request:
    """The root page. Its node 0 is part of every page."""
    return get(ROOT)


def layout() -> Endpoint[Layout]:
    """Settings, models, user and conversations, in one response."""
    return Endpoint(root_request(), lambda body: read_layout(node(body, 0), size=len(body)))


def models() -> Endpoint[tuple[Model, ...]]:
    """The available models."""
    return layout().then(lambda found: found.models)


def settings() -> Endpoint[Settings]:
    """The stored settings."""
    return layout().then(lambda found: found.settings)


def user() -> Endpoint[User | None]:
    """The user who is logged in."""
    return layout().then(lambda found: found.user)


def needs_login() -> Endpoint[bool]:
    """Whether a session without a login cannot chat."""
    return layout().then(lambda found: found.needs_login)


def conversations(page: int) -> Endpoint[Entries]:
    """The list of conversations, which has a single page."""
    return layout().then(lambda found: Entries(found.entries, more=False))


def conversation_of_v0_3(conversation_id: str, is_finished: IsFinished) -> Endpoint[Stored]:
    """A conversation on v0.3 to v0.6."""
    return _conversation(conversation_id, is_finished, "_1")


def conversation(conversation_id: str, is_finished: IsFinished) -> Endpoint[Stored]:
    """A conversation on v0.7 and later."""
    return _conversation(conversation_id, is_finished, "01")


def _conversation(conversation_id: str, is_finished: IsFinished, nodes: str) -> Endpoint[Stored]:
    """``nodes`` requests only node 1, in the notation of the version."""
    request = get(f"{conversation_path(conversation_id)}{ROOT}?x-sveltekit-invalidated={nodes}")
    return Endpoint(request, lambda body: read_stored(node(body, 1), is_finished))


def delete_all() -> Request:
    """Delete all conversations of the session or user, with a form."""
    return post_form("/conversations?/delete", [], safe=True)


def is_empty(body: bytes) -> bool:
    """Whether it is a page of v0.9.6 or later, whose pages have no data."""
    try:
        nodes = pagedata.read(body)
    except (ValueError, RecursionError):
        return False
    if isinstance(nodes, pagedata.Redirected):
        return False
    return bool(nodes) and all(node is None for node in nodes)


def node(body: bytes, index: int) -> Mapping[str, object]:
    """A node's value. Raises `Refused`, `Moved`, and ValueError if there is no such node."""
    nodes = pagedata.read(body)
    if isinstance(nodes, pagedata.Redirected):
        raise Moved(nodes.status, nodes.location)
    found = nodes[index] if index < len(nodes) else None
    if isinstance(found, pagedata.Failed):
        raise Refused(found.status, found.message)
    if isinstance(found, pagedata.Data) and isinstance(found.value, dict):
        return found.value
    raise ValueError(f"page data without node {index}")
