from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from h2o_client.wire.lines import LineSplitter

# Characters on which str.splitlines splits, but which end no line here.
NOT_NEWLINES = ["\v", "\f", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"]

# (bytes, lines split on \n alone, the rest; lines split on returns too, the rest)
CASES: dict[str, tuple[bytes, list[bytes], bytes, list[bytes], bytes]] = {
    "nothing": (b"", [], b"", [], b""),
    "no end": (b"ab", [], b"ab", [], b"ab"),
    "a line": (b"ab\n", [b"ab"], b"", [b"ab"], b""),
    "a line and more": (b"ab\ncd", [b"ab"], b"cd", [b"ab"], b"cd"),
    "blank lines": (b"\n\na\n\n", [b"", b"", b"a", b""], b"", [b"", b"", b"a", b""], b""),
    "crlf": (b"ab\r\ncd\r\n", [b"ab\r", b"cd\r"], b"", [b"ab", b"cd"], b""),
    "blank crlf lines": (b"\r\n\r\n", [b"\r", b"\r"], b"", [b"", b""], b""),
    "cr": (b"ab\rcd\r", [], b"ab\rcd\r", [b"ab", b"cd"], b""),
    "cr cr lf": (b"a\r\r\nb", [b"a\r\r"], b"b", [b"a", b""], b"b"),
    "lf cr": (b"a\n\rb", [b"a"], b"\rb", [b"a", b""], b"b"),
    "all of them": (b"a\rb\nc\r\nd", [b"a\rb", b"c\r"], b"d", [b"a", b"b", b"c"], b"d"),
}


def split(pieces: list[bytes], *, carriage_returns: bool) -> tuple[list[bytes], bytes]:
    splitter = LineSplitter(carriage_returns=carriage_returns)
    lines = [line for piece in pieces for line in splitter.feed(piece)]
    pending = splitter.pending
    rest = splitter.rest()
    assert pending == len(rest)
    assert splitter.pending == 0
    assert splitter.rest() == b""
    return lines, rest


@pytest.mark.parametrize(
    ("data", "lines", "rest", "sse_lines", "sse_rest"), CASES.values(), ids=CASES
)
def test_lines_are_the_same_in_every_division(
    data: bytes, lines: list[bytes], rest: bytes, sse_lines: list[bytes], sse_rest: bytes
) -> None:
    bytewise = [data[place : place + 1] for place in range(len(data))]
    cuts = [[data[:place], b"", data[place:]] for place in range(len(data) + 1)]
    for pieces in ([data], bytewise, *cuts):
        assert split(pieces, carriage_returns=False) == (lines, rest)
        assert split(pieces, carriage_returns=True) == (sse_lines, sse_rest)


def test_a_line_that_ends_in_a_carriage_return_is_returned_at_once() -> None:
    splitter = LineSplitter(carriage_returns=True)
    assert splitter.feed(b"ab\r") == [b"ab"]
    assert splitter.feed(b"") == []
    assert splitter.feed(b"\n") == []
    assert splitter.feed(b"\n") == [b""]


@pytest.mark.parametrize("character", NOT_NEWLINES, ids=ascii)
@pytest.mark.parametrize("carriage_returns", [False, True])
def test_other_line_ends_of_str_splitlines_do_not_end_a_line(
    character: str, carriage_returns: bool
) -> None:
    line = f"a{character}b".encode()
    data = line + b"\n" + line
    for place in range(len(data) + 1):
        pieces = [data[:place], data[place:]]
        assert split(pieces, carriage_returns=carriage_returns) == ([line], line)


def test_a_long_line_in_small_pieces_is_read_in_linear_time() -> None:
    def touched(pieces: int) -> int:
        """Bytes that the splitter's calls of methods of bytes have to examine."""
        splitter, looked_at = LineSplitter(carriage_returns=True), 0

        def count(frame: FrameType, event: str, called: object) -> None:
            nonlocal looked_at
            owner = getattr(called, "__self__", None)
            if event == "c_call" and isinstance(owner, bytes):
                looked_at += len(owner)

        _profiled(count, lambda: [splitter.feed(b"x" * 1024) for _ in range(pieces)])
        assert splitter.pending == pieces * 1024
        assert splitter.feed(b"\n") == [b"x" * 1024 * pieces]
        return looked_at

    few, many = touched(1 << 10), touched(1 << 14)  # lines of 1 MiB and of 16 MiB
    assert few > 0
    assert many == 16 * few


def _profiled(
    profile: Callable[[FrameType, str, object], None], work: Callable[[], object]
) -> None:
    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(before)


@given(st.lists(st.text("ab\r\n\u2028", max_size=6).map(str.encode)))
def test_any_division_gives_the_lines_of_the_whole(pieces: list[bytes]) -> None:
    data = b"".join(pieces)
    *lines, rest = data.split(b"\n")
    assert split(pieces, carriage_returns=False) == (lines, rest)
    *lines, rest = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    assert split(pieces, carriage_returns=True) == (lines, rest)
