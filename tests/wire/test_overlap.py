from __future__ import annotations

import json

from hypothesis import example, given
from hypothesis import strategies as st

from h2o_client.wire import updates
from h2o_client.wire.decoder import Decoder
from h2o_client.wire.events import Event, Failure, Final, Notice, Status, Title, Token
from h2o_client.wire.overlap import Overlap, counted
from h2o_client.wire.runlog import RunLog, write_end, write_update
from h2o_client.wire.transcript import Transcript

PADDING = "\0"
# Few letters, so that tokens repeat earlier text, and characters that are hard to divide.
texts = st.text(alphabet="ab \0é🧪\u2028", min_size=1, max_size=6)
answers = st.lists(texts, max_size=12)
booleans = st.booleans()


def joined(data: st.DataObject, tokens: list[str]) -> list[str]:
    """Tokens as in a log, in which some consecutive ones are joined."""
    found: list[str] = []
    for token in tokens:
        together: bool = data.draw(booleans)
        if found and together:
            found[-1] += token
        else:
            found.append(token)
    return found


def rest_of(given: str, log: list[str]) -> str:
    overlap = Overlap(given)
    return "".join(map(overlap.rest_of, log))


@given(answers, st.data())
def test_the_text_before_and_the_rest_of_the_log_are_the_whole_text(
    tokens: list[str], data: st.DataObject
) -> None:
    whole = "".join(tokens)
    cut = data.draw(st.integers(0, len(whole)))
    assert whole[:cut] + rest_of(whole[:cut], joined(data, tokens)) == whole


@given(answers, st.data())
def test_tokens_without_their_padding_are_found_in_the_log(
    tokens: list[str], data: st.DataObject
) -> None:
    count = data.draw(st.integers(0, len(tokens)))
    had = "".join(token.rstrip(PADDING) for token in tokens[:count])
    whole = had + rest_of(had, joined(data, tokens))
    assert whole.replace(PADDING, "") == "".join(tokens).replace(PADDING, "")


@given(st.text(max_size=20), st.text(max_size=20))
def test_a_log_with_another_text_adds_only_its_end(had: str, log: str) -> None:
    rest = rest_of(had, [log])
    assert log.endswith(rest)
    assert len(rest) <= max(0, len(log) - len(had)) + log.count(PADDING)


def test_a_log_with_another_text_is_not_joined() -> None:
    assert rest_of("Hello", ["Help me", " out"]) == "me out"
    assert rest_of("Hello", ["Hel"]) == ""


EVENTS: tuple[Event, ...] = (
    Status("started"),
    Title("T"),
    Token("a"),
    Notice({"type": "x"}),
    Token("b"),
    Notice({"type": "x"}),
    Final("ab"),
    Status("finished"),
)


@given(st.integers(0, len(EVENTS)), st.integers(0, 3))
def test_each_event_is_returned_once(cut: int, alive: int) -> None:
    had = [*EVENTS[:cut], *([Status("keepAlive")] * alive)]
    text = "".join(each.text for each in had if isinstance(each, Token))
    assert Overlap(text, counted(had)).rest(EVENTS) == list(EVENTS[cut:])


def test_invented_names_of_a_server_are_not_kept() -> None:
    assert len(counted([Status(str(number)) for number in range(1000)])) == 1
    had = counted([Status("one"), Status("started")])
    assert Overlap("", had).rest([Status("started"), Status("one"), Status("two")]) == [
        Status("two")
    ]


def test_only_the_new_part_of_a_token_is_returned() -> None:
    assert Overlap("ab").rest([Token("abc"), Token("d")]) == [Token("c"), Token("d")]


# From bytes to bytes: an answer and its log, in any division.


def live(tokens: list[str], final: str) -> bytes:
    lines = [updates.write(Status("started")), updates.write(Status("keepAlive"))]
    for token in tokens:
        lines += [updates.write(Token(token)), updates.write(Status("keepAlive"))]
    lines += [
        updates.write(Title("T")),
        updates.write(Final(final, interrupted=False)),
        updates.ANSWER_PADDING,
    ]
    return b"".join([*lines, updates.write(Status("finished"))])


def logged(tokens: list[str], final: str) -> list[bytes]:
    documents: list[dict[str, object]] = [{"type": "status", "status": "started"}]
    documents += [{"type": "stream", "token": token} for token in tokens]
    documents += [
        {"type": "title", "title": "T"},
        {"type": "finalAnswer", "text": final, "interrupted": False},
    ]
    documents += [{"type": "status", "status": "finished"}]
    return [json.dumps(each, ensure_ascii=False).encode() for each in documents]


def body(log: list[bytes], after: int) -> bytes:
    frames = [write_update(number, each) for number, each in enumerate(log, 1) if number > after]
    return b": heartbeat\n\n".join([*frames, write_end("completed")])


WORDS = st.lists(st.text(alphabet="ab é🧪\u2028\u0085", min_size=1, max_size=5), max_size=8)


@given(WORDS, st.text(alphabet="ab", max_size=4), st.data())
@example(["🧪", "🧪"], "", None)
def test_an_answer_and_its_log_in_any_division_are_complete_without_repeats(
    tokens: list[str], final: str, data: st.DataObject | None
) -> None:
    stream = live(tokens, final)
    first = len(stream) // 2 if data is None else data.draw(st.integers(0, len(stream)))
    log = logged(tokens if data is None else joined(data, tokens), final)
    transcript, events, decoder = Transcript(), list[Event](), Decoder()
    events += decoder.feed(stream[:first]) + decoder.end(whole=False)
    transcript.add(events)
    reader = RunLog(Overlap(transcript.joined, counted(events)))
    for _ in range(3):
        if transcript.ended:
            break
        reader.again()
        sent = body(log, reader.last)
        cut = len(sent) if data is None else data.draw(st.integers(0, len(sent)))
        new = reader.feed(sent[:cut]) + reader.end()
        events += new
        transcript.add(new)
    reader.again()
    if not transcript.ended:
        new = reader.feed(body(log, reader.last))
        events += new
        transcript.add(new)
        assert reader.end_status == "completed"
    # As the unbroken stream would have returned them.
    assert transcript.joined == "".join(tokens)
    assert transcript.text == final
    assert [each for each in events if isinstance(each, Title | Final)] == [
        Title("T"),
        Final(final, interrupted=False),
    ]
    assert events.count(Status("started")) == 1


def test_an_error_in_the_log_is_an_error_of_the_answer() -> None:
    reader = RunLog(Overlap("a"))
    events = reader.feed(
        write_update(1, b'{"type":"stream","token":"ab"}')
        + write_update(2, b'{"type":"status","status":"error","message":"out of memory"}')
        + write_end("error")
    )
    assert events == [Token("b"), Failure("out of memory")]
    assert (reader.last, reader.end_status) == (2, "error")
