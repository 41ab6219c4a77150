from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from h2o_client.wire.events import (
    Elicitation,
    Event,
    Failure,
    File,
    Final,
    Notice,
    Reasoning,
    Route,
    Source,
    Status,
    Title,
    Token,
    Tool,
    WebSearch,
)
from h2o_client.wire.updates import read, write

CALL: dict[str, object] = {
    "type": "tool",
    "subtype": "call",
    "uuid": "u",
    "call": {"name": "echo", "parameters": {}},
}
RESULT: dict[str, object] = {
    "type": "tool",
    "subtype": "result",
    "result": {"call": {"name": "echo"}},
}
ETA: dict[str, object] = {"type": "tool", "subtype": "eta", "uuid": "u", "eta": 10}
ROUTER = {"type": "routerMetadata", "route": "", "model": "", "provider": "scripted"}
ELICITATION = {
    "type": "elicitation",
    "subtype": "request",
    "request": {
        "server": "mock",
        "mode": "form",
        "message": "Sure?",
        "fields": [{"kind": "boolean", "name": "sure"}, 5],
        "elicitationId": "e1",
    },
}

# (a line, its event)
READ: dict[str, tuple[bytes, Event]] = {
    "a token": (b'{"type":"stream","token":"Hello "}', Token("Hello ")),
    "a padded token": (b'{"type":"stream","token":"a ' + b"\\u0000" * 14 + b'"}', Token("a ")),
    "nothing but padding": (b'{"type":"stream","token":"\\u0000\\u0000"}', Token("")),
    "padding in front stays": (b'{"type":"stream","token":"\\u0000a\\u0000"}', Token("\0a")),
    "no token": (b'{"type":"stream"}', Token("")),
    "the type behind": (b'{"token":"a","type":"stream"}', Token("a")),
    "unknown fields": (b'{"type":"stream","token":"a","x":{"y":[]}}', Token("a")),
    "separators inside": (
        '{"type":"stream","token":"a\u2028\u2029\x85b"}'.encode(),
        Token("a\u2028\u2029\x85b"),
    ),
    "spaces in front": (b" " * 4096 + b'{"type":"title","title":"T"}', Title("T")),
    "a carriage return behind": (b'{"type":"title","title":"T"}\r', Title("T")),
    "the final answer": (b'{"type":"finalAnswer","text":"Hi"}', Final("Hi")),
    "an interrupted answer": (
        b'{"type":"finalAnswer","text":"Hi","interrupted":true}',
        Final("Hi", interrupted=True),
    ),
    "an empty answer": (b'{"type":"finalAnswer","text":""}', Final("")),
    "an answer that leaves the text to the tokens": (b'{"type":"finalAnswer"}', Final(None)),
    "an answer with null as text": (b'{"type":"finalAnswer","text":null}', Final(None)),
    "a status": (b'{"type":"status","status":"started"}', Status("started")),
    "a status with words": (b'{"type":"status","status":"x","message":"m"}', Status("x", "m")),
    "a status with null": (b'{"type":"status","status":"x","message":null}', Status("x")),
    "a status of nothing": (b'{"type":"status"}', Status("")),
    "an error": (
        b'{"type":"status","status":"error","message":"429 scripted","statusCode":429}',
        Failure("429 scripted", status=429),
    ),
    "an error without a code": (
        b'{"type":"status","status":"error","message":"read ECONNRESET"}',
        Failure("read ECONNRESET"),
    ),
    "an error without words": (b'{"type":"status","status":"error"}', Failure("no reason given")),
    "a title": (b'{"type":"title","title":"T"}', Title("T")),
    "a title of v0.7": (b'{"type":"status","status":"title","message":"T"}', Title("T")),
    "a web search of v0.7": (
        b'{"type":"webSearch","messageType":"update","message":"Searching Google","args":["x"]}',
        WebSearch("update", "Searching Google"),
    ),
    "a web search of v0.9": (
        b'{"type":"webSearch","subtype":"error","message":"An error occurred"}',
        WebSearch("error", "An error occurred"),
    ),
    "a web search's end": (b'{"type":"webSearch","subtype":"finished"}', WebSearch("finished")),
    "a web search's sources": (
        b'{"type":"webSearch","subtype":"sources","sources":'
        b'[{"title":"Cats","link":"https://c"},{},5,{"link":7}]}',
        WebSearch("sources", "", (Source("Cats", "https://c"), Source("", ""), Source("", "7"))),
    ),
    "a web search of nothing": (b'{"type":"webSearch","sources":"no list"}', WebSearch("")),
    "a tool's call": (json.dumps(CALL).encode(), Tool("call", "echo", CALL)),
    "a tool's result": (json.dumps(RESULT).encode(), Tool("result", "echo", RESULT)),
    "a tool's time": (json.dumps(ETA).encode(), Tool("eta", "", ETA)),
    "a tool by its name": (
        b'{"type":"tool","name":"n","call":5,"result":5}',
        Tool("", "n", {"type": "tool", "name": "n", "call": 5, "result": 5}),
    ),
    "a redirect": (b'{"type":"redirect","location":"/login"}', Failure("/login", "redirect")),
    "a redirect to nowhere": (b'{"type":"redirect"}', Failure("", "redirect")),
    "an error of the model server": (
        b'{"error":"overloaded","error_type":"o"}',
        Failure("overloaded", "o"),
    ),
    "an error as an object": (
        b'{"error":{"message":"too long","type":"t"}}',
        Failure("too long", "t"),
    ),
    "an error with a type that is none": (b'{"error":"x","error_type":[]}', Failure("x")),
    "a final answer's sources": (
        b'{"type":"finalAnswer","text":"x","webSources":[{"uri":"https://u","title":"U"}]}',
        Final("x", sources=(Source("U", "https://u"),)),
    ),
    "a piece of reasoning": (
        b'{"type":"reasoning","subtype":"stream","token":"hm\\u0000\\u0000"}',
        Reasoning("hm"),
    ),
    "how reasoning goes": (
        b'{"type":"reasoning","subtype":"status","status":"Thinking..."}',
        Reasoning("Thinking..."),
    ),
    "a file": (
        b'{"type":"file","name":"a.png","sha":"1123","mime":"image/png"}',
        File("a.png", "1123", "image/png"),
    ),
    "router metadata": (json.dumps(ROUTER).encode(), Route(provider="scripted")),
    "an elicitation": (
        json.dumps(ELICITATION).encode(),
        Elicitation(
            id="e1",
            state="request",
            message="Sure?",
            mode="form",
            server="mock",
            fields=({"kind": "boolean", "name": "sure"},),
        ),
    ),
    "an elicitation by a page": (
        b'{"type":"elicitation","subtype":"request",'
        b'"request":{"elicitationId":"e2","mode":"url","url":"https://x/y","fields":5}}',
        Elicitation(id="e2", state="request", mode="url", url="https://x/y"),
    ),
    "an elicitation that was answered": (
        b'{"type":"elicitation","subtype":"resolved","elicitationId":"e1","action":"accept"}',
        Elicitation(id="e1", state="resolved"),
    ),
    # Updates without a known type.
    "an elicitation without an id": (
        b'{"type":"elicitation","request":{}}',
        Notice({"type": "elicitation", "request": {}}),
    ),
    "a type to come": (b'{"type":"hologram","x":1}', Notice({"type": "hologram", "x": 1})),
    "a type that is no text": (b'{"type":5}', Notice({"type": 5})),
    "no type": (b'{"a":1}', Notice({"a": 1})),
    "an empty error": (b'{"error":""}', Notice({"error": ""})),
    "a list": (b"[1]", Notice([1])),
    "a text": (b'"x"', Notice("x")),
    "null": (b"null", Notice(None)),
    # Refused by msgspec, accepted by json.
    "half a surrogate pair": (b'{"type":"stream","token":"\\ud83e\\u0000"}', Token("\ud83e")),
    "a token that is a number": (
        b'{"type":"stream","token":5}',
        Notice({"type": "stream", "token": 5}),
    ),
    "a half in the answer": (b'{"type":"finalAnswer","text":"\\ud83e"}', Final("\ud83e")),
    "interrupted as null": (b'{"type":"finalAnswer","text":"a","interrupted":null}', Final("a")),
    "interrupted as a number": (
        b'{"type":"finalAnswer","text":"a","interrupted":1}',
        Final("a", interrupted=True),
    ),
    "an answer that is a number": (
        b'{"type":"finalAnswer","text":5}',
        Notice({"type": "finalAnswer", "text": 5}),
    ),
    "a code that is a text": (
        b'{"type":"status","status":"error","message":"m","statusCode":"429"}',
        Failure("m"),
    ),
    "a half in an error": (
        b'{"type":"status","status":"error","message":"\\ud83e","statusCode":500}',
        Failure("\ud83e", status=500),
    ),
    "an error with no words and no code": (
        b'{"type":"status","status":"error","message":0,"statusCode":"x"}',
        Failure("no reason given"),
    ),
    "a status that is a number": (
        b'{"type":"status","status":5}',
        Notice({"type": "status", "status": 5}),
    ),
    "a half in a title": (b'{"type":"title","title":"\\ud83e"}', Title("\ud83e")),
    "a title that is a number": (
        b'{"type":"title","title":5}',
        Notice({"type": "title", "title": 5}),
    ),
}


@pytest.mark.parametrize(("line", "event"), READ.values(), ids=READ)
def test_a_line_is_read_as_an_event(line: bytes, event: Event) -> None:
    assert read(line) == event


def test_a_value_that_is_not_a_number_is_kept_unchanged() -> None:
    event = read(b'{"type":"hologram","x":NaN}')
    assert isinstance(event, Notice)
    assert repr(event.raw) == "{'type': 'hologram', 'x': nan}"


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"   ",
        b"{",
        b'{"type":"stream","token":"a',
        b'{"type":"stream","token":"a"}{',
        b'{"type":"stream","token":"\xff"}',
        b"<html>",
        b"[" * 100_000,
        b'{"type":"stream","token":' + b"[" * 100_000,
        b'{"type":"stream","x":' + b"[" * 100_000,
        b'{"type":"hologram","x":' + b'{"a":' * 100_000,
    ],
    ids=lambda line: repr(line[:30]),
)
def test_invalid_json_is_a_value_error_or_a_recursion_error(line: bytes) -> None:
    with pytest.raises((ValueError, RecursionError)):
        read(line)


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (Token("Hi "), b'{"type":"stream","token":"Hi ' + b"\\u0000" * 13 + b'"}\n'),
        (Token("a" * 17), b'{"type":"stream","token":"' + b"a" * 17 + b'"}\n'),
        (Final("Hi"), b'{"type":"finalAnswer","text":"Hi","interrupted":false}\n'),
        (Final(None), b'{"type":"finalAnswer","text":"","interrupted":false}\n'),
        (Title("T"), b'{"type":"title","title":"T"}\n'),
        (Status("started"), b'{"type":"status","status":"started"}\n'),
        (Failure("m"), b'{"type":"status","status":"error","message":"m"}\n'),
        (
            Failure("m", status=429),
            b'{"type":"status","status":"error","message":"m","statusCode":429}\n',
        ),
    ],
)
def test_an_event_is_written_like_in_v0_10(
    event: Token | Final | Failure | Title | Status, line: bytes
) -> None:
    assert write(event) == line


@given(
    st.one_of(
        st.builds(Token, st.text().map(lambda text: text.rstrip("\0"))),
        st.builds(Final, st.text(), interrupted=st.booleans()),
        st.builds(Failure, st.text(min_size=1), status=st.none() | st.integers(400, 599)),
        st.builds(Title, st.text()),
        st.builds(Status, st.sampled_from(["started", "finished", "keepAlive", ""]), st.text()),
    )
)
def test_what_is_written_can_be_read(event: Token | Final | Failure | Title | Status) -> None:
    line = write(event)
    assert line.endswith(b"\n")
    assert b"\n" not in line[:-1]
    assert read(line[:-1]) == event
