from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from h2o_client.wire.decoder import Decoder
from h2o_client.wire.events import (
    Event,
    Failure,
    Final,
    Malformed,
    Notice,
    Source,
    Status,
    Title,
    Token,
    Tool,
    WebSearch,
)
from h2o_client.wire.transcript import Transcript
from recordings import recording

BOM = b"\xef\xbb\xbf"
A = b'data:{"token":{"text":"a"}}\n\n'
END = b'data:{"token":{"text":"</s>","special":true},"generated_text":"a"}\n\n'
LAST = (Token("</s>", special=True), Final())
STARTED = b'{"type":"status","status":"started"}\n'
X = b'{"type":"stream","token":"x\\u0000"}\n'
FINAL = b'{"type":"finalAnswer","text":"x"}\n'
NOT_STREAMED = (Token("x"), Final())
NO_DOCUMENT = "not a JSON document"
NEITHER = "neither server-sent events nor JSON lines"


def half(name: str) -> bytes:
    return b'{"type":"stream","token":"\\u%b"}\n' % name.encode()


# (bytes, events). Each is fed whole, byte by byte, and cut at every place.
CASES: dict[str, tuple[bytes, tuple[Event, ...]]] = {
    "nothing": (b"", ()),
    "blanks": (b" \r\n\n\t", ()),
    # Server-sent events.
    "sse": (A + END, (Token("a"), *LAST)),
    "sse with a space": (A.replace(b":{", b": {") + END, (Token("a"), *LAST)),
    "sse with crlf": ((A + END).replace(b"\n", b"\r\n"), (Token("a"), *LAST)),
    "sse with cr": ((A + END).replace(b"\n", b"\r"), (Token("a"), *LAST)),
    "sse without blank lines": ((A + A).replace(b"\n\n", b"\n"), (Token("a"), Token("a"))),
    "sse that begins with a comment": (b":\n\n: hi\n" + A, (Token("a"),)),
    "sse that begins with an event": (b"event: update\n" + A, (Token("a"),)),
    "sse that begins with an id": (b"id: 1\n" + A, (Token("a"),)),
    "sse that begins with retry": (b"retry: 3000\n\n" + A, (Token("a"),)),
    "sse behind a byte order mark": (BOM + A, (Token("a"),)),
    "sse behind blank lines": (b"\n\r\n \n" + A, (Token("a"),)),
    "sse behind spaces": (b"  " + A, (Token("a"),)),
    "sse fields that say nothing": (
        b"data:\ndata\ndata: \ndatabase:x\nx:y\nid: 7\n:c\n" + A,
        (Token("a"),),
    ),
    "sse that says it is done": (A + b"data:[DONE]\n\ndata: [DONE]\n\n", (Token("a"),)),
    "sse whose last newline is missing": (A + END.rstrip(b"\n"), (Token("a"), *LAST)),
    "sse cut in a document": (A + b'data:{"token":{"te', (Token("a"),)),
    "sse cut in a name": (A + b"dat", (Token("a"),)),
    "sse cut in done": (A + b"data: [DON", (Token("a"),)),
    "sse with a document on three lines": (
        b'data: {"token":\ndata: {"text":\ndata: "a"}}\n\n' + A,
        (Token("a"), Token("a")),
    ),
    "sse with a document on three lines and no end": (
        b'data: {"token":\ndata: {"text":\ndata: "a"}}\n',
        (Token("a"),),
    ),
    "sse with a document on two lines and no newline": (
        b'data: {"token":\ndata: {"text":"a"}}',
        (Token("a"),),
    ),
    "sse with a document on lines and a comment": (
        b'data: {"token":\n: c\ndata: {"text":"a"}}\n\n',
        (Token("a"),),
    ),
    "sse cut in a document on lines": (A + b'data: {"token":\ndata: {"tex', (Token("a"),)),
    "sse cut behind a document on lines": (
        b'data: {"token":\ndata: {"text":"a"}}\n: c',
        (Token("a"),),
    ),
    "sse with an error": (
        A + b'data:{"error":"CUDA","error_type":"o"}\n\n',
        (Token("a"), Failure("CUDA", "o")),
    ),
    "sse of something else": (b'data:{"x":1}\n\ndata:5\n\n', (Notice({"x": 1}), Notice(5))),
    "sse with a line that is none": (
        A + b"data:oops\n\n" + A,
        (Token("a"), Malformed(4, "oops", NO_DOCUMENT)),
    ),
    "sse that ends in a line that is none": (
        A + b"data:oops\n",
        (Token("a"), Malformed(4, "oops", NO_DOCUMENT)),
    ),
    "sse with bytes that are no UTF-8": (
        b'data:{"token":{"text":"\xff"}}\n\n' + A,
        (Malformed(2, '{"token":{"text":"\ufffd"}}', NO_DOCUMENT),),
    ),
    "sse with separators inside": (
        'data:{"token":{"text":"\u2028\u2029\x85"}}\n\n'.encode(),
        (Token("\u2028\u2029\x85"),),
    ),
    # JSON lines.
    "lines": (STARTED + X + FINAL, (Status("started"), Token("x"), Final("x"))),
    "lines with crlf": (X.replace(b"\n", b"\r\n") + FINAL, (Token("x"), Final("x"))),
    "lines behind a byte order mark": (BOM + X, (Token("x"),)),
    "lines behind blank lines": (b"\n \r\n\n" + X, (Token("x"),)),
    "lines behind a byte order mark and blanks": (BOM + b" \n" + X, (Token("x"),)),
    "lines with blank ones": (X + b"\n \r\n" + X, (Token("x"), Token("x"))),
    "lines with padding behind the answer": (FINAL + b" " * 99, (Final("x"),)),
    "lines with an update behind the padding": (
        FINAL + b" " * 99 + b'{"type":"title","title":"T"}\n',
        (Final("x"), Title("T")),
    ),
    "lines whose last newline is missing": (X + FINAL[:-1], (Token("x"), Final("x"))),
    "lines cut in a document": (X + FINAL[:-3], (Token("x"),)),
    "lines cut in a character": (X + b'{"type":"stream","token":"\xe2\x80', (Token("x"),)),
    "lines of unknown types": (
        b'{"type":"hologram"}\n{"x":1}\n',
        (Notice({"type": "hologram"}), Notice({"x": 1})),
    ),
    "lines with a line that is none": (
        X + b"  oops \n" + X,
        (Token("x"), Malformed(2, "oops", NO_DOCUMENT)),
    ),
    "lines with bytes that are no UTF-8": (
        X + b'{"type":"title","title":"\xff"}\n',
        (Token("x"), Malformed(2, '{"type":"title","title":"\ufffd"}', NO_DOCUMENT)),
    ),
    "lines with separators inside": (
        '{"type":"stream","token":"\u2028\u2029\x85\v\f\x7f"}\n'.encode()
        .replace(b"\v", b"\\u000b")
        .replace(b"\f", b"\\u000c"),
        (Token("\u2028\u2029\x85\v\f\x7f"),),
    ),
    "an error that comes as JSON": (
        b'{"error":"overloaded","error_type":"o"}',
        (Failure("overloaded", "o"),),
    ),
    "a redirect": (b'{"type":"redirect","location":"/l"}', (Failure("/l", "redirect"),)),
    # Answers that were not streamed.
    "a list": (b'[{"generated_text":"x"}]', NOT_STREAMED),
    "a list on lines": (b'[\n {"generated_text":\n "x"}\n]\n', NOT_STREAMED),
    "a list behind a byte order mark": (BOM + b' [{"generated_text":"x"}]', NOT_STREAMED),
    "a list that is cut": (b'[{"generated_text":"x"', ()),
    "a list of an error": (b'[{"error":"x"}]', (Failure("x"),)),
    "a list of nothing": (b"[]", (Notice([]),)),
    "an object": (b'{"generated_text":"x"}', NOT_STREAMED),
    "an object with a newline": (b'{"generated_text":"x"}\n', NOT_STREAMED),
    "an object that is cut": (b'{"generated_text":"x"', ()),
    "half a pair in a list": (
        b'[{"generated_text":"a\\ud83e"}]',
        (Token("a"), Token("\ufffd"), Final()),
    ),
    "half a pair in an object": (
        b'{"generated_text":"\\uddeaa"}\n',
        (Token("\ufffda"), Final()),
    ),
    # Surrogate pairs that were torn apart.
    "a torn pair": (half("d83e") + half("uddea"[1:]), (Token(""), Token("\U0001f9ea"))),
    "a pair torn around an empty token": (
        half("d83e") + b'{"type":"stream","token":""}\n' + half("ddea"),
        (Token(""), Token(""), Token("\U0001f9ea")),
    ),
    "a pair torn around another event": (
        half("d83e") + STARTED + half("ddea"),
        (Token(""), Status("started"), Token("\U0001f9ea")),
    ),
    "a torn pair in the middle of words": (
        b'{"type":"stream","token":"a\\ud83e"}\n{"type":"stream","token":"\\uddeab"}\n',
        (Token("a"), Token("\U0001f9eab")),
    ),
    "a first half and then none": (half("d83e") + X, (Token(""), Token("\ufffdx"))),
    "two first halves": (
        half("d83e") + half("d83e") + half("ddea"),
        (Token(""), Token("\ufffd"), Token("\U0001f9ea")),
    ),
    "a second half alone": (half("ddea") + X, (Token("\ufffd"), Token("x"))),
    "a first half at the end": (half("d83e"), (Token(""), Token("\ufffd"))),
    "a first half before the answer": (
        half("d83e") + FINAL,
        (Token(""), Token("\ufffd"), Final("x")),
    ),
    "a first half before an error": (
        half("d83e") + b'{"type":"status","status":"error","message":"m"}\n',
        (Token(""), Token("\ufffd"), Failure("m")),
    ),
    "a first half before a line that is none": (
        half("d83e") + b"oops\n",
        (Token(""), Malformed(2, "oops", NO_DOCUMENT)),
    ),
    "a half in an answer": (
        b'{"type":"finalAnswer","text":"a\\ud83e","interrupted":true}\n',
        (Final("a\ufffd", interrupted=True),),
    ),
    "a half in an error's words": (
        b'{"type":"status","status":"error","message":"\\ud83e","statusCode":500}\n',
        (Failure("\ufffd", status=500),),
    ),
    "a half in a title": (b'{"type":"title","title":"a\\ud83e b"}\n', (Title("a\ufffd b"),)),
    "halves as bytes are no UTF-8": (
        X + b'{"type":"stream","token":"\xed\xa0\xbe"}\n',
        (Token("x"), Malformed(2, '{"type":"stream","token":"\ufffd\ufffd\ufffd"}', NO_DOCUMENT)),
    ),
    "torn pairs of the model server": (
        b'data:{"token":{"text":"\\ud83e","id":1}}\n\ndata:{"token":{"text":"\\uddea","id":2}}\n\n',
        (Token(""), Token("\U0001f9ea")),
    ),
}

UNREADABLE = {
    "a page": b"<!doctype html>\n<html>",
    "a page behind blank lines": b"\n\n  <html>",
    "a page behind a byte order mark": BOM + b"<html>",
    "words": b"Internal Server Error",
    "words that begin like an event": b"dating back",
    "a number": b"5\n",
    "gzip": b"\x1f\x8b\x08\x00",
    "upper case": b"DATA: {}\n\n",
}


def decoded(pieces: Iterable[bytes]) -> tuple[Event, ...]:
    decoder = Decoder()
    events = [event for piece in pieces for event in decoder.feed(piece)]
    events += decoder.end()
    assert decoder.end() == []
    return tuple(events)


def bytewise(data: bytes) -> list[bytes]:
    return [data[place : place + 1] for place in range(len(data))]


@pytest.mark.parametrize(("data", "events"), CASES.values(), ids=CASES)
def test_bytes_are_decoded_in_one_piece_or_byte_by_byte(
    data: bytes, events: tuple[Event, ...]
) -> None:
    assert decoded([data]) == events
    assert decoded(bytewise(data)) == events


@pytest.mark.parametrize(("data", "events"), CASES.values(), ids=CASES)
def test_every_division_of_the_bytes_gives_the_same_events(
    data: bytes, events: tuple[Event, ...]
) -> None:
    for place in range(len(data) + 1):
        assert decoded([data[:place], b"", data[place:]]) == events


def test_nothing_follows_the_end() -> None:
    decoder = Decoder()
    assert decoder.feed(X + b'{"cut') == [Token("x")]
    assert decoder.end() == []
    assert decoder.feed(X + X) == []
    assert decoder.end() == []


@pytest.mark.parametrize("data", UNREADABLE.values(), ids=UNREADABLE)
def test_an_unknown_format_is_malformed_at_its_first_bytes(data: bytes) -> None:
    decoder = Decoder()
    (event,) = decoder.feed(data)
    assert isinstance(event, Malformed)
    assert (event.line, event.reason) == (1, NEITHER)
    assert data.decode("utf-8", "replace").endswith(event.excerpt)
    assert decoder.feed(A) == []
    assert decoder.end() == []


@pytest.mark.parametrize("data", UNREADABLE.values(), ids=UNREADABLE)
def test_an_unknown_format_is_malformed_once_in_any_division(data: bytes) -> None:
    for pieces in (bytewise(data), *([data[:at], data[at:]] for at in range(len(data)))):
        (event,) = decoded(pieces)
        assert isinstance(event, Malformed)
        assert event.reason == NEITHER


def test_an_excerpt_is_short() -> None:
    (event,) = Decoder().feed(b"<" * 1000)
    assert isinstance(event, Malformed)
    assert event.excerpt == "<" * 200
    (event,) = Decoder().feed(b'{"' + b"x" * 1000 + b"\n")
    assert isinstance(event, Malformed)
    assert len(event.excerpt) == 200


def test_a_token_is_returned_as_soon_as_its_line_is_complete() -> None:
    decoder = Decoder()
    assert decoder.feed(b'data:{"token":{"text":"a"}}') == []
    assert decoder.feed(b"\n") == [Token("a")]
    assert decoder.feed(b"\n") == []


def test_blank_lines_before_the_answer_are_not_kept() -> None:
    # 200,000 of them used to be kept, and read again at each feed.
    decoder = Decoder()
    tracemalloc.start()
    for _ in range(200):
        assert decoder.feed(b"\r\n" * 8192) == []
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 100_000
    assert decoder.feed(X) == [Token("x")]


def overlong(decoder: Decoder, begin: bytes, piece: bytes) -> tuple[list[Event], int]:
    """Feed until there are events. Return them, and the number of bytes."""
    events, fed = decoder.feed(begin), len(begin)
    while not events and fed < 64 << 20:
        events, fed = decoder.feed(piece), fed + len(piece)
    return events, fed


@pytest.mark.parametrize(
    ("begin", "piece"),
    [
        (b'{"type":"stream","token":"', b"x" * (1 << 20)),
        (b'data:{"token":{"text":"', b"x" * (1 << 20)),
        (b"[", b"0," * (1 << 19)),
        (b"[", b"0\n" * (1 << 19)),
        (b"data:[\n", (b"data:" + b"0," * 16384 + b"\n") * 32),
    ],
    ids=["a line", "an event", "a list", "a list on lines", "an event on lines"],
)
def test_an_endless_line_is_malformed_and_dropped(begin: bytes, piece: bytes) -> None:
    decoder = Decoder()
    tracemalloc.start()
    events, fed = overlong(decoder, begin, piece)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    (event,) = events
    assert isinstance(event, Malformed)
    assert event.reason == f"a line of over {16 << 20} bytes"
    assert 16 << 20 < fed < 19 << 20
    assert held < 1 << 20
    assert decoder.feed(b"\n" + X + A) == []
    assert decoder.end() == []


def test_a_document_on_very_many_lines_is_read_once() -> None:
    # Each line was joined with all before it and parsed again.
    lines = 50_000
    data = b"data:[\n" + b'data:"aaaaaaaaaaaaaaaaaaaa",\n' * lines + b"data:0]\n\n"
    (event,) = decoded([data])
    assert isinstance(event, Notice)
    assert event.raw == ["a" * 20] * lines + [0]


def test_the_limit_of_a_line_grows_with_the_received_text() -> None:
    decoder = Decoder()
    decoder.text_bytes = 10 << 20
    begin = b'{"type":"finalAnswer","text":"'
    assert decoder.feed(begin) == []
    for _ in range(20):
        assert decoder.feed(b"x" * (1 << 20)) == []
    assert decoder.feed(b'"}\n') == [Final("x" * (20 << 20))]
    events, fed = overlong(decoder, begin, b"x" * (1 << 20))
    assert isinstance(events[0], Malformed)
    assert 21 << 20 < fed < 23 << 20


def test_an_answer_of_16_mib_is_read_with_the_standard_limit() -> None:
    decoder = Decoder()
    data = b'data:{"token":{"text":"%b"}}\n\n' % (b"x" * ((16 << 20) - 100))
    pieces = [data[at : at + 65536] for at in range(0, len(data), 65536)]
    (event,) = [event for piece in pieces for event in decoder.feed(piece)]
    assert isinstance(event, Token)
    assert len(event.text) == (16 << 20) - 100


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'{"token":', b'{"type":'])
@pytest.mark.parametrize("around", [(b"data:", b"\n\n"), (b'{"x":', b"\n")])
def test_deeply_nested_json_is_malformed(opening: bytes, around: tuple[bytes, bytes]) -> None:
    before, behind = around
    events = decoded([before + opening * 100_000 + behind])
    assert [type(event) for event in events] == [Malformed]


# Any pieces of the formats, divided anywhere, with other bytes between them.
SCRAPS = st.one_of(
    st.binary(max_size=6),
    st.sampled_from(
        [
            *(A, END, STARTED, X, FINAL, half("d83e"), half("ddea"), BOM, b"\\ud83e", b"[DONE]"),
            *(b"[", b"]", b"{", b"}", b"\n", b"\r", b"\r\n", b" ", b":", b'"', b"event"),
            *(b"data:", b"data: [", b'data:{"token":\n', b'data:{"text":"x"}}\n'),
            b'data:{"token":{"text":"\\ud83e"}}\n',
        ]
    ),
)


def joined(events: Iterable[Event]) -> list[Event | str]:
    """Events with adjacent tokens joined. The excerpt of a Malformed depends on the division."""
    told: list[Event | str] = []
    for event in events:
        if isinstance(event, Token) and not event.special:
            if told and isinstance(told[-1], str):
                told[-1] += event.text
            else:
                told.append(event.text)
        else:
            told.append(Malformed(0, "", event.reason) if isinstance(event, Malformed) else event)
    return told


@given(st.lists(SCRAPS, max_size=12), st.lists(st.integers(0, 300), max_size=6))
def test_any_division_of_any_bytes_gives_the_same_events(
    scraps: list[bytes], cuts: list[int]
) -> None:
    data = b"".join(scraps)
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    whole = decoded([data])
    assert joined(decoded(data[start:end] for start, end in pairwise(places))) == joined(whole)
    assert joined(decoded(bytewise(data))) == joined(whole)
    assert Malformed not in [type(event) for event in whole[:-1]]
    for event in whole:
        text = event.text if isinstance(event, Token | Final) else None
        (text or "").encode()  # no half of a pair


def transcribed(name: str, size: int) -> tuple[Transcript, list[Event]]:
    payload = recording(name).payload
    decoder, transcript, events = Decoder(), Transcript(), list[Event]()
    for at in range(0, len(payload), size):
        events += decoder.feed(payload[at : at + size])
    events += decoder.end()
    transcript.add(events)
    return transcript, events


SAID = "Hello! I am a scripted model. You said: "


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("v0.4-message-1", SAID + "Hello there"),
        # Special tokens in front and in the middle are no part of the text.
        ("v0.4-upstream-special", SAID + "@@special"),
        # The end mark is sent as a token that is not marked as special.
        ("v0.4-upstream-nospecialflag", SAID + "@@nospecialflag"),
        # generated_text begins with the prompt: it only marks the end.
        ("v0.4-upstream-fulltext", SAID + "@@full"),
        ("v0.4-upstream-empty", ""),
        # content-encoding: gzip over plain text.
        ("v0.4-upstream-gzip", SAID + "@@gzip hello"),
        # Comments between the events.
        ("v0.4-upstream-keepalive", SAID + "@@keepalive hello"),
        # One JSON list, not a stream.
        ("v0.4-upstream-nonstream", SAID + "@@nonstream hello"),
    ],
)
def test_real_answers_of_v0_4_are_read(name: str, text: str, size: int) -> None:
    transcript, _ = transcribed(name, size)
    assert transcript.final == Final()
    assert transcript.text == text
    assert (transcript.failure, transcript.malformed) == (None, None)


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_raw_escaped_and_divided_characters_are_the_same_text(size: int) -> None:
    raw, _ = transcribed("v0.4-upstream-unicode", size)
    escaped, _ = transcribed("v0.4-upstream-escape", size)
    torn, _ = transcribed("v0.4-upstream-split", size)
    assert raw.text == escaped.text
    assert raw.text.startswith("Café naïve 日本語 emoji \N{GRINNING FACE}")
    assert "ls\u2028ps\u2029nel\x85" in raw.text
    assert torn.text.startswith("Café naïve 日本語 emoji")
    assert raw.final == escaped.final == torn.final == Final()


@pytest.mark.parametrize("size", [1, 1 << 20])
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("v0.4-upstream-cut", "Hello! I"),  # the connection is cut within a line
        ("v0.4-upstream-cutclean", "Hello! I"),  # the body ends cleanly within a line
        ("v0.4-upstream-noend", "Hello! I"),  # the body ends cleanly without generated_text
        ("v0.4-stop-generating-stream", "w0 w1 w2 w3 w4 w5 "),  # so does a stopped one
        ("v0.9.1-content-length", "cut by length"),  # and one that the length has ended
        ("v0.10.0-upstream-eof", "one two three four five "),
    ],
)
def test_a_real_answer_without_its_end_has_text_and_no_end(name: str, text: str, size: int) -> None:
    transcript, _ = transcribed(name, size)
    assert not transcript.ended
    assert transcript.malformed is None
    assert transcript.text == text


@pytest.mark.parametrize(
    ("name", "failure", "text"),
    [
        (
            "v0.4-upstream-miderror",
            Failure(
                "Request failed during generation: Server error: CUDA out of memory", "overloaded"
            ),
            "Hello! I",
        ),
        # v0.7 sends the user's own prompt as the final answer after an error.
        ("v0.7-upstream-429", Failure("429 scripted upstream error 429"), ""),
        ("v0.9.1-upstream-429", Failure("429 scripted upstream error 429"), ""),
        ("HEAD-upstream-429", Failure("429 scripted upstream error 429", status=429), ""),
    ],
)
def test_a_real_error_during_the_stream_has_priority(
    name: str, failure: Failure, text: str
) -> None:
    transcript, _ = transcribed(name, 64)
    assert transcript.failure == failure
    assert transcript.ended
    assert transcript.text == text


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
@pytest.mark.parametrize(
    "name",
    [
        "v0.7-content-unicode",
        "v0.9.1-content-unicode",
        "HEAD-content-unicode",
        "v0.10.0-content-emoji",
        "v0.9.4-padding-after-final-answer",
    ],
)
def test_the_joined_tokens_of_a_real_answer_are_its_final_text(name: str, size: int) -> None:
    transcript, events = transcribed(name, size)
    tokens = "".join(event.text for event in events if isinstance(event, Token))
    assert transcript.final is not None
    assert transcript.final.text == transcript.text
    assert tokens.rstrip() == transcript.text.rstrip()
    assert transcript.text_bytes == len(tokens.encode())
    assert transcript.title == "🧪 Scripted title"
    assert not any(isinstance(event, Malformed | Notice) for event in events)
    assert not any(event.text.endswith("\0") for event in events if isinstance(event, Token))


def test_real_unicode_is_whole() -> None:
    for version in ("v0.7", "v0.9.1", "HEAD"):
        transcript, _ = transcribed(f"{version}-content-unicode", 5)
        assert transcript.text.startswith("Grüße 你好 ")
        assert {"\u2028", "\u2029", "\x85"} <= set(transcript.text)


def test_updates_after_the_padding_of_a_real_answer_are_read() -> None:
    _, events = transcribed("HEAD-content-unicode", 100)
    assert isinstance(events[-2], Final)
    assert events[-1] == Status("finished")


def test_a_real_stop_is_recognized() -> None:
    transcript, events = transcribed("v0.10.0-stop-generating", 100)
    assert transcript.final == Final("w0 w1 w2 w3 w4 w5 w6 w7 ", interrupted=True)
    assert events.count(Status("keepAlive")) > 10


def test_a_real_tool_call_is_reported_by_its_steps() -> None:
    transcript, events = transcribed("v0.10.0-tool-call", 100)
    tools = [event for event in events if isinstance(event, Tool)]
    assert [tool.kind for tool in tools] == ["call", "eta", "progress", "progress", "result"]
    assert [tool.name for tool in tools] == ["echo", "", "", "", "echo"]
    assert tools[0].raw["call"] == {"name": "echo", "parameters": {"text": "hä"}}
    # The final answer has only the text after the tool. The server stores the joined tokens.
    assert transcript.final is not None
    assert transcript.final.text == "You said: please [[tool]]"
    tokens = "".join(event.text for event in events if isinstance(event, Token))
    assert transcript.text == tokens == "Let me look. You said: please [[tool]]"


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("v0.7-web-search-true", ["update", "error"]),
        ("v0.9.4-web-search-true", ["update", "error", "finished"]),
    ],
)
def test_a_real_web_search_is_reported_by_its_steps(name: str, kinds: list[str]) -> None:
    transcript, events = transcribed(name, 100)
    searches = [event for event in events if isinstance(event, WebSearch)]
    assert [search.kind for search in searches] == kinds
    assert searches[0].message == "Searching Google"
    assert transcript.sources == ()
    assert transcript.final is not None


def test_sources_of_a_search_are_kept() -> None:
    source = {"title": "Cats", "link": "https://cats"}
    update = {"type": "webSearch", "subtype": "sources", "sources": [source]}
    (event,) = Decoder().feed(json.dumps(update).encode() + b"\n")
    assert event == WebSearch("sources", "", (Source("Cats", "https://cats"),))
