"""superjson: values with types that JSON lacks."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone

import pytest

from h2o_client.wire import superjson
from h2o_client.wire.pagedata import UNDEFINED

MOMENT = datetime(2026, 11, 22, 10, 52, 27, 252000, tzinfo=timezone.utc)
ISO = "2026-11-22T10:52:27.252Z"

# A shortened response of chat-ui v0.10.0 to GET /api/v2/user/settings.
SETTINGS = (
    b'{"json":{"welcomeModalSeen":true,"welcomeModalSeenAt":"2026-11-22T10:52:27.252Z",'
    b'"customPrompts":{"org/model-v0.1":"Be brief"},"billingOrganization":null},"meta":{"values":'
    b'{"welcomeModalSeenAt":["Date"],"billingOrganization":["undefined"]}}}'
)


def test_a_recorded_document_has_dates_and_lacks_undefined_values() -> None:
    assert superjson.read(SETTINGS) == {
        "welcomeModalSeen": True,
        "welcomeModalSeenAt": MOMENT,
        "customPrompts": {"org/model-v0.1": "Be brief"},
    }


def test_a_recorded_document_is_written_unchanged() -> None:
    value = {
        "welcomeModalSeen": True,
        "welcomeModalSeenAt": MOMENT,
        "customPrompts": {"org/model-v0.1": "Be brief"},
        "billingOrganization": UNDEFINED,
    }
    assert superjson.write(value) == SETTINGS


@pytest.mark.parametrize(
    "value",
    [
        None,
        "text",
        0,
        [],
        {},
        MOMENT,
        [MOMENT, None, {"at": MOMENT}],
        {"a.b": {"c": [{"d.": MOMENT}]}},
        {"": {"": MOMENT}},
        {"umlaut ü": "\u2028", "none": None, "flag": False, "number": 1.5},
    ],
)
def test_what_is_written_reads_back(value: object) -> None:
    assert superjson.read(superjson.write(value)) == value


@pytest.mark.parametrize(
    ("value", "read"), [(UNDEFINED, None), ([UNDEFINED, 1], [None, 1]), ({"a": UNDEFINED}, {})]
)
def test_undefined_is_omitted_if_possible(value: object, read: object) -> None:
    assert superjson.read(superjson.write(value)) == read


def test_a_value_of_plain_json_has_no_meta() -> None:
    assert superjson.write(None) == b'{"json":null}'


def test_dates_are_written_in_utc() -> None:
    east = MOMENT.astimezone(timezone(timedelta(hours=2)))
    assert json.loads(superjson.write([east]))["json"] == [ISO]


@pytest.mark.parametrize(
    ("meta", "value", "read"),
    [
        ({"values": {r"a\.b": ["Date"]}}, {"a.b": ISO}, {"a.b": MOMENT}),
        ({"values": {r"a\b": ["Date"]}}, {r"a\b": ISO}, {r"a\b": MOMENT}),
        ({"values": {r"a\\.b": ["Date"]}, "v": 1}, {"a\\": {"b": ISO}}, {"a\\": {"b": MOMENT}}),
        (
            {"values": {r"a\.b.c\\\.d": ["Date"]}, "v": 1},
            {"a.b": {r"c\.d": ISO}},
            {"a.b": {r"c\.d": MOMENT}},
        ),
        ({"values": {r"\.\.": ["Date"]}}, {"..": ISO}, {"..": MOMENT}),
        ({"values": {r"a\..b": ["Date"]}}, {"a.": {"b": ISO}}, {"a.": {"b": MOMENT}}),
        ({"values": {".": ["Date"]}}, {"": {"": ISO}}, {"": {"": MOMENT}}),
        ({"values": [["custom", "X"], {"0": ["Date"]}]}, [ISO], [MOMENT]),
        ({"values": {"a": {"b": ["Date"]}}}, {"a": {"b": ISO}}, {"a": {"b": MOMENT}}),
        ({"values": {"a": ["set", {"1": ["bigint"]}]}}, {"a": [1, "2"]}, {"a": [1, 2]}),
        ({"values": {"a": ["number"]}}, {"a": "-Infinity"}, {"a": float("-inf")}),
        ({"values": {"a": [["custom", "ObjectId"]]}}, {"a": "6b02"}, {"a": "6b02"}),
        ({"referentialEqualities": {"a": ["b"]}}, {"a": [1], "b": [1]}, {"a": [1], "b": [1]}),
        ({}, [1], [1]),
        (None, [1], [1]),
    ],
)
def test_types_are_found_where_superjson_puts_them(
    meta: object, value: object, read: object
) -> None:
    assert superjson.read(json.dumps({"json": value, "meta": meta})) == read


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"no json",
        b"\xff",
        b"[]",
        b"{}",
        b'{"message":"Conversation not found."}',
        b'{"json":1,"meta":7}',
        b'{"json":1,"meta":{"values":7}}',
        b'{"json":1,"meta":{"values":[]}}',
        b'{"json":1,"meta":{"values":{"a":["Date"]}}}',
        b'{"json":{},"meta":{"values":{"a":["undefined"]}}}',
        b'{"json":[1],"meta":{"values":{"1":["undefined"]}}}',
        b'{"json":[1],"meta":{"values":{"x":["Date"]}}}',
        b'{"json":[1],"meta":{"values":{"0":["Date"]}}}',
        b'{"json":["never"],"meta":{"values":{"0":["Date"]}}}',
        b'{"json":' + b"[" * 100_000,
        b'{"json":1,"meta":{"values":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_002,
    ],
)
def test_invalid_superjson_is_a_value_error(document: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        superjson.read(document)
