from __future__ import annotations

import json
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from h2o_client.wire.events import Event, Failure, Final, Notice, Token
from h2o_client.wire.sse import field
from h2o_client.wire.tgi import failure, read, read_whole, write_failure, write_token

# (data of an event, its value)
READ: dict[str, tuple[bytes, tuple[Event, ...]]] = {
    "a token": (
        b'{"token":{"id":110,"text":"Hi","logprob":-0.5,"special":false},'
        b'"generated_text":null,"details":null}',
        (Token("Hi", id=110, logprob=-0.5),),
    ),
    "no field but the text": (b'{"token":{"text":"Hi"}}', (Token("Hi"),)),
    "an empty token": (b'{"token":{"id":1}}', (Token("", id=1),)),
    "a special token": (
        b'{"token":{"text":"</s>","special":true},"generated_text":null}',
        (Token("</s>", special=True),),
    ),
    "unknown fields": (b'{"index":0,"token":{"text":"a","x":[]},"y":{}}', (Token("a"),)),
    "separators inside": (
        '{"token":{"text":"a\u2028\u2029\x85b"}}'.encode(),
        (Token("a\u2028\u2029\x85b"),),
    ),
    "the last token": (
        b'{"token":{"text":"</s>","special":true},"generated_text":"the whole answer"}',
        (Token("</s>", special=True), Final()),
    ),
    "an empty answer": (b'{"token":{"text":"</s>"},"generated_text":""}', (Token("</s>"), Final())),
    "an end with no token": (b'{"token":null,"generated_text":"x"}', (Final(),)),
    "an end by length": (
        b'{"token":{"text":"a"},"generated_text":"a","details":{"finish_reason":"length"}}',
        (Token("a"), Final(finish_reason="length")),
    ),
    "an end by a stop sequence": (
        b'{"generated_text":"a","details":{"finish_reason":"eos_token","seed":null}}',
        (Final(),),
    ),
    "details without a reason": (b'{"generated_text":"a","details":{}}', (Final(),)),
    "an error": (
        b'{"error":"CUDA out of memory","error_type":"overloaded"}',
        (Failure("CUDA out of memory", "overloaded"),),
    ),
    "an error without a type": (b'{"error":"x"}', (Failure("x"),)),
    "an error beats a token": (b'{"token":{"text":"a"},"error":"x"}', (Failure("x"),)),
    "an error beats an end": (b'{"generated_text":"a","error":"x"}', (Failure("x"),)),
    "an empty error is none": (b'{"error":"","token":{"text":"a"}}', (Token("a"),)),
    "nothing known": (b'{"a":[1]}', (Notice({"a": [1]}),)),
    "an empty object": (b"{}", (Notice({}),)),
    # Refused by msgspec, accepted by json.
    "half a surrogate pair": (b'{"token":{"text":"\\ud83e"}}', (Token("\ud83e"),)),
    "a whole pair as escapes": (b'{"token":{"text":"\\ud83e\\uddea"}}', (Token("\U0001f9ea"),)),
    "not a number": (b'{"token":{"text":"a","logprob":NaN}}', (Token("a"),)),
    "special as null": (b'{"token":{"text":"a","special":null}}', (Token("a"),)),
    "special as a number": (b'{"token":{"text":"a","special":1}}', (Token("a", special=True),)),
    "an id as a fraction": (b'{"token":{"text":"a","id":1.5}}', (Token("a"),)),
    "details as a text, at the end": (
        b'{"token":{"text":"a"},"generated_text":"a","details":"x"}',
        (Token("a"), Final()),
    ),
    "an id as a text, at an end by length": (
        b'{"token":{"text":"a","id":"1"},"generated_text":"a",'
        b'"details":{"finish_reason":"length"}}',
        (Token("a"), Final(finish_reason="length")),
    ),
    "a token that is a text": (b'{"token":"a"}', (Notice({"token": "a"}),)),
    "a text that is a number": (b'{"token":{"text":5}}', (Notice({"token": {"text": 5}}),)),
    "an error as an object": (
        b'{"error":{"message":"too long","type":"invalid_request_error"}}',
        (Failure("too long", "invalid_request_error"),),
    ),
    "an error type that is a number": (b'{"error":"x","error_type":3}', (Failure("x"),)),
    "a list": (b'[{"token":{"text":"a"}}]', (Notice([{"token": {"text": "a"}}]),)),
    "a number": (b"5", (Notice(5),)),
    "null": (b"null", (Notice(None),)),
}

NO_JSON = [
    b"",
    b" ",
    b"{",
    b'{"token":{"text":"a',
    b'{"token":{"text":"a"}}}',
    b'{"token":{"text":"\xff"}}',
    b'{"token":{"text":"\xe2\x80"}}',
    b"data:{}",
    b"Internal Server Error",
    b"[" * 100_000,
    b'{"token":' + b"[" * 100_000,
    b'{"other":' + b'{"a":' * 100_000,
    b'{"token":{"text":"a","id":' + b"9" * 5000 + b',"special":null}}',
]


@pytest.mark.parametrize(("data", "events"), READ.values(), ids=READ)
def test_data_is_read_as_events(data: bytes, events: tuple[Event, ...]) -> None:
    assert read(data) == events


@pytest.mark.parametrize("data", NO_JSON, ids=lambda data: repr(data[:24]))
def test_invalid_json_is_a_value_error_or_a_recursion_error(data: bytes) -> None:
    with pytest.raises((ValueError, RecursionError)):
        read(data)


@pytest.mark.parametrize(
    ("document", "events"),
    [
        ([{"generated_text": "Hello"}], (Token("Hello"), Final())),
        ({"generated_text": "Hello"}, (Token("Hello"), Final())),
        ({"generated_text": ""}, (Token(""), Final())),
        ([{"error": "overloaded", "error_type": "o"}], (Failure("overloaded", "o"),)),
        ({"error": {"message": "m", "type": "t"}}, (Failure("m", "t"),)),
        ([{"generated_text": None}], (Notice({"generated_text": None}),)),
        ([{"generated_text": 5}], (Final(),)),
        ([], (Notice([]),)),
        ([{"generated_text": "a"}, {"generated_text": "b"}],
         (Notice([{"generated_text": "a"}, {"generated_text": "b"}]),)),
        ("a text", (Notice("a text"),)),
    ],
)  # fmt: skip
def test_an_answer_that_was_not_streamed_is_one_token_and_the_end(
    document: object, events: tuple[Event, ...]
) -> None:
    assert read_whole(document) == events


@pytest.mark.parametrize(
    ("error", "error_type", "event"),
    [
        ("x", "t", Failure("x", "t")),
        ("x", None, Failure("x")),
        ("x", 5, Failure("x")),
        ({"message": "m"}, "t", Failure("m", "t")),
        ({"message": "m", "type": None}, "t", Failure("m")),
        ({"message": None, "code": 5}, None, Failure("{'message': None, 'code': 5}")),
        ({"code": 5}, None, Failure("{'code': 5}")),
        (["a"], None, Failure("['a']")),
        (True, None, Failure("True")),
    ],
)
def test_an_error_in_any_shape_has_a_message(
    error: object, error_type: object, event: Failure
) -> None:
    assert failure(error, error_type) == event


def events_of(written: bytes) -> tuple[Event, ...]:
    line, *ends = written.split(b"\n")
    assert ends == [b"", b""]
    name, value = field(line)
    assert name == b"data"
    return read(value)


TOKENS = st.builds(
    Token,
    st.text(),
    st.booleans(),
    st.none() | st.integers(0, 2**53),
    st.none() | st.floats(allow_nan=False, allow_infinity=False),
)


@given(TOKENS)
def test_a_written_token_is_read(token: Token) -> None:
    assert events_of(write_token(token)) == (token,)


@given(TOKENS, st.text(), st.sampled_from(["stop", "length"]))
def test_a_written_last_token_is_read(
    token: Token, text: str, reason: Literal["stop", "length"]
) -> None:
    written = write_token(token, generated_text=text, finish_reason=reason)
    assert events_of(written) == (token, Final(finish_reason=reason))
    assert json.loads(field(written.split(b"\n")[0])[1])["generated_text"] == text


@given(st.text(min_size=1), st.none() | st.text())
def test_a_written_failure_is_read(message: str, error_type: str | None) -> None:
    assert events_of(write_failure(Failure(message, error_type))) == (Failure(message, error_type),)


def test_a_token_is_written_as_the_model_server_does() -> None:
    assert write_token(Token("Hi", id=110, logprob=-0.5)) == (
        b'data:{"token":{"text":"Hi","special":false,"id":110,"logprob":-0.5},'
        b'"generated_text":null,"details":null}\n\n'
    )
