from __future__ import annotations

import http.client
import io
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from h2o_client.wire.framing import (
    LAST_CHUNK,
    Chunked,
    Frame,
    FramingError,
    Length,
    UntilClose,
    write_chunk,
)
from recordings import recording

# (bytes of the connection, payload, excess)
CHUNKED = {
    "nothing in it": (b"0\r\n\r\n", b"", b""),
    "one chunk": (b"5\r\nhello\r\n0\r\n\r\n", b"hello", b""),
    "several chunks": (b"3\r\nabc\r\n1\r\nd\r\n2\r\nef\r\n0\r\n\r\n", b"abcdef", b""),
    "newlines as payload": (b"4\r\n\r\n\r\n\r\n2\r\n0\r\r\n0\r\n\r\n", b"\r\n\r\n0\r", b""),
    "both cases": (b"B\r\nxxxxxxxxxxx\r\na\r\nyyyyyyyyyy\r\n0\r\n\r\n", b"x" * 11 + b"y" * 10, b""),
    "zeros in front": (b"0005\r\nhello\r\n000\r\n\r\n", b"hello", b""),
    "an extension": (b"5;name=value\r\nhello\r\n0;last\r\n\r\n", b"hello", b""),
    "blanks behind the size": (b"5  \t\r\nhello\r\n0 \r\n\r\n", b"hello", b""),
    "bare line feeds": (b"5\nhello\n3;x\nabc\n0\n\n", b"helloabc", b""),
    "a trailer": (b"1\r\na\r\n0\r\nExpires: never\r\nX: y\r\n\r\n", b"a", b""),
    "a trailer with bare line feeds": (b"1\r\na\r\n0\r\nExpires: never\n\n", b"a", b""),
    "the next answer": (b"1\r\na\r\n0\r\n\r\nHTTP/1.1 200\r\n", b"a", b"HTTP/1.1 200\r\n"),
}  # fmt: skip

# (bytes of the connection, payload before the error, where it is detected)
BROKEN = {
    "a negative size": (b"-5\r\nhello\r\n", b"", b"-5"),
    "a size with a sign": (b"+5\r\nhello\r\n", b"", b"+5"),
    "a size with 0x": (b"0x5\r\nhello\r\n", b"", b"0x5"),
    "a size with an underscore": (b"1_0\r\nhello\r\n", b"", b"1_0"),
    "a size with a blank in front": (b"1\r\na\r\n 5\r\nhello\r\n", b"a", b" 5"),
    "no hex digit": (b"xyz\r\n", b"", b"xyz"),
    "no size": (b"1\r\na\r\n\r\n", b"a", b"\r\n"),
    "an extension and no size": (b";x\r\na\r\n", b"", b";x"),
    "a size beyond all": (b"1\r\na\r\n" + b"f" * 16 + b"\r\n", b"a", b"f" * 16),
    "blanks without end": (b"1\r\na\r\n5" + b" " * 100, b"a", b"5 "),
    "an extension without end": (b"1\r\na\r\n5;" + b"x" * 5000 + b"\r\n", b"a", b"5;xxx"),
    "a bare carriage return": (b"5\rhello", b"", b"5\r"),
    "a size too small": (b"3\r\nhello\r\n0\r\n\r\n", b"hel", b"lo"),
    "a size too large": (b"7\r\nhello\r\n0\r\n\r\n", b"hello\r\n", b"0"),
    "a trailer without end": (b"1\r\na\r\n0\r\n" + b"X: y\r\n" * 12000 + b"\r\n", b"a", b""),
    "a trailer line without end": (b"1\r\na\r\n0\r\nX: " + b"y" * 70000, b"a", b"X: "),
    "HTML": (b"<!doctype html>", b"", b"<!doc"),
}


def fed(frame: Frame, *pieces: bytes) -> bytes:
    return b"".join(frame.feed(piece) for piece in pieces)


def bytewise(data: bytes) -> list[bytes]:
    return [data[place : place + 1] for place in range(len(data))]


def broken(*pieces: bytes) -> tuple[bytes, FramingError | None]:
    """The payload before invalid framing, and the error."""
    frame, payload = Chunked(), bytearray()
    try:
        for piece in pieces:
            payload += frame.feed(piece)
    except FramingError as exc:
        assert not frame.done
        assert not frame.close()
        return bytes(payload + exc.payload), exc
    return bytes(payload), None


@pytest.mark.parametrize(("data", "payload", "excess"), CHUNKED.values(), ids=CHUNKED)
def test_chunks_are_decoded_in_one_piece_or_byte_by_byte(
    data: bytes, payload: bytes, excess: bytes
) -> None:
    for pieces in ([data], bytewise(data)):
        frame = Chunked()
        assert fed(frame, *pieces) == payload
        assert frame.done
        assert frame.close()
        assert frame.excess == excess


@pytest.mark.parametrize(("data", "payload", "excess"), CHUNKED.values(), ids=CHUNKED)
def test_chunks_are_decoded_in_every_division(data: bytes, payload: bytes, excess: bytes) -> None:
    for place in range(len(data) + 1):
        frame = Chunked()
        assert fed(frame, data[:place], b"", data[place:]) == payload
        assert (frame.done, frame.excess) == (True, excess)


@pytest.mark.parametrize(("data", "payload", "excess"), CHUNKED.values(), ids=CHUNKED)
def test_a_body_without_its_last_chunk_is_incomplete(
    data: bytes, payload: bytes, excess: bytes
) -> None:
    body = data[: len(data) - len(excess)]
    for place in range(len(body)):
        frame = Chunked()
        assert payload.startswith(frame.feed(body[:place]))
        assert not frame.done
        assert not frame.close()


def test_payload_is_returned_before_its_chunk_is_complete() -> None:
    frame = Chunked()
    assert frame.feed(b"ff\r\ntoken") == b"token"
    assert frame.feed(b"s") == b"s"


@pytest.mark.parametrize(("data", "payload", "place"), BROKEN.values(), ids=BROKEN)
def test_invalid_framing_is_an_error_after_the_payload_before_it(
    data: bytes, payload: bytes, place: bytes
) -> None:
    got, error = broken(data)
    assert got == payload
    assert error is not None
    assert error.excerpt.startswith(place)
    assert len(error.excerpt) <= 40
    assert repr(error.excerpt) in str(error)


@pytest.mark.parametrize(("data", "payload", "place"), BROKEN.values(), ids=BROKEN)
def test_invalid_framing_is_an_error_in_every_division(
    data: bytes, payload: bytes, place: bytes
) -> None:
    for cut in range(1, min(len(data), 100)):
        got, error = broken(data[:cut], data[cut:])
        assert got == payload
        assert error is not None


@pytest.mark.parametrize(
    "data", [each[0] for each in BROKEN.values() if len(each[0]) < 6000], ids=len
)
def test_invalid_framing_is_an_error_byte_by_byte(data: bytes) -> None:
    assert broken(*bytewise(data))[1] is not None


def test_many_blanks_after_a_size_are_refused_early() -> None:
    # 60,000 of them, one at a time, took 70 seconds.
    frame = Chunked()
    frame.feed(b"5")
    with pytest.raises(FramingError):
        fed(frame, *[b" "] * 17)


def test_bytes_after_the_end_are_excess_in_any_division() -> None:
    # The second feed used to be read as a trailer and lost.
    frame = Chunked()
    assert fed(frame, b"1\r\na\r\n0\r\n\r\n", *bytewise(b"HTTP/1.1 200 OK\r\n\r\n"), b"x") == b"a"
    assert frame.excess == b"HTTP/1.1 200 OK\r\n\r\nx"


def test_a_long_trailer_is_refused_in_one_piece_or_several() -> None:
    trailer = b"0\r\n" + b"X: y\r\n" * 12000 + b"\r\n"
    for pieces in ([trailer], [trailer[:50000], trailer[50000:]]):
        with pytest.raises(FramingError):
            fed(Chunked(), *pieces)


@pytest.mark.parametrize("length", [0, 1, 5])
def test_a_length_is_counted_in_every_division(length: int) -> None:
    data = b"hello"[:length] + b"HTTP/1.1"
    for place in range(len(data) + 1):
        frame = Length(length)
        assert frame.done == (length == 0)
        assert fed(frame, data[:place], data[place:]) == b"hello"[:length]
        assert frame.done
        assert frame.close()
        assert frame.excess == b"HTTP/1.1"


def test_a_body_shorter_than_its_length_is_incomplete() -> None:
    frame = Length(6)
    assert frame.feed(b"hello") == b"hello"
    assert not frame.done
    assert not frame.close()


def test_a_body_until_close_is_complete_when_the_connection_ends() -> None:
    frame = UntilClose()
    assert fed(frame, b"5\r\n", b"", b"hello") == b"5\r\nhello"
    assert not frame.done
    assert frame.close()
    assert frame.done
    assert frame.excess == b""


def test_what_is_written_can_be_read() -> None:
    frame = Chunked()
    assert (
        frame.feed(write_chunk(b"a" * 26) + write_chunk(b"\r\n") + LAST_CHUNK)
        == b"a" * 26 + b"\r\n"
    )
    assert frame.done
    assert write_chunk(b"a" * 26).startswith(b"1a\r\n")


@given(st.lists(st.binary(min_size=1)), st.lists(st.integers(0, 400)), st.binary(max_size=5))
def test_any_payloads_are_read_in_any_division(
    payloads: list[bytes], cuts: list[int], excess: bytes
) -> None:
    data = b"".join(map(write_chunk, payloads)) + LAST_CHUNK + excess
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    frame = Chunked()
    pieces = [data[start:end] for start, end in pairwise(places)]
    assert fed(frame, *pieces) == b"".join(payloads)
    assert (frame.done, frame.excess) == (True, excess)


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=8),
            st.sampled_from(
                [b"5\r\nhello", b"\r\n", b"0\r\n", b"\n", b";x", b"f", b" ", b"A: b\r\n"]
            ),
        ),
        max_size=12,
    )
)
def test_any_division_of_any_bytes_gives_the_same_payload_or_error(pieces: list[bytes]) -> None:
    data = b"".join(pieces)
    whole, error = broken(data)
    cut, cut_error = broken(*pieces)
    single, single_error = broken(*bytewise(data))
    assert whole == cut == single
    assert (error is None) == (cut_error is None) == (single_error is None)


@pytest.mark.parametrize(
    ("name", "whole"),
    [
        ("v0.4-message-1", True),
        ("v0.4-upstream-split", True),  # chunks of 7 bytes, characters torn between them
        ("v0.4-upstream-cut", False),  # the model server disconnected: no last chunk
        ("v0.4-stop-generating-stream", False),  # no last chunk after a stop either
        ("v0.7-content-unicode", False),  # v0.7 never ends its answers
        ("v0.9.1-content-unicode", True),
        ("v0.10.0-content-emoji", True),
    ],
)
def test_real_chunked_responses_are_decoded_like_in_the_standard_library(
    name: str, whole: bool
) -> None:
    wire = (Path(__file__).parents[1] / "recordings" / f"{name}.bin").read_bytes()
    response = http.client.HTTPResponse(_Wire(wire))  # type: ignore[arg-type]
    response.begin()
    try:
        expected = response.read()
    except http.client.IncompleteRead as exc:
        expected = exc.partial
        assert not whole
    recorded = recording(name)
    assert recorded.payload == expected
    assert recorded.whole == whole
    for size in (1, 7, 64, 1000):
        frame = Chunked()
        pieces = [recorded.framed[at : at + size] for at in range(0, len(recorded.framed), size)]
        assert fed(frame, *pieces) == expected
        assert frame.done == whole


class _Wire:
    def __init__(self, wire: bytes) -> None:
        self._wire = wire

    def makefile(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self._wire)
