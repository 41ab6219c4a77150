"""Encoders for the formats of chat-ui: page data (devalue), superjson, events of a stream.

Written from the output of real servers, without the client's code: `test_fake_wire.py` compares it
with the recordings.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any


class Undefined(Enum):
    """JavaScript's undefined."""

    UNDEFINED = "undefined"


UNDEFINED = Undefined.UNDEFINED


@dataclass(frozen=True)
class Skipped:
    """A node of a page that the request did not want."""


@dataclass(frozen=True)
class Failed:
    """A node of a page that failed."""

    status: int
    message: str


def iso(moment: datetime) -> str:
    """A UTC time in the format of JavaScript's ``toISOString``."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def flatten(value: object) -> list[object]:
    """The devalue list of a value: equal strings and numbers, or one object, stand in it once."""
    places: dict[tuple[type, object], int] = {}
    flat: list[object] = []

    def place(part: object) -> int:
        if part is UNDEFINED:
            return -1
        is_plain = part is None or isinstance(part, str | bool | int | float)
        key = (type(part), part if is_plain else id(part))
        if key in places:
            return places[key]
        here = places[key] = len(flat)
        flat.append(part)
        if is_plain:
            return here
        if isinstance(part, datetime):
            flat[here] = ["Date", iso(part)]
        elif isinstance(part, Mapping):
            flat[here] = {name: place(each) for name, each in part.items()}
        elif isinstance(part, list | tuple):
            flat[here] = [place(each) for each in part]
        else:
            raise TypeError(f"devalue has no {type(part)}")
        return here

    place(value)
    return flat


def page(*nodes: Mapping[str, Any] | Skipped | Failed | None) -> bytes:
    """Page data; a mapping is the data of a node."""
    document = {"type": "data", "nodes": [_node(each) for each in nodes]}
    return json.dumps(document, separators=(",", ":")).encode()


def _node(node: Mapping[str, Any] | Skipped | Failed | None) -> object:
    if isinstance(node, Skipped):
        return {"type": "skip"}
    if isinstance(node, Failed):
        return {"type": "error", "error": {"message": node.message}, "status": node.status}
    return None if node is None else {"type": "data", "data": flatten(node), "uses": {}}


def superjson(value: object) -> bytes:
    """A value in the format of ``/api/v2``: JSON, and the paths of the values that JSON lacks."""
    types: dict[str, list[str]] = {}

    def plain(part: object, *path: str) -> object:
        if isinstance(part, Mapping):
            return {name: plain(each, *path, name) for name, each in part.items()}
        if isinstance(part, list | tuple):
            return [plain(each, *path, str(place)) for place, each in enumerate(part)]
        if part is UNDEFINED or isinstance(part, datetime):
            steps = (step.replace("\\", "\\\\").replace(".", "\\.") for step in path)
            types[".".join(steps)] = ["undefined" if part is UNDEFINED else "Date"]
            return iso(part) if isinstance(part, datetime) else None
        return part

    document: dict[str, object] = {"json": plain(value)}
    if types:
        document["meta"] = {"values": types.get("", types)}
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def plain_json(value: Any) -> Any:
    """A value for ``/api``, without the values that JSON lacks."""
    if isinstance(value, dict):
        return {key: plain_json(each) for key, each in value.items() if each is not UNDEFINED}
    if isinstance(value, list):
        return [plain_json(each) for each in value]
    return iso(value) if isinstance(value, datetime) else value


def event(document: Mapping[str, object]) -> bytes:
    """An event of v0.3 to v0.6, in the format of text-generation-inference."""
    return b"data:" + _compact(document) + b"\n\n"


def token_event(
    text: str, *, id: int = 110, special: bool = False, end: str | None = None
) -> bytes:
    """A token. The last one has the whole text in ``end``."""
    token = {"id": id, "text": text, "logprob": -0.5, "special": special}
    return event({"token": token, "generated_text": end, "details": None})


def line(update: Mapping[str, object]) -> bytes:
    """An update of v0.7 and later."""
    return _compact(update) + b"\n"


def _compact(document: Mapping[str, object]) -> bytes:
    try:
        return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:  # half a surrogate pair
        return json.dumps(document, separators=(",", ":")).encode()
