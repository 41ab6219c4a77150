"""Stops of the latest chat-ui: the runs they end, the texts they cut, and their marks."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from h2o_client.server import serve
from h2o_client.server.latest import stops
from h2o_client.wire.events import Final
from local_service import PATIENCE
from visitors import Asked, FedEngine, Guest, crashed, read, told

INTERRUPTED = ("", "end", {"status": "interrupted"})


@pytest.fixture
def engine() -> FedEngine:
    return FedEngine()


@pytest.fixture
def guest(engine: FedEngine) -> Iterator[Guest]:
    with serve(engine, chat_ui="latest") as server:
        yield Guest(server.url)


def stop(guest: Guest, conversation_id: str, **body: object) -> None:
    given = {"json": body} if body else {}
    answer = guest.send("POST", f"/conversation/{conversation_id}/stop-generating", **given)
    assert (answer.status_code, answer.content) == (200, b"")


def final(engine: FedEngine, asked: Asked) -> tuple[str, bool]:
    update = json.loads(asked.whole()[-2])
    # It takes no more words, which are for the next run.
    assert engine.ended.wait(PATIENCE)
    engine.ended.clear()
    assert update["type"] == "finalAnswer"
    return update["text"], update["interrupted"]


def test_a_stop_before_the_first_token_ends_the_run(engine: FedEngine, guest: Guest) -> None:
    made = guest.create()
    asked = Asked(guest, made)
    asked.listener.next(), asked.listener.next()
    stop(guest, made)
    assert final(engine, asked) == ("", True)
    assert read(guest, made)[-1] == INTERRUPTED


def test_a_run_whose_client_has_left_can_be_stopped(engine: FedEngine, guest: Guest) -> None:
    made = guest.create()
    engine.words("one ", "two ")
    asked = Asked(guest, made)
    asked.begin()
    asked.listener.token()
    asked.leave()
    stop(guest, made, generationId=asked.id)
    last = guest.stored(made)[-1]
    assert (last["content"], last["interrupted"]) == ("one two ", True)
    assert read(guest, made)[-1] == INTERRUPTED


@pytest.mark.parametrize(
    ("seen", "left"),
    [
        (0, ""),
        (3, "one"),
        (4.9, "one "),
        (5, "one "),  # inside a surrogate pair
        (6, "one \U0001f600"),
        (100, "one \U0001f600 two"),
        (-3, ""),
        ("3", "one \U0001f600 two"),
        (None, "one \U0001f600 two"),
    ],
)
def test_a_stopped_answer_is_stored_up_to_the_text_that_was_seen(
    engine: FedEngine, guest: Guest, seen: object, left: str
) -> None:
    made = guest.create()
    engine.words("one \U0001f600 two")
    asked = Asked(guest, made)
    asked.begin()
    stop(guest, made, generationId=asked.id, seenContentLength=seen)
    assert final(engine, asked) == (left, True)
    assert guest.said(made)[-1] == ("assistant", left)


def test_the_text_seen_of_another_run_has_no_effect(engine: FedEngine, guest: Guest) -> None:
    for body in ({"seenContentLength": 1}, {"generationId": "x", "seenContentLength": 1}):
        made = guest.create()
        engine.words("one ")
        asked = Asked(guest, made)
        asked.begin()
        stop(guest, made, **body)
        assert final(engine, asked) == ("one ", True)


@pytest.mark.parametrize("body", [b"", b"{bad", b"[]", b"7"])
def test_an_empty_body_also_stops(engine: FedEngine, guest: Guest, body: bytes) -> None:
    made = guest.create()
    asked = Asked(guest, made)
    asked.listener.next(), asked.listener.next()
    headers = {"Content-Type": "application/json"}
    path = f"/conversation/{made}/stop-generating"
    assert told(guest.send("POST", path, data=body, headers=headers)) == (200, "")
    assert final(engine, asked) == ("", True)


def test_a_stop_of_an_unknown_conversation_is_refused(guest: Guest) -> None:
    unknown = guest.send("POST", "/conversation/000000000000000000000000/stop-generating")
    assert told(unknown) == (404, '{"message":"Conversation not found"}')
    assert crashed(guest.send("POST", "/conversation/zzz/stop-generating"))
    made = guest.create()
    path = f"/conversation/{made}/stop-generating"
    assert told(guest.send("GET", path)) == (405, "GET method not allowed")
    assert Guest(guest.url).send("POST", path).status_code == 404


# Marks


def answer(guest: Guest, engine: FedEngine, conversation_id: str) -> None:
    engine.words("yes")
    engine.feed.put(Final())
    asked = Asked(guest, conversation_id)
    final(engine, asked)


def begun(guest: Guest, engine: FedEngine, conversation_id: str) -> Asked:
    """A second message in a conversation, whose answer has started."""
    asked = Asked(guest, conversation_id)
    asked.listener.next()
    engine.words("one ")
    assert asked.listener.token() == "one "
    return asked


def test_a_stop_without_a_run_ends_only_the_next_one(engine: FedEngine, guest: Guest) -> None:
    made = guest.create()
    answer(guest, engine, made)
    stop(guest, made)
    assert final(engine, begun(guest, engine, made)) == ("one ", True)
    assert read(guest, made)[-1] == INTERRUPTED
    assert runs_on(guest, engine, made)


def test_only_a_second_stop_leaves_a_mark(engine: FedEngine, guest: Guest) -> None:
    made = guest.create()
    answer(guest, engine, made)
    for _ in range(2):  # the second time after a mark
        asked = begun(guest, engine, made)
        stop(guest, made)
        assert final(engine, asked) == ("one ", True)
        assert runs_on(guest, engine, made)
        stop(guest, made)
        assert final(engine, begun(guest, engine, made)) == ("one ", True)


def test_a_mark_does_not_affect_another_conversation(engine: FedEngine, guest: Guest) -> None:
    marked, other = guest.create(), guest.create()
    answer(guest, engine, other)
    stop(guest, marked)
    assert runs_on(guest, engine, other)


def test_a_run_that_ends_before_it_sees_the_mark_leaves_it_to_the_next(
    engine: FedEngine, guest: Guest
) -> None:
    made = guest.create()
    stop(guest, made)
    answer(guest, engine, made)
    assert guest.stored(made)[-1]["interrupted"] is False
    assert final(engine, begun(guest, engine, made)) == ("one ", True)


def test_a_mark_expires(engine: FedEngine, guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    assert stops._MARK_LASTS == 5.0
    monkeypatch.setattr(stops, "_MARK_LASTS", 0.0)
    made, other = guest.create(), guest.create()
    answer(guest, engine, made)
    stop(guest, other)
    stop(guest, made)
    assert runs_on(guest, engine, made)


def runs_on(guest: Guest, engine: FedEngine, conversation_id: str) -> bool:
    """Whether a second message is answered completely, although a mark would have stopped it."""
    asked = begun(guest, engine, conversation_id)
    # Keep-alives are sent ten times a second in silence, and a mark is noticed after three.
    while asked.listener.alive < 6:
        if b'"keepAlive"' not in asked.listener.response.readline():
            return False
        asked.listener.alive += 1
    engine.feed.put(Final())
    return final(engine, asked) == ("one", False)
