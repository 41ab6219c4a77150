"""Reads and writes SvelteKit's page data (``__data.json``), in the format of the package devalue.

A document has one node for each level of the layout. A node's ``data`` is a list. Its first entry
is the root. Integers inside lists and dicts are indices of other entries; negative ones represent
values that JSON lacks. Dates are ``["Date", iso]``. v0.9 sends more lines after the first,
``{"type": "chunk"}``, with the values of the promises in the first line.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timezone
from io import BytesIO

import msgspec

from h2o_client.wire.checkpoint import checked, checkpoint
from h2o_client.wire.json import read as read_json

UNDEFINED = msgspec.UNSET
"""JavaScript's undefined, which devalue writes as -1."""


class Data(msgspec.Struct, frozen=True):
    """A node's value, which consists of dicts, lists, strings, numbers, bools, None, datetimes."""

    value: object


class Skipped(msgspec.Struct, frozen=True):
    """A node that the request asked the server to leave out."""


class Failed(msgspec.Struct, frozen=True):
    """A node that failed, in a response with status 200."""

    status: int
    message: str


class Redirected(msgspec.Struct, frozen=True):
    """The server redirects to another page, usually to a login."""

    location: str
    status: int = 302


class EndlessError(ValueError):
    """A document that contains itself, or that is far too large with every reference expanded."""


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


_FEWEST_VALUES = 1 << 16
_FEWEST_CHARACTERS = 16 << 20
_CHECK_EVERY = 256  # lists and dicts


def read(document: bytes) -> list[Node] | Redirected:
    """The nodes of a document, or its redirect. Raises ValueError for anything else.

    With every reference expanded, a document may have as many values as it has bytes, or 65,536,
    and as many characters as twice its bytes, or 16 Mi; the larger number counts.
    """
    first, *others = [line for line in checked(BytesIO(document)) if line.strip()] or [b""]
    head = read_json(first)
    if not isinstance(head, dict):
        raise ValueError("not page data")
    if head.get("type") == "redirect":
        return Redirected(_said(head.get("location")), _status(head.get("status"), 302))
    if head.get("type") != "data" or not isinstance(head.get("nodes"), list):
        raise ValueError("not page data")
    try:
        chunks = _Chunks(len(document))
        for line in checked(others):
            chunks.add(read_json(line))
        return [_read_node(node, chunks) for node in checked(head["nodes"])]
    except (IndexError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise ValueError(f"page data that refers to nothing: {exc}") from exc


def write(nodes: Sequence[Node]) -> bytes:
    """The document of ``nodes``."""
    written = [_write_node(node) for node in nodes]
    return json.dumps({"type": "data", "nodes": written}, separators=(",", ":")).encode()


def unflatten(values: object, *, size: int = 0) -> object:
    """The value of a devalue list from a document of ``size`` bytes. Raises ValueError."""
    try:
        chunks = _Chunks(size)
        return chunks.expanded(chunks.value(values))
    except (IndexError, KeyError, TypeError, RecursionError) as exc:
        raise ValueError(f"page data that refers to nothing: {exc}") from exc


def flatten(value: object) -> list[object] | int:
    """The devalue list of ``value``, in which equal strings and numbers occur once.

    For a value that JSON lacks (undefined, NaN, ...), return the number that represents it.
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
    """The moment in the format of JavaScript's ``toISOString``."""
    utc = moment.astimezone(timezone.utc)
    return utc.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class _Value:
    """A value that was read, and its size with every reference in it expanded.

    ``count`` is the number of its values, ``length`` the number of its characters.
    """

    __slots__ = ("count", "length", "value")

    def __init__(self, value: object, count: int = 1, length: int = 0) -> None:
        self.value = value
        self.count = count
        self.length = length


_UNREAD = _Value(None)


class _Chunks:
    """The devalue lists of one document. Each list of a later line is read only once."""

    def __init__(self, size: int) -> None:
        self._most_values = max(_FEWEST_VALUES, size)
        self._most_characters = max(_FEWEST_CHARACTERS, 2 * size)
        # The keys are texts, because a server could choose numbers whose hashes collide.
        self._lists: dict[str, object] = {}
        self._read: dict[str, _Value | None] = {}  # None while it is being read
        self._seen = 0

    def add(self, line: object) -> None:
        """Add a line after the first."""
        if isinstance(line, dict) and line.get("type") == "chunk":
            self._lists[_key(line.get("id"))] = line.get("data")

    def promised(self, number: object) -> _Value:
        """The value of a promise; a `_Value` of None if none was received."""
        key = _key(number)
        if key not in self._read:
            values = self._lists.get(key)
            self._read[key] = None
            self._read[key] = _Value(None) if values is None else self.value(values)
        return _unless_cycle(self._read[key])

    def value(self, values: object) -> _Value:
        """The value of one devalue list."""
        if isinstance(values, int):
            return _Value(_SPECIAL[values])
        if not isinstance(values, list):
            raise TypeError("not a devalue list")
        return _Reader(values, self).at(0)

    def expanded(self, read: _Value) -> object:
        """A node's value. Counts its size towards the limits for all nodes together."""
        self._most_values -= read.count
        self._most_characters -= read.length
        self.check(_Value(None, 0))
        return read.value

    def check(self, read: _Value) -> None:
        """Raise `EndlessError` if a value is too large."""
        if read.count > self._most_values or read.length > self._most_characters:
            raise EndlessError("page data that is too large with its references expanded")
        self._seen += 1
        if not self._seen % _CHECK_EVERY:
            checkpoint()


def _key(number: object) -> str:
    if not isinstance(number, int):
        raise TypeError("a promise without a number")
    return str(number)


def _unless_cycle(read: _Value | None) -> _Value:
    if read is None:
        raise EndlessError("page data that contains itself")
    return read


class _Reader:
    """Follows the references of one list. Each list and dict in it is read only once."""

    def __init__(self, values: list[object], chunks: _Chunks) -> None:
        self._values = values
        self._chunks = chunks
        self._read: list[_Value | None] = [_UNREAD] * len(values)  # None while it is being read

    def at(self, index: object) -> _Value:
        if type(index) is not int:
            raise TypeError("a reference that is not a number")
        if index < 0:
            return _Value(_SPECIAL[index])
        value = self._values[index]
        if not isinstance(value, dict | list):
            return _Value(value, 1, len(value) if isinstance(value, str) else 0)
        read = self._read[index]
        if read is _UNREAD:
            self._read[index] = None
            read = self._built(value)
            self._chunks.check(read)
            self._read[index] = read
        return _unless_cycle(read)

    def _built(self, value: dict[str, object] | list[object]) -> _Value:
        if isinstance(value, dict):
            return self._dict(value.items())
        if value and isinstance(value[0], str):
            return self._tagged(value[0], value[1:])
        return self._list(value)

    def _list(self, places: list[object]) -> _Value:
        built: list[object] = []
        read = _Value(built)
        for place in checked(places):
            built.append(self._counted(read, place))
        return read

    def _dict(self, items: Iterable[tuple[str, object]]) -> _Value:
        built: dict[str, object] = {}
        read = _Value(built)
        for name, place in checked(items):
            built[name] = self._counted(read, place)
            read.length += len(name)
        return read

    def _counted(self, whole: _Value, place: object) -> object:
        if type(place) is int and place >= 0:
            value = self._values[place]
            if type(value) is str:
                whole.length += len(value)
            if not isinstance(value, dict | list):  # true for nearly all values
                whole.count += 1
                return value
        part = self.at(place)
        whole.count += part.count
        whole.length += part.length
        return part.value

    def _tagged(self, tag: str, parts: list[object]) -> _Value:
        read_tag = _TAGS.get(tag)
        if read_tag is not None:
            return _Value(read_tag(_said(parts[0] if parts else None)))
        if tag == "Promise":
            return self._chunks.promised(self.at(parts[0]).value)
        if tag == "Set":
            return self._list(parts)
        if tag == "Map":
            places = iter(parts)
            return self._dict((self._name(name), item) for name, item in zip(places, places))  # noqa: B905
        return _Value([tag, *parts])  # a type that JSON lacks, and that this client does not need

    def _name(self, place: object) -> str:
        name = self.at(place).value
        if isinstance(name, dict | list):
            raise TypeError("a name that is not a text")
        return str(name)


def _read_node(node: object, chunks: _Chunks) -> Node:
    if node is None:
        return None
    if not isinstance(node, dict):
        raise TypeError("not a node")
    if node.get("type") == "skip":
        return Skipped()
    if node.get("type") == "error":
        error = node.get("error")
        said = error.get("message") if isinstance(error, dict) else error
        return Failed(_status(node.get("status"), 500), _said(said))
    return Data(chunks.expanded(chunks.value(node["data"])))


def _said(value: object) -> str:
    return value if isinstance(value, str) else ""


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
        return None  # ["Date", ""] is JavaScript's Invalid Date


_TAGS: dict[str, Callable[[str], object]] = {"Date": _date, "BigInt": int, "RegExp": str}
