"""SvelteKit's page data (``__data.json``): devalue-flattened values, read and written.

A document holds one node a layout level. In a node's ``data``, index 0 is the root, integers
inside lists and dicts are references to other indices, negative ones stand for values JSON
lacks, and dates are ``["Date", iso]``. What v0.9 sends later (``{"type": "chunk"}`` lines) fills
the promises of the first line.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from datetime import datetime, timezone

import msgspec

from h2o_client.wire.json import read as read_json

UNDEFINED = msgspec.UNSET
"""JavaScript's undefined, which devalue writes as -1."""


class Data(msgspec.Struct, frozen=True):
    """A node with a value made of dicts, lists, strings, numbers, bools, None and datetimes."""

    value: object


class Skipped(msgspec.Struct, frozen=True):
    """A node the request said it does not want."""


class Failed(msgspec.Struct, frozen=True):
    """A node that failed, inside an HTTP 200."""

    status: int
    message: str


class Redirected(msgspec.Struct, frozen=True):
    """The whole page is elsewhere: a login, usually."""

    location: str
    status: int = 302


Node = Data | Skipped | Failed | None

_FLOATS = {"nan": -3, "inf": -4, "-inf": -5, "-0.0": -6}
_SPECIAL = {
    -1: UNDEFINED,
    -2: UNDEFINED,  # a hole in an array
    -3: math.nan,
    -4: math.inf,
    -5: -math.inf,
    -6: -0.0,
}


def read(document: bytes) -> list[Node] | Redirected:
    """A document's nodes, or where it sends its reader. Raises ValueError for anything else."""
    lines = [read_json(line) for line in document.split(b"\n") if line.strip()]
    if not lines or not isinstance(lines[0], dict):
        raise ValueError("no page data")
    head = lines[0]
    if head.get("type") == "redirect":
        return Redirected(str(head.get("location", "")), _status(head.get("status"), 302))
    if head.get("type") != "data" or not isinstance(head.get("nodes"), list):
        raise ValueError("no page data")
    try:
        later = {
            line.get("id"): line.get("data")
            for line in lines[1:]
            if isinstance(line, dict) and line.get("type") == "chunk"
        }
        return [_read_node(node, later) for node in head["nodes"]]
    except (IndexError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise ValueError(f"page data that refers to nothing: {exc}") from exc


def write(nodes: Sequence[Node]) -> bytes:
    """The whole document of ``nodes``."""
    written = [_write_node(node) for node in nodes]
    return json.dumps({"type": "data", "nodes": written}, separators=(",", ":")).encode()


def unflatten(values: object, later: dict[object, object] | None = None) -> object:
    """The value that a devalue list stands for. Raises IndexError, TypeError for broken lists."""
    if isinstance(values, int):
        return _SPECIAL[values]
    if not isinstance(values, list):
        raise TypeError("not a devalue list")
    return _Reader(values, later or {}).at(0)


def flatten(value: object) -> list[object] | int:
    """The devalue list of ``value``; equal strings and numbers stand in it once.

    What JSON lacks (undefined, NaN, ...) has no list: it is the number that stands for it.
    """
    values: list[object] = []
    places: dict[tuple[type, object], int] = {}

    def place(item: object) -> int:
        if item is UNDEFINED:
            return -1
        if isinstance(item, float) and repr(item) in _FLOATS:
            return _FLOATS[repr(item)]
        key = (type(item), item) if isinstance(item, str | int | float | bool | None) else None
        if key is not None and key in places:
            return places[key]
        index = len(values)
        values.append(None)
        if key is not None:
            places[key] = index
        values[index] = flat(item)
        return index

    def flat(item: object) -> object:
        if isinstance(item, dict):
            return {str(name): place(entry) for name, entry in item.items()}
        if isinstance(item, list | tuple):
            return [place(entry) for entry in item]
        if isinstance(item, datetime):
            return ["Date", write_date(item)]
        return item

    root = place(value)
    return values if root == 0 else root


def write_date(moment: datetime) -> str:
    """The moment as JavaScript's ``toISOString`` has it."""
    utc = moment.astimezone(timezone.utc)
    return utc.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class _Reader:
    """Follows the references; each index is built once, so that shared values stay shared."""

    def __init__(self, values: list[object], later: dict[object, object]) -> None:
        self._values = values
        self._later = later
        self._built: dict[int, object] = {}

    def at(self, index: object) -> object:
        if not isinstance(index, int) or isinstance(index, bool):
            raise TypeError(f"{index!r} is no reference")
        if index < 0:
            return _SPECIAL[index]
        if index not in self._built:
            self._build(index)
        return self._built[index]

    def _build(self, index: int) -> None:
        value = self._values[index]
        if isinstance(value, dict):
            built: dict[str, object] = {}
            self._built[index] = built
            built.update((name, self.at(place)) for name, place in value.items())
        elif isinstance(value, list) and value and isinstance(value[0], str):
            self._built[index] = self._tagged(value)
        elif isinstance(value, list):
            items: list[object] = []
            self._built[index] = items
            items.extend(self.at(place) for place in value)
        else:
            self._built[index] = value

    def _tagged(self, value: list[object]) -> object:
        tag, *parts = value
        read_tag = _TAGS.get(str(tag))
        if read_tag is not None:
            return read_tag(str(parts[0]) if parts else "")
        if tag == "Promise":
            promised = self._later.get(self.at(parts[0]))
            return None if promised is None else unflatten(promised, self._later)
        if tag == "Set":
            return [self.at(part) for part in parts]
        if tag == "Map":
            places = iter(parts)
            return {str(self.at(name)): self.at(item) for name, item in zip(places, places)}  # noqa: B905
        return value  # a type that JSON lacks and nobody here needs


def _read_node(node: object, later: dict[object, object]) -> Node:
    if node is None:
        return None
    if not isinstance(node, dict):
        raise TypeError("not a node")
    if node.get("type") == "skip":
        return Skipped()
    if node.get("type") == "error":
        error = node.get("error")
        said = error.get("message") if isinstance(error, dict) else error
        return Failed(_status(node.get("status"), 500), str(said))
    return Data(unflatten(node["data"], later))


def _write_node(node: Node) -> object:
    if node is None:
        return None
    if isinstance(node, Skipped):
        return {"type": "skip"}
    if isinstance(node, Failed):
        return {"type": "error", "error": {"message": node.message}, "status": node.status}
    return {"type": "data", "data": flatten(node.value), "uses": {}}


def _status(value: object, otherwise: int) -> int:
    return value if isinstance(value, int) and value else otherwise


def _date(iso: str) -> datetime | None:
    try:
        return datetime.fromisoformat(iso.replace("Z", "+00:00"))
    except ValueError:
        return None  # JavaScript's Invalid Date is written as ["Date", ""]


_TAGS: dict[str, Callable[[str], object]] = {"Date": _date, "BigInt": int, "RegExp": str}
