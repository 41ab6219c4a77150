"""Pages: SvelteKit's page data, in which chat-ui up to v0.9.5 tells what it stores."""

from __future__ import annotations

from collections.abc import Mapping

from h2o_client.dialects.dialect import Moved, Refused, conversation_path
from h2o_client.wire import pagedata
from h2o_client.wire.request import Request, get

ROOT = "/__data.json"


def root_request() -> Request:
    """The root page, whose node 0 every page has."""
    return get(ROOT)


def conversation_request(conversation_id: str, *, skip: str) -> Request:
    """A conversation's page; ``skip`` says which nodes are wanted, as that version spells it."""
    return get(f"{conversation_path(conversation_id)}{ROOT}?x-sveltekit-invalidated={skip}")


def is_empty(body: bytes) -> bool:
    """Whether it is a page of v0.9.6 or later, where pages tell nothing."""
    try:
        nodes = pagedata.read(body)
    except (ValueError, RecursionError):
        return False
    if isinstance(nodes, pagedata.Redirected):
        return False
    return bool(nodes) and all(node is None for node in nodes)


def node(body: bytes, index: int) -> Mapping[str, object]:
    """A node's value. Raises `Refused`, `Moved`, and ValueError for what is no such page."""
    nodes = pagedata.read(body)
    if isinstance(nodes, pagedata.Redirected):
        raise Moved(nodes.status, nodes.location)
    found = nodes[index] if index < len(nodes) else None
    if isinstance(found, pagedata.Failed):
        raise Refused(found.status, found.message)
    if isinstance(found, pagedata.Data) and isinstance(found.value, dict):
        return found.value
    raise ValueError(f"page data without node {index}")
