"""wire/json.py: every version of msgspec refuses the same documents, with the same exception."""

from __future__ import annotations

from datetime import datetime, timezone

import msgspec
import pytest

from h2o_client.wire import json


class Stream(msgspec.Struct, tag="stream"):
    token: str = ""


STREAM: json.Shape[Stream] = json.Shape(Stream)

NOT_UTF_8 = {
    "in a value": b'{"type":"stream","token":"\xff"}',
    "in a value that is skipped": b'{"type":"stream","other":"\xff"}',
    "in a name": b'{"type":"stream","\xff":1}',
    "half a surrogate pair as bytes": b'{"type":"stream","token":"\xed\xa0\x80"}',
    "latin-1": '{"type":"stream","token":"é"}'.encode("latin-1"),
    "a character cut at the end": b'{"type":"stream","token":"\xc3',
    "UTF-16": '{"type":"stream","token":""}'.encode("utf-16"),
    "far inside": b'{"type":"stream","token":"' + b"x" * 200_000 + b'\xff"}',
}
NOT_JSON = {
    "nothing": b"",
    "a cut": b'{"type":"stream","tok',
    "a page": b"<html></html>",
    "nested too deeply": b"[" * 200_000,
    "a number too long": b"9" * 10_000,
}


@pytest.mark.parametrize("document", NOT_UTF_8.values(), ids=NOT_UTF_8)
def test_bytes_that_are_not_utf_8_are_refused_by_every_reader(document: bytes) -> None:
    for read in (STREAM.read, json.read, lambda bytes: json.read_as(bytes, Stream)):
        with pytest.raises(json.InvalidJson):
            read(document)
    with pytest.raises(json.InvalidJson):
        STREAM.read_lines([b'{"type":"stream","token":"a"}', document])


@pytest.mark.parametrize("document", NOT_JSON.values(), ids=NOT_JSON)
def test_invalid_json_is_refused_by_every_reader(document: bytes) -> None:
    for read in (STREAM.read, json.read, lambda bytes: json.read_as(bytes, Stream)):
        with pytest.raises(json.InvalidJson):
            read(document)


def test_characters_divided_between_pieces_of_a_long_document_are_read() -> None:
    for shift in range(4):
        text = "x" * shift + "🦙" * 50_000
        document = msgspec.json.encode({"type": "stream", "token": text})
        assert STREAM.read(document).token == text


def test_half_a_surrogate_pair_as_an_escape_is_read() -> None:
    document = rb'{"type":"stream","token":"\ud83e"}'
    assert json.read(document) == {"type": "stream", "token": "\ud83e"}
    with pytest.raises(json.InvalidJson):  # then the caller uses `read`
        STREAM.read(document)


def test_a_byte_order_mark_is_skipped() -> None:
    assert json.read(b"\xef\xbb\xbf[1]") == [1]


@pytest.mark.parametrize("document", [b"[]", b'{"type":"other"}', b'{"type":"stream","token":1}'])
def test_json_of_another_shape_is_a_different_error_than_invalid_json(document: bytes) -> None:
    for read in (STREAM.read, lambda bytes: json.read_as(bytes, Stream)):
        with pytest.raises(json.UnexpectedShape):
            read(document)


def test_a_value_that_cannot_be_converted_has_another_shape() -> None:
    moment = datetime(2026, 7, 1, tzinfo=timezone.utc)
    assert json.convert("2026-07-01T00:00:00Z", datetime) == moment
    with pytest.raises(json.UnexpectedShape):
        json.convert("yesterday", datetime)
