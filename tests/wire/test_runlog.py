from __future__ import annotations

from itertools import pairwise

import pytest

from h2o_client.wire.events import Event, Final, Malformed, Notice, Status, Title, Token
from h2o_client.wire.overlap import Overlap
from h2o_client.wire.runlog import RunLog, read_running, write_end, write_update
from recordings import recording

A = write_update(1, b'{"type":"stream","token":"a"}')
B = write_update(2, b'{"type":"stream","token":"b"}')

# (bytes, events, the last number, the end). Each is fed whole, byte by byte, and cut anywhere.
CASES: dict[str, tuple[bytes, list[Event], int, str | None]] = {
    "nothing": (b"", [], 0, None),
    "two updates": (A + B, [Token("a"), Token("b")], 2, None),
    "an end": (A + write_end("completed"), [Token("a")], 1, "completed"),
    "nothing but an end": (write_end("gone"), [], 0, "gone"),
    "heartbeats": (b": heartbeat\n\n" + A + b": heartbeat\n\n", [Token("a")], 1, None),
    "heartbeats as events": (b"event: heartbeat\ndata: {}\n\n" + A, [Token("a")], 1, None),
    "an update twice": (A + A + B, [Token("a"), Token("b")], 2, None),
    "a number left out": (
        A + write_update(7, b'{"type":"title","title":"T"}'),
        [Token("a"), Title("T")],
        7,
        None,
    ),
    "an update that is not through": (A + B[:-1], [Token("a")], 1, None),
    "an event of another kind": (b'id: 1\nevent: x\ndata: {"a":1}\n\n' + B, [Token("b")], 2, None),
    "an end that says nothing": (b"event: end\ndata: ?\n\n", [], 0, ""),
    "data on two lines": (
        b'id: 1\nevent: update\ndata: {"type":"stream",\ndata: "token":"a"}\n\n',
        [Token("a")],
        1,
        None,
    ),
    "a character torn between two": (
        write_update(1, b'{"type":"stream","token":"\\ud83e"}')
        + write_update(2, b'{"type":"stream","token":"\\uddea"}'),
        [Token(""), Token("🧪")],
        2,
        None,
    ),
    "what ends with the padding's character": (
        write_update(1, b'{"type":"stream","token":"a\\u0000"}'),
        [Token("a\0")],
        1,
        None,
    ),
    "no JSON": (
        write_update(1, b"{") + B,
        [Malformed(0, "{", "not a JSON document")],
        1,
        None,
    ),
}


def read(data: bytes, *cuts: int) -> tuple[list[Event], int, str | None]:
    log, events, edges = RunLog(Overlap("")), list[Event](), [0, *cuts, len(data)]
    for start, stop in pairwise(edges):
        events += log.feed(data[start:stop])
    events += log.end()
    # Callers cannot know which line it was.
    found = [
        Malformed(0, each.excerpt, each.reason) if isinstance(each, Malformed) else each
        for each in events
    ]
    return found, log.last, log.end_status


@pytest.mark.parametrize("name", CASES)
def test_a_log_is_read_in_any_division(name: str) -> None:
    data, *expected = CASES[name]
    assert read(data) == tuple(expected)
    assert read(data, *range(1, len(data))) == tuple(expected)
    for cut in range(len(data)):
        assert read(data, cut) == tuple(expected)


def test_a_recorded_log_of_a_silent_model() -> None:
    log = RunLog(Overlap(""))
    body = recording("HEAD-resume-heartbeat").payload
    events = log.feed(body)
    assert events == [
        Status("started"),
        Title("🧪 Scripted title"),
        Token("You said: [[delay=4]]"),
        Final("You said: [[delay=4]]", interrupted=False),
        Status("finished"),
    ]
    assert (log.last, log.end_status, body.count(b": heartbeat")) == (5, "completed", 14)


def test_a_repeated_update_is_returned_once() -> None:
    log = RunLog(Overlap(""))
    assert log.feed(A + B[:-3]) == [Token("a")]
    log.again()
    assert log.feed(B + write_end("completed")) == [Token("b")]


def test_a_log_that_begins_again_instead_of_continuing_is_read() -> None:
    log = RunLog(Overlap(""))
    log.feed(A)
    log.again()
    assert log.feed(A + B) == [Token("b")]


def test_an_endless_line_is_an_error() -> None:
    log = RunLog(Overlap(""))
    log.feed(b"data: ")
    found: list[Event] = []
    for _ in range(20):
        found += log.feed(b"x" * (1 << 20))
    assert [type(each) for each in found] == [Malformed]


def test_an_event_of_very_many_lines_is_read_in_linear_time() -> None:
    # If it were copied for each of its lines, it would take minutes.
    log = RunLog(Overlap(""))
    assert log.feed(b"event: update\n" + b"data: \n" * 300_000 + b'data: {"type":"x"}\n') == []
    assert [type(each) for each in log.feed(b"\n")] == [Notice]


@pytest.mark.parametrize("number", [b"9" * 5000, b"1" * 16])
def test_an_impossible_number_is_ignored(number: bytes) -> None:
    log = RunLog(Overlap(""))
    assert log.feed(b"id: " + number + b"\n" + A.partition(b"\n")[2]) == [Token("a")]
    assert log.last == 0


@pytest.mark.parametrize(
    ("line", "running"),
    [
        (b"event: sync", None),
        (b"", None),
        (b": heartbeat", None),
        (b'data: {"running":[],"ended":[]}', []),
        (b'data: {"running":[{"conversationId":"c","title":"T"}]}', [("c", "T")]),
        (b'data: {"running":[{"conversationId":"c"},{},5]}', [("c", "")]),
        (b"data: {}", None),
        (b"data: []", None),
    ],
)
def test_the_list_of_running_answers_is_read(
    line: bytes, running: list[tuple[str, str]] | None
) -> None:
    assert read_running(line) == running
