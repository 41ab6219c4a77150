"""The fakes write the same bytes as recorded servers."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest

import fake_wire
from fake_wire import UNDEFINED, Failed, Skipped
from recordings import recording

PAGES = (
    "v0.4-conversation-data-other-session",
    "v0.4-conversation-data-page-only",
    "v0.4-conversation-data-with-search",
    "v0.4-get-root-data-json",
    "v0.7-settings-read-back",
    "v0.9.1-conversation-page",
    "v0.9.1-settings-read-back",
)
SUPERJSON = ("v0.10.0-conversation", "v0.10.0-conversations", "v0.10.0-settings")


def value_of(flat: list[Any]) -> Any:
    """The value of a recorded devalue list, references followed."""
    read: dict[int, Any] = {-1: UNDEFINED}

    def at(place: int) -> Any:
        if place not in read:
            part = flat[place]
            if isinstance(part, dict):
                read[place] = {name: at(each) for name, each in part.items()}
            elif isinstance(part, list) and part[:1] == ["Date"]:
                read[place] = moment(part[1])
            else:
                read[place] = [at(each) for each in part] if isinstance(part, list) else part
        return read[place]

    return at(0)


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def node_of(recorded: dict[str, Any] | None) -> Any:
    if recorded is None:
        return None
    if recorded["type"] == "skip":
        return Skipped()
    if recorded["type"] == "error":
        return Failed(recorded["status"], recorded["error"]["message"])
    return value_of(recorded["data"])


@pytest.mark.parametrize("name", PAGES)
def test_page_data_is_written_like_real_servers_do(name: str) -> None:
    recorded = json.loads(recording(name).payload)
    written = json.loads(fake_wire.page(*(node_of(each) for each in recorded["nodes"])))
    for node in recorded["nodes"]:
        if node is not None and "uses" in node:
            node["uses"] = {}  # which nodes to load again: clients ignore this
    assert written == recorded


@pytest.mark.parametrize("name", SUPERJSON)
def test_superjson_is_written_like_real_servers_do(name: str) -> None:
    recorded = json.loads(recording(name).payload)
    # Clients ignore which ids are of MongoDB, and which values are the same object.
    kinds = recorded["meta"]["values"]
    kinds = {path: each for path, each in kinds.items() if each in (["Date"], ["undefined"])}
    recorded["meta"] = {"values": kinds}
    value = json.loads(recording(name).payload)["json"]
    for path, (kind,) in kinds.items():
        *way, last = path.split(".")
        holder = value
        for step in way:
            holder = holder[int(step) if isinstance(holder, list) else step]
        key = int(last) if isinstance(holder, list) else last
        holder[key] = moment(holder[key]) if kind == "Date" else UNDEFINED
    assert json.loads(fake_wire.superjson(value)) == recorded


def test_tokens_are_written_like_real_servers_do() -> None:
    assert (
        fake_wire.token_event("Hello")
        == recording("v0.4-message-1").payload.partition(b"\n\n")[0] + b"\n\n"
    )


def test_updates_are_written_like_real_servers_do() -> None:
    payload = recording("v0.10.0-content-emoji").payload
    lines = [each.strip() + b"\n" for each in payload.split(b"\n") if each.strip()]
    assert [fake_wire.line(json.loads(each)) for each in lines] == lines
