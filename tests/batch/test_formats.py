"""Reading files: values with their line numbers."""

from __future__ import annotations

import io

import pytest

from h2o_client.batch.formats import Format, Found, InvalidLine, read_prompts
from h2o_client.batch.prompts import Row


def read(
    data: bytes, name: str = "", format: Format | None = None, column: str | None = None
) -> list[Found]:
    return list(read_prompts(io.BytesIO(data), name=name, format=format, column=column))


@pytest.mark.parametrize(
    ("data", "name", "found"),
    [
        (b'"a"\n\n{"prompt": "b"}\n', "p.jsonl", [(1, "a"), (3, {"prompt": "b"})]),
        (b'"a"\r\n"b"', "p.ndjson", [(1, "a"), (2, "b")]),
        (b'\xef\xbb\xbf"a"\n', "p.jsonl", [(1, "a")]),
        ('"a\u2028b"\n'.encode(), "p.jsonl", [(1, "a\u2028b")]),
        (b"a\n\n  b\r\nc", "p.txt", [(1, "a"), (3, "  b"), (4, "c")]),
        (b'"quoted" he said\n', "p.txt", [(1, '"quoted" he said')]),
        (b"", "p.jsonl", []),
        (b"\n\n", "", []),
        (b'\n{"prompt": "a"}\n', "", [(2, {"prompt": "a"})]),
        (b'"a"\n', "", [(1, "a")]),
        (b"Hello\n5\n", "", [(1, "Hello"), (2, "5")]),
        (b"5\n", "", [(1, "5")]),
    ],
)
def test_lines_are_read_with_their_numbers(data: bytes, name: str, found: list[Found]) -> None:
    assert read(data, name) == found


@pytest.mark.parametrize(
    ("data", "name", "line", "why"),
    [
        (b'"a"\n{"prompt": \n', "p.jsonl", 2, "Not JSON"),
        (b"[1]\n", "p.jsonl", 1, "a JSON string or object"),
        (b'"\xff"\n', "p.jsonl", 1, "Not JSON"),
        (b"a\n\xe4\n", "p.txt", 2, "Not UTF-8 (byte 1"),
        (b"\xff\xfea\0", "p.txt", 1, "UTF-16"),
        (b"prompt\n\xe4\n", "p.csv", 2, "Not UTF-8"),
        (
            b"a,b\n1,2\n",
            "p.csv",
            1,
            "Unknown column 'prompt'. Available: a, b. Name one with --column.",
        ),
        (b"prompt,b\n1,2,3\n", "p.csv", 2, "3 fields, but the header has 2"),
        (b'prompt\n"a\n', "p.csv", 2, "Not CSV"),
        (b"", "p.csv", 1, "Unknown column"),
        (b'{"prompt": "a"\n', "", 1, "Not JSON"),
    ],
)
def test_an_invalid_line_is_reported_with_its_number(
    data: bytes, name: str, line: int, why: str
) -> None:
    [bad] = [each for each in read(data, name) if isinstance(each, InvalidLine)]
    assert bad.line == line
    assert why in bad.reason


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_the_other_columns_of_a_csv_row_are_copied(separator: str) -> None:
    text = 'id,question,model\n1,"What, ""then""?\nTell",Golf\n\n,Hi,\n'
    data = text.replace(",", separator).encode()
    name = "p.tsv" if separator == "\t" else "p.csv"
    question = f'What{separator} "then"?\nTell'
    assert read(data, name, column="question") == [
        (2, Row(question, "1", {"model": "Golf"})),
        (5, Row("Hi", None, {"model": ""})),
    ]


def test_a_csv_field_can_be_long() -> None:
    assert read(b"prompt\n" + b"x" * 200_000, "p.csv") == [(2, Row("x" * 200_000, None, {}))]


def test_the_format_can_be_given() -> None:
    assert read(b'"a"\n', "p.jsonl", format="lines") == [(1, '"a"')]
    assert read(b"prompt\na\n", "p.txt", format="csv") == [(2, Row("a", None, {}))]
