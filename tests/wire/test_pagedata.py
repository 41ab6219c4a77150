from __future__ import annotations

import json
import math
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from h2o_client.wire.checkpoint import checked_by
from h2o_client.wire.pagedata import (
    UNDEFINED,
    Data,
    Failed,
    Node,
    Redirected,
    Skipped,
    flatten,
    read,
    unflatten,
    write,
)
from recordings import recording

NOON = datetime(2023, 6, 1, 12, 0, 0, 123000, tzinfo=timezone.utc)


def page(*nodes: object, then: str = "") -> bytes:
    return json.dumps({"type": "data", "nodes": nodes}).encode() + b"\n" + then.encode()


def data(*values: object) -> dict[str, object]:
    return {"type": "data", "data": list(values), "uses": {}}


# (devalue's list, the value)
VALUES: dict[str, tuple[object, object]] = {
    "a text": (["x"], "x"),
    "an integer": ([5], 5),
    "a number as root, not a reference": ([-1], -1),
    "null": ([None], None),
    "a bool": ([True], True),
    "an object": ([{"a": 1, "b": 2}, "x", 7], {"a": "x", "b": 7}),
    "an array": ([[1, 2, 1], "x", "y"], ["x", "y", "x"]),
    "an empty object and an empty array": ([{"a": 1, "b": 2}, {}, []], {"a": {}, "b": []}),
    "undefined": ([{"a": -1}], {"a": UNDEFINED}),
    "a hole": ([[-2, 1], 5], [UNDEFINED, 5]),
    "infinities": ([[-4, -5]], [math.inf, -math.inf]),
    "undefined as root": (-1, UNDEFINED),
    "a date": ([["Date", "2023-06-01T12:00:00.123Z"]], NOON),
    "a date with an offset": ([["Date", "2023-06-01T14:00:00.123+02:00"]], NOON),
    "an invalid date": ([["Date", ""]], None),
    "a date of nothing": ([["Date"]], None),
    "a date that is a number": ([["Date", 5]], None),
    "a date beyond Python": ([["Date", "+012345-01-01T00:00:00.000Z"]], None),
    "a set": ([["Set", 1, 2], "x", "y"], ["x", "y"]),
    "a map": ([["Map", 1, 2, 3, 4], "k", "v", 7, 8], {"k": "v", "7": 8}),
    "a map with half a pair": ([["Map", 1, 2, 1], "k", "v"], {"k": "v"}),
    "a big integer": ([["BigInt", "123456789012345678901"]], 123456789012345678901),
    "a regular expression": ([["RegExp", "a+", "g"]], "a+"),
    "a promise that nobody kept": ([["Promise", 1], 7], None),
    "a type nobody needs": ([{"a": 1}, ["URL", "http://a"]], {"a": ["URL", "http://a"]}),
}

BROKEN: dict[str, bytes] = {
    "nothing": b"",
    "blanks": b" \n\n",
    "a page": b"<!doctype html>",
    "a cut": b'{"type":"data","nodes":[',
    "no UTF-8": b'{"type":"\xff"}',
    "a list": b"[]",
    "a text": b'"x"',
    "another type": b'{"type":"error"}',
    "no nodes": b'{"type":"data"}',
    "nodes that are no list": b'{"type":"data","nodes":{}}',
    "a node that is a number": page(5),
    "a node without data": page({"type": "data"}),
    "data that are a text": page({"type": "data", "data": "x"}),
    "data that are an object": page({"type": "data", "data": {}}),
    "data that are true": page({"type": "data", "data": True}),
    "data that are an unknown number": page({"type": "data", "data": 5}),
    "data of nothing": page(data()),
    "a reference beyond the end": page(data([1])),
    "a reference far below zero": page(data([-7])),
    "a reference that is a text": page(data({"a": "x"})),
    "a reference that is a fraction": page(data([1.5])),
    "a reference that is a bool": page(data([True], 5)),
    "a reference that is null": page(data([None])),
    "a reference in a set": page(data(["Set", 9])),
    "a reference in a map": page(data(["Map", 9, 9])),
    "a set in itself": page(data(["Set", 0])),
    "a map in itself": page(data(["Map", 0, 0])),
    "a promise of nothing": page(data(["Promise"])),
    "a promise with a list as number": page(data(["Promise", 1], [])),
    "a promise that is kept by itself": page(
        data(["Promise", 1], 7), then='{"type":"chunk","id":7,"data":[["Promise",1],7]}'
    ),
    "a promise kept with nothing": page(
        data(["Promise", 1], 7), then='{"type":"chunk","id":7,"data":[]}'
    ),
    "a promise kept with a text": page(
        data(["Promise", 1], 7), then='{"type":"chunk","id":7,"data":"x"}'
    ),
    "a chunk whose number is a list": page(data([]), then='{"type":"chunk","id":[],"data":[1]}'),
    "a chunk that is cut": page(data([]), then='{"type":"chunk","id":1,"da'),
    "a big integer that is none": page(data(["BigInt", "x"])),
    "a big integer beyond all": page(data(["BigInt", "9" * 5000])),
    "lists in lists": b"[" * 100_000,
    "references in references": page(data(*([number + 1] for number in range(5000)), 5)),
}


@pytest.mark.parametrize(("values", "value"), VALUES.values(), ids=VALUES)
def test_a_list_is_read_as_a_value(values: object, value: object) -> None:
    assert unflatten(values) == value
    assert read(page({"type": "data", "data": values})) == [Data(value)]


def test_negative_zero_and_nan_are_read() -> None:
    found = unflatten([[-3, -6]])
    assert repr(found) == "[nan, -0.0]"


def test_shared_values_stay_shared() -> None:
    found = unflatten([[1, 1], {"a": 2}, 5])
    assert isinstance(found, list)
    assert found[0] is found[1]


def test_promises_of_one_chunk_share_its_value() -> None:
    later = '{"type":"chunk","id":7,"data":[{"a":1},5]}'
    found = read(page(data([1, 1, 2], ["Promise", 3], ["Promise", 3], 7), then=later))
    assert isinstance(found, list)
    assert isinstance(found[0], Data)
    assert found[0].value == [{"a": 5}] * 3
    assert isinstance(found[0].value, list)
    assert found[0].value[0] is found[0].value[1] is found[0].value[2]


def doubled(depth: int) -> list[object]:
    """A list of two lists, each of which is the same list of two lists, and so on."""
    return [*([number + 1] * 2 for number in range(depth)), "x"]


def promised(depth: int) -> bytes:
    """The same, of promises."""
    chunks = [
        {"type": "chunk", "id": number, "data": [[1, 1], ["Promise", 2], number + 1]}
        for number in range(depth)
    ]
    lines = [json.dumps(each) for each in chunks]
    return page(data(["Promise", 1], 0), then="\n".join(lines))


# Documents that are small as received, but large when expanded.
BOMBS: dict[str, bytes] = {
    "lists": page(data(*doubled(60))),
    "objects": page(data(*({"a": at + 1, "b": at + 1} for at in range(60)), "x")),
    "sets": page(data(*(["Set", at + 1, at + 1] for at in range(60)), "x")),
    "maps": page(data(*(["Map", 61, at + 1, 62, at + 1] for at in range(60)), 0, "k", "l")),
    "promises": promised(60),
    "nodes": page(*([data(*doubled(15))] * 3)),
    "text": page(data([1] * 3000, "x" * 10_000)),
    "names": page(data([1] * 3000, {"x" * 10_000: 2}, 5)),
}

CYCLES: dict[str, bytes] = {
    "a list": page(data([0])),
    "an object": page(data({"a": 0})),
    "both": page(data([1], {"b": 0})),
    "a list in a set": page(data([1], ["Set", 0])),
    "chunks": page(
        data(["Promise", 1], 7),
        then='{"type":"chunk","id":7,"data":[["Promise",1],8]}\n'
        '{"type":"chunk","id":8,"data":[["Promise",1],7]}',
    ),
}


@pytest.mark.parametrize("document", BOMBS.values(), ids=BOMBS)
def test_a_document_that_is_too_large_when_expanded_is_refused(document: bytes) -> None:
    with pytest.raises(ValueError, match="references expanded"):
        read(document)


@pytest.mark.parametrize("document", CYCLES.values(), ids=CYCLES)
def test_a_value_that_contains_itself_is_refused(document: bytes) -> None:
    with pytest.raises(ValueError, match="contains itself"):
        read(document)


def test_shared_values_below_the_limit_are_read() -> None:
    assert isinstance(read(page(data(*doubled(14)))), list)


def test_reading_a_document_can_be_ended() -> None:
    class OverError(Exception):
        pass

    def check() -> None:
        raise OverError

    with checked_by(check), pytest.raises(OverError):
        read(page(data([1] * 10, "x")))


@pytest.mark.parametrize("document", BROKEN.values(), ids=BROKEN)
def test_invalid_page_data_is_a_value_error(document: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - json's and our own
        read(document)


@pytest.mark.parametrize(
    ("node", "read_as"),
    [
        (None, None),
        ({"type": "skip"}, Skipped()),
        ({"type": "error", "error": {"message": "gone"}, "status": 404}, Failed(404, "gone")),
        ({"type": "error", "error": {"message": "x"}}, Failed(500, "x")),
        ({"type": "error", "error": "x", "status": None}, Failed(500, "x")),
        # These raised TypeError and OverflowError.
        ({"type": "error", "error": "x", "status": []}, Failed(500, "x")),
        ({"type": "error", "error": "x", "status": [1]}, Failed(500, "x")),
        ({"type": "error", "error": "x", "status": math.inf}, Failed(500, "x")),
        ({"type": "error", "error": "x", "status": "y"}, Failed(500, "x")),
    ],
    ids=repr,
)
def test_a_node_may_be_absent_skipped_or_failed(node: object, read_as: Node) -> None:
    assert read(page(node)) == [read_as]


@pytest.mark.parametrize(
    ("document", "redirected"),
    [
        (b'{"type":"redirect","location":"/login","status":307}', Redirected("/login", 307)),
        (b'{"type":"redirect","location":"/login"}', Redirected("/login", 302)),
        (b'{"type":"redirect"}', Redirected("", 302)),
        # These raised TypeError and OverflowError.
        (b'{"type":"redirect","location":"/","status":[1]}', Redirected("/", 302)),
        (b'{"type":"redirect","location":"/","status":1e999}', Redirected("/", 302)),
    ],
)
def test_a_page_may_be_a_redirect(document: bytes, redirected: Redirected) -> None:
    assert read(document) == redirected


def test_later_lines_resolve_the_promises() -> None:
    first = page(
        data({"a": 1, "b": 3, "c": 5}, ["Promise", 2], 1, ["Promise", 4], 2, ["Promise", 6], 3)
    )
    then = [
        b'{"type":"chunk","id":2,"data":[["Promise",1],4]}',
        b'{"type":"chunk","id":4,"data":[{"x":1},"y"]}',
        b'{"type":"chunk","id":1,"data":[[]]}',
        b'{"type":"chunk","id":3,"error":[{"message":1},"no"]}',  # broken
        b'{"type":"hologram"}',
        b"5",
    ]
    assert read(first + b"\n".join(then)) == [Data({"a": [], "b": {"x": "y"}, "c": None})]


def test_equal_values_are_written_once() -> None:
    written = write([Data({"a": "x", "b": ["x", 5, 5], "c": UNDEFINED, "d": NOON})])
    assert json.loads(written) == {
        "type": "data",
        "nodes": [
            data(
                {"a": 1, "b": 2, "c": -1, "d": 4}, "x", [1, 3, 3], 5,
                ["Date", "2023-06-01T12:00:00.123Z"],
            )
        ],
    }  # fmt: skip


def test_values_that_json_lacks_are_written_as_their_numbers() -> None:
    # NaN used to be written as NaN, which no browser reads; -0.0 became 0.0 beside a 0.0.
    values = flatten([0.0, -0.0, math.nan, math.inf, -math.inf, UNDEFINED])
    assert values == [[1, -6, -3, -4, -5, -1], 0.0]
    assert repr(unflatten(values)) == "[0.0, -0.0, nan, inf, -inf, UNSET]"
    assert flatten(UNDEFINED) == -1
    assert read(write([Data(UNDEFINED)])) == [Data(UNDEFINED)]


def test_true_and_one_are_distinct() -> None:
    found = unflatten(flatten([True, 1, 1.0, False, 0]))
    assert repr(found) == "[True, 1, 1.0, False, 0]"


def test_a_written_date_is_in_utc_and_whole_milliseconds() -> None:
    moment = NOON.astimezone(timezone(timedelta(hours=2))).replace(microsecond=123999)
    assert flatten(moment) == [["Date", "2023-06-01T12:00:00.123Z"]]


VALUE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False)
    | st.text()
    | st.just(UNDEFINED)
    | st.datetimes(datetime(1000, 1, 1), timezones=st.just(timezone.utc)).map(
        lambda moment: moment.replace(microsecond=moment.microsecond // 1000 * 1000, fold=0)
    ),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
NODES = st.lists(
    st.none()
    | st.just(Skipped())
    | st.builds(Failed, st.integers(400, 599), st.text())
    | st.builds(Data, VALUE),
    max_size=4,
)


@given(NODES)
def test_what_is_written_can_be_read(nodes: list[Node]) -> None:
    assert read(write(nodes)) == nodes
    assert repr(read(write(nodes))) == repr(nodes)


REFERENCE = st.integers(-8, 6)
BROKEN_VALUE = st.one_of(
    st.none(),
    st.integers(),
    st.floats(),
    st.text(max_size=3),
    st.lists(REFERENCE | st.none() | st.booleans(), max_size=4),
    st.dictionaries(st.text(max_size=2), REFERENCE, max_size=3),
    st.tuples(
        st.sampled_from(["Date", "Set", "Map", "Promise", "BigInt", "RegExp", "null", "Object"]),
        REFERENCE | st.text(max_size=2),
        REFERENCE,
    ),
)
LINE = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["data", "chunk", "redirect", "error", "skip"]),
        "nodes": st.lists(
            st.none() | st.fixed_dictionaries(
                {"type": st.sampled_from(["data", "error", "skip"])},
                optional={"data": st.lists(BROKEN_VALUE, max_size=6), "status": BROKEN_VALUE},
            ),
            max_size=3,
        ),
        "id": REFERENCE | st.lists(REFERENCE, max_size=1),
        "data": st.lists(BROKEN_VALUE, max_size=6),
        "status": BROKEN_VALUE,
        "location": BROKEN_VALUE,
    },
)  # fmt: skip


@given(st.binary() | st.lists(LINE, max_size=4))
def test_any_document_is_read_or_a_value_error(document: bytes | list[object]) -> None:
    if not isinstance(document, bytes):
        document = b"\n".join(json.dumps(line).encode() for line in document)
    try:
        found = read(document)
    except ValueError:
        return
    assert isinstance(found, list | Redirected)


def value_of(node: object) -> dict[str, object]:
    assert isinstance(node, Data)
    assert isinstance(node.value, dict)
    return node.value


def nodes_of(name: str) -> list[Node]:
    nodes = read(recording(name).payload)
    assert isinstance(nodes, list)
    return nodes


def test_the_real_front_page_of_v0_4_is_read() -> None:
    (layout,) = (value_of(node) for node in nodes_of("v0.4-get-root-data-json")[:1])
    assert layout["settings"] == {
        "shareConversationsWithModelAuthors": True,
        "ethicsModalAcceptedAt": None,
        "activeModel": "h2oai/h2ogpt-gm-oasst1-en-2048-falcon-40b-v1",
        "searchEnabled": False,
    }
    assert layout["user"] is UNDEFINED
    assert layout["requiresLogin"] is False


def test_a_real_conversation_of_v0_4_is_read() -> None:
    # ?x-sveltekit-invalidated=_1: the first node was not asked for.
    skipped, conversation = nodes_of("v0.4-conversation-data-page-only")
    assert skipped == Skipped()
    messages = value_of(conversation)["messages"]
    assert isinstance(messages, list)
    assert [message["from"] for message in messages] == ["user", "user", "assistant"]
    assert messages[0]["createdAt"] == datetime(2026, 11, 22, 11, 3, 20, 377000, timezone.utc)


def test_a_real_refusal_inside_a_200_is_read() -> None:
    # The conversation is another session's.
    _, failed = nodes_of("v0.4-conversation-data-other-session")
    assert isinstance(failed, Failed)
    assert failed.status == 403
    assert failed.message.startswith("You don't have access to this conversation.")


def test_a_real_web_search_of_v0_4_is_read() -> None:
    _, conversation = nodes_of("v0.4-conversation-data-with-search")
    searches = value_of(conversation)["searches"]
    assert isinstance(searches, dict)
    assert [step["type"] for step in searches["6b02cf240ac1f1225103d20c"]] == [
        *["update"] * 5,
        "result",
    ]


def test_real_promises_of_v0_9_4_are_resolved_by_the_second_line() -> None:
    payload = recording("v0.9.4-settings-read-back").payload
    assert b'"conversations":2' in payload
    assert b'["Promise",3]' in payload
    layout, *_ = nodes_of("v0.9.4-settings-read-back")
    assert value_of(layout)["conversations"] == []
    without_it = read(payload.split(b"\n")[0])
    assert isinstance(without_it, list)
    assert value_of(without_it[0])["conversations"] is None
