from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from h2o_client.wire.events import (
    Elicitation,
    Event,
    Failure,
    File,
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

CATS = (Source("Cats", "https://cats"),)
DOGS = (Source("Dogs", "https://dogs"),)


def transcript_of(*events: Event) -> Transcript:
    transcript = Transcript()
    transcript.add(events)
    return transcript


def test_without_events_an_answer_is_incomplete_and_has_no_text() -> None:
    transcript = transcript_of()
    assert (transcript.text, transcript.text_bytes, transcript.ended) == ("", 0, False)
    assert (transcript.title, transcript.sources) == (None, ())


# (events, the text, whether they end the answer)
TEXTS: list[tuple[Sequence[Event], str, bool]] = [
    ([Token("a"), Token("b")], "ab", False),
    ([Token("a"), Token("</s>", special=True), Token("b")], "ab", False),
    ([Token("a"), Final()], "a", True),
    ([Token("a"), Final("b")], "b", True),
    ([Token("a"), Final("")], "", True),
    ([Final("a"), Token("b")], "a", True),
    ([Token("a"), Final("b"), Final("c")], "c", True),
    ([Token("a"), Final("b", interrupted=True)], "b", True),
    ([Token("a"), Failure("x")], "a", True),
    ([Token("a"), Failure("x"), Final("the prompt")], "a", True),  # like v0.7
    ([Token("a"), Final("b"), Failure("x")], "a", True),
    ([Token("a"), Status("finished")], "a", False),
    ([Token("a"), Title("T"), Notice({}), Tool("call", "n", {})], "a", False),
    ([Token("a"), Malformed(1, "", "")], "a", False),
]


@pytest.mark.parametrize(("events", "text", "ended"), TEXTS, ids=repr)
def test_events_give_the_same_text_together_or_one_by_one(
    events: Sequence[Event], text: str, ended: bool
) -> None:
    single = Transcript()
    for event in events:
        single.add([event])
    for transcript in (transcript_of(*events), single):
        assert transcript.text == text
        assert transcript.ended == ended


# (the joined tokens, the final answer's text, the answer), with a tool
WITH_TOOLS = [
    ("Let me look. You said: hi", "You said: hi", "Let me look. You said: hi"),
    ("Let me look. It is 5. ", "It is 5.", "Let me look. It is 5. "),
    ("Let me look. It is 5.", "\n It is 5.\n", "Let me look. It is 5."),
    ("", "It is 5.", "It is 5."),
    ("Let me look. ", "", "Let me look. "),
    ("Let me look. ", "Let me look. It is 5.", "Let me look. It is 5."),
    ("Let me look.", "It is 5.", "Let me look.\n\nIt is 5."),
    ("Let me look.\n\n", "It is 5.", "Let me look.\n\nIt is 5."),
    ("Let me look.", "\nIt is 5.", "Let me look.\nIt is 5."),
    # The model was called again after the tool, and the server repeats this text.
    ("Let me look. It is It is 5.", "It is 5.", "Let me look. It is It is 5."),
]


@pytest.mark.parametrize(("joined", "final", "expected"), WITH_TOOLS)
def test_with_tools_the_answer_is_the_whole_text_of_the_model(
    joined: str, final: str, expected: str
) -> None:
    called = Tool("call", "echo", {})
    assert transcript_of(Token(joined), called, Final(final)).text == expected
    assert transcript_of(called, Token(joined), Final(final)).text == expected
    assert transcript_of(Token(joined), Final(final)).text == final
    stopped = Final(final, interrupted=True)
    assert transcript_of(Token(joined), called, stopped).text == joined
    assert transcript_of(called, Token(joined), Final(final), Failure("x")).text == joined


def test_the_first_error_counts() -> None:
    assert transcript_of(Failure("first"), Failure("second")).failure == Failure("first")


def test_the_last_title_counts() -> None:
    assert transcript_of(Title("first"), Title("second")).title == "second"


def test_the_last_nonempty_sources_count() -> None:
    transcript = transcript_of(
        WebSearch("sources", sources=CATS), WebSearch("sources", sources=DOGS), WebSearch("done")
    )
    assert transcript.sources == DOGS


def test_a_malformed_line_is_kept() -> None:
    line = Malformed(3, "oops", "not a JSON document")
    assert transcript_of(Token("a"), line).malformed == line


@given(st.lists(st.builds(Token, st.text(st.characters(exclude_categories=[])), st.booleans())))
def test_text_bytes_are_those_of_the_text(tokens: list[Token]) -> None:
    # Half a pair counts three bytes, its size in a file.
    transcript = Transcript()
    for token in tokens:
        transcript.add([token])
    text = "".join(token.text for token in tokens if not token.special)
    assert transcript.text == text
    halves = sum("\ud800" <= character <= "\udfff" for character in text)
    whole = "".join(c for c in text if not "\ud800" <= c <= "\udfff")
    assert transcript.text_bytes == len(whole.encode()) + 3 * halves


def test_text_bytes_count_tokens_and_not_the_final_text() -> None:
    assert transcript_of(Token("äöü"), Final("x" * 100)).text_bytes == 6


def test_a_final_answers_sources_count_and_files_are_named() -> None:
    transcript = transcript_of(File("a.png", "1123"), File("b.csv"), Final("x", sources=DOGS))
    assert transcript.sources == DOGS
    assert transcript.files == ("a.png", "b.csv")


def test_an_elicitation_is_open_until_it_is_resolved() -> None:
    asked = Elicitation(id="e1", state="request", message="Sure?")
    transcript = transcript_of(Token("Let me look. "), asked, Status("finished"))
    assert (transcript.elicitation, transcript.ended) == (asked, False)
    transcript.add([Elicitation(id="e1", state="resolved")])
    assert transcript.elicitation is None


def test_the_names_of_very_many_files_are_kept_in_linear_time() -> None:
    transcript = transcript_of(*[File(str(number), "s", "m") for number in range(100_000)])
    assert len(transcript.files) == 100_000
    assert transcript.malformed is None


def test_the_kept_names_of_files_are_bounded() -> None:
    transcript = transcript_of(*[File("n" * (1 << 20), "s", "m") for _ in range(20)])
    assert len(transcript.files) == 15
    assert transcript.malformed is not None


# Without a tracer, under which the interpreter does not specialize what it runs.
READ_AFTER_EACH_TOKEN = """
import sys
import tracemalloc

from h2o_client.wire.events import Token
from h2o_client.wire.transcript import Transcript

letter = sys.argv[1]
transcript = Transcript()
transcript.add([Token(letter * 2_000_000)])
for _ in range(100):
    transcript.add([Token(letter)])
tracemalloc.start()
for count in range(100):
    transcript.add([Token(letter)])
    assert len(transcript.text) == 2_000_101 + count
most = tracemalloc.get_traced_memory()[1]
assert most < 1.5 * sys.getsizeof(transcript.text), most
"""


@pytest.mark.parametrize("letter", ["a", "\N{LATIN SMALL LETTER E WITH ACUTE}", "\N{CAT FACE}"])
def test_reading_the_text_after_each_token_copies_nothing(letter: str) -> None:
    command = [sys.executable, "-c", READ_AFTER_EACH_TOKEN, letter]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_a_text_is_not_changed_by_later_tokens() -> None:
    transcript = transcript_of(Token("a"))
    before = transcript.text
    transcript.add([Token("b")])
    assert (before, transcript.text) == ("a", "ab")
