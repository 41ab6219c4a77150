from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from h2o_client.gateway.stop_sequences import StopSequences


def cut(pieces: list[str], sequences: list[str]) -> str:
    stops = StopSequences(sequences)
    return "".join([*map(stops.add, pieces), stops.end()])


@pytest.mark.parametrize(
    ("text", "sequences", "left"),
    [
        ("one two three", ["two"], "one "),
        ("one two three", ["three", "two"], "one "),
        ("one two three", ["two three", "two"], "one "),
        ("baa", ["baa", "a"], "b"),
        ("one two", ["x"], "one two"),
        ("one", [], "one"),
        ("ababac", ["abac"], "ab"),
        ("one\n\ntwo", ["\n\n"], "one"),
        ("almost END", ["ENDS"], "almost END"),
        ("END at once", ["END"], ""),
    ],
)
def test_a_text_ends_before_the_first_stop_sequence_however_it_is_divided(
    text: str, sequences: list[str], left: str
) -> None:
    for place in range(len(text) + 1):
        assert cut([text[:place], text[place:]], sequences) == left
    assert cut(list(text), sequences) == left


@given(st.text("abc", max_size=30), st.lists(st.text("abc", min_size=1, max_size=4), max_size=3))
def test_the_division_into_pieces_makes_no_difference(text: str, sequences: list[str]) -> None:
    ends = [(text.find(each) + len(each), text.find(each)) for each in sequences if each in text]
    assert cut(list(text), sequences) == (text[: min(ends)[1]] if ends else text)
    assert cut([text], sequences) == cut(list(text), sequences)


def test_text_that_cannot_begin_a_stop_sequence_is_passed_on_at_once() -> None:
    stops = StopSequences(["END"])
    assert stops.add("one E") == "one "
    assert stops.add("agle") == "Eagle"
    assert not stops.found
