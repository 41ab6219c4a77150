"""Read files of prompts: JSON lines, CSV and plain lines.

For each prompt this yields the number of its line and a value, which `prompts.py` interprets. For a
line that cannot be read it yields an `InvalidLine`.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import BinaryIO, Literal

import msgspec

from h2o_client.batch.prompts import Row
from h2o_client.wire import json

Format = Literal["jsonl", "csv", "lines"]
FORMATS: tuple[Format, ...] = ("jsonl", "csv", "lines")

_SUFFIXES: dict[str, Format] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "lines",
}
_LONGEST_FIELD = 1 << 24  # characters of a CSV field; the default limit of Python is 131,072
_BOM = b"\xef\xbb\xbf"


class InvalidLine(msgspec.Struct, frozen=True):
    """A line without a valid prompt, and the reason."""

    line: int
    reason: str


Found = tuple[int, object] | InvalidLine


def read_prompts(
    file: BinaryIO, *, name: str = "", format: Format | None = None, column: str | None = None
) -> Iterator[Found]:
    """Yield the values in a file, with the numbers of their lines.

    name: the name of the file. If ``format`` is None, its suffix decides the format, or else the
        first line does.
    column: the column of a CSV file with the prompts, by default "prompt".
    """
    lines = iter(file)
    first, skipped = _first(lines)
    if first[:2] in (b"\xff\xfe", b"\xfe\xff"):
        yield InvalidLine(1, "The file is UTF-16. Save it as UTF-8.")
        return
    whole = chain([b"\n"] * skipped, [first] if first else [], lines)
    suffix = "." + name.rpartition(".")[2].lower()
    chosen = format or ("csv" if column is not None else _SUFFIXES.get(suffix) or _guess(first))
    if chosen == "csv":
        yield from _of_csv(whole, column or "prompt", tabs=suffix == ".tsv")
    elif chosen == "jsonl":
        yield from _of_json_lines(whole)
    else:
        yield from _of_lines(whole)


def _first(lines: Iterator[bytes]) -> tuple[bytes, int]:
    """Return the first line that is not blank, and the number of lines before it."""
    for number, line in enumerate(lines):
        stripped = line.removeprefix(_BOM) if number == 0 else line
        if stripped.strip():
            return stripped, number
    return b"", 0


def _guess(first: bytes) -> Format:
    try:
        value = json.read(first)
    except json.InvalidJson:
        return "jsonl" if first.lstrip().startswith(b'{"') else "lines"
    return "jsonl" if isinstance(value, str | dict) else "lines"


def _of_json_lines(lines: Iterable[bytes]) -> Iterator[Found]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            value = json.read(line)
        except json.InvalidJson as exc:
            yield InvalidLine(number, f"Not JSON: {exc}.")
            continue
        if isinstance(value, str | dict):
            yield number, value
        else:
            yield InvalidLine(number, "A line must be a JSON string or object.")


def _of_lines(lines: Iterable[bytes]) -> Iterator[Found]:
    for number, line in enumerate(lines, 1):
        try:
            found = line.decode().rstrip("\r\n")
        except UnicodeDecodeError as exc:
            yield InvalidLine(number, _not_utf_8(exc))
            continue
        if found.strip():
            yield number, found


def _of_csv(lines: Iterable[bytes], column: str, *, tabs: bool) -> Iterator[Found]:
    decoded = _Decoded(lines)
    csv.field_size_limit(max(csv.field_size_limit(), _LONGEST_FIELD))
    try:
        first = next(decoded, "")
        delimiter = "\t" if tabs else _delimiter(first)
        rows = csv.reader(chain([first], decoded), delimiter=delimiter, strict=True)
        names = [name.strip() for name in next(rows, [])]
        if column not in names:
            listed = ", ".join(names)
            reason = f"Unknown column {column!r}. Available: {listed}. Name one with --column."
            yield InvalidLine(1, reason)
            return
        while True:
            number = rows.line_num + 1
            row = next(rows, None)
            if row is None:
                return
            if any(field.strip() for field in row):
                yield _row(number, row, names, column)
    except csv.Error as exc:
        yield InvalidLine(decoded.number, f"Not CSV: {exc}.")
    except UnicodeDecodeError as exc:
        yield InvalidLine(decoded.number, _not_utf_8(exc))


def _row(number: int, row: list[str], names: list[str], column: str) -> Found:
    if len(row) != len(names):
        return InvalidLine(number, f"{len(row)} fields, but the header has {len(names)}.")
    values = dict(zip(names, row, strict=True))
    prompt, row_id = values.pop(column), values.pop("id", "")
    return number, Row(prompt, row_id or None, dict(values))


class _Decoded:
    """An iterator over decoded lines. ``number`` is that of the last one."""

    def __init__(self, lines: Iterable[bytes]) -> None:
        self.number = 0
        self._lines = iter(lines)

    def __iter__(self) -> _Decoded:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.number += 1
        return line.decode()


def _delimiter(header: str) -> str:
    # Excel writes semicolons in locales with a decimal comma.
    return ";" if ";" in header and "," not in header else ","


def _not_utf_8(exc: UnicodeDecodeError) -> str:
    return f"Not UTF-8 (byte {exc.start + 1} of the line). Save the file as UTF-8."
