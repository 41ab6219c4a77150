"""Reads and writes superjson, the format of ``/api/v2`` in chat-ui v0.9.6 and later.

A document has a plain JSON value, and a list of the places in it whose types JSON lacks. An object
that occurs in several places is repeated in each, so the list of equal places is not needed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from h2o_client.wire.checkpoint import checked
from h2o_client.wire.json import convert
from h2o_client.wire.json import read as read_json
from h2o_client.wire.pagedata import UNDEFINED, write_date


def read(document: bytes | str) -> object:
    """The value of ``{"json": ..., "meta": ...}``. Raises ValueError for other documents.

    Dates become aware datetimes. An undefined entry of an object is left out; in a list, and as the
    whole value, undefined is None. Other types (ObjectId, Set, ...) keep their plain JSON value.
    """
    try:
        whole = read_json(document)
        if not isinstance(whole, dict) or "json" not in whole:
            raise ValueError("not superjson")
        meta = whole.get("meta") or {}
        root = [whole["json"]]
        _change(root, "0", meta.get("values"), escaped=bool(meta.get("v")))
        return root[0]
    except (AttributeError, LookupError, TypeError) as exc:
        raise ValueError("superjson that refers to nothing") from exc
    except RecursionError as exc:
        raise ValueError("superjson nested too deeply") from exc


def write(value: object) -> bytes:
    """The document of a value, as v0.10.0 writes it.

    The value consists of dicts, lists, texts, numbers, bools, None, datetimes and `UNDEFINED`.
    """
    types: dict[str, list[str]] = {}

    def plain(item: object, place: str) -> object:
        if isinstance(item, dict):
            return {str(name): plain(item[name], f"{place}.{_escaped(name)}") for name in item}
        if isinstance(item, list | tuple):
            return [plain(entry, f"{place}.{index}") for index, entry in enumerate(item)]
        if item is UNDEFINED:
            types[place[1:]] = ["undefined"]
            return None
        if isinstance(item, datetime):
            types[place[1:]] = ["Date"]
            return write_date(item)
        return item

    document: dict[str, object] = {"json": plain(value, "")}
    if types:
        inside = isinstance(value, dict | list | tuple)  # otherwise there is no path to the value
        document["meta"] = {"values": types if inside else types[""]}
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def _change(holder: Any, step: str, tree: Any, *, escaped: bool) -> None:
    """Convert the value ``holder[step]``, and those inside it, to the types in ``tree``.

    A tree is [type], [type, children], or the children alone, a dict from path to tree. The
    innermost values are converted first.
    """
    key = _key(holder, step)
    below = (tree[1] if len(tree) > 1 else {}) if isinstance(tree, list) else tree or {}
    for path, subtree in checked(below.items()):
        inner = holder[key]
        *way, last = _parts(path, escaped=escaped)
        for name in way:
            inner = inner[_key(inner, name)]
        _change(inner, last, subtree, escaped=escaped)
    kind = tree[0] if isinstance(tree, list) else None
    if kind == "undefined" and isinstance(holder, dict):
        del holder[key]
    elif isinstance(kind, str) and kind in _READERS:
        holder[key] = _READERS[kind](holder[key])


def _key(holder: object, step: str) -> int | str:
    return int(step) if isinstance(holder, list) else step


def _read_date(written: object) -> datetime:
    return convert(written, datetime)


_READERS: Mapping[str, Callable[[Any], object]] = {
    "Date": _read_date,
    "undefined": lambda written: None,
    "number": float,  # "NaN", "Infinity", "-0"
    "bigint": int,
}


_DEEPEST = 2000  # names in one path; no JSON document is nested so deeply


def _parts(path: str, *, escaped: bool) -> list[str]:
    """The names in a path.

    Dots in a name are escaped. Backslashes are escaped only by superjson 2.2.3 and later ("v": 1).
    """
    pieces = path.split(".", _DEEPEST)
    if "\\" not in path:
        return pieces
    parts: list[list[str]] = [[]]
    for piece in pieces:
        parts[-1].append(piece)
        backslashes = len(piece) - len(piece.rstrip("\\"))
        if not backslashes or (escaped and not backslashes % 2):
            parts.append([])
    return [_unescaped(".".join(part), escaped=escaped) for part in parts if part]


def _unescaped(name: str, *, escaped: bool) -> str:
    pieces = name.split("\\\\") if escaped else [name]
    return "\\".join(piece.replace("\\.", ".") for piece in pieces)


def _escaped(name: object) -> str:
    return str(name).replace(".", r"\.")
