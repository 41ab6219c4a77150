"""Answers of the latest chat-ui, read from the logs of their runs over a real socket."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Iterator

import pytest

from h2o_client.server import EngineFailure, Limits, serve
from h2o_client.wire.events import Final
from recordings import recording
from visitors import (
    COMPLETED,
    FINISHED,
    Asked,
    FedEngine,
    Guest,
    Reader,
    crashed,
    eventually,
    log_of,
    numbers,
    read,
    text,
    told,
)

GONE = b'event: end\ndata: {"status":"gone"}\n\n'
HEARTBEAT = b": heartbeat\n\n"
NOT_FOUND = (404, '{"message":"Conversation not found"}')


@pytest.fixture
def engine() -> FedEngine:
    return FedEngine()


@pytest.fixture
def guest(engine: FedEngine) -> Iterator[Guest]:
    with serve(engine, chat_ui="latest") as server:
        yield Guest(server.url)


def answered(guest: Guest, engine: FedEngine, *words: str) -> tuple[str, Asked]:
    """A conversation with one answer that has ended."""
    made = guest.create()
    engine.words(*words)
    engine.feed.put(Final())
    asked = Asked(guest, made)
    asked.whole()
    return made, asked


# Contents of a log


def test_a_log_is_written_like_chat_uis() -> None:
    class Titled(FedEngine):
        def title(self, message: str) -> str:
            return "\U0001f9ea Scripted title"

    engine = Titled()
    with serve(engine, chat_ui="latest") as server:
        guest = Guest(server.url)
        made, asked = answered(guest, engine, "You said: ", "[[delay=4]]")
        answer = guest.send("GET", log_of(made, asked.id))
    recorded = recording("HEAD-resume-heartbeat")
    for name in ("content-type", "cache-control", "x-accel-buffering", "transfer-encoding"):
        assert answer.headers[name] == recorded.headers[name]
    assert answer.content == recorded.payload.replace(HEARTBEAT, b"")
    assert recorded.payload.count(HEARTBEAT) == 14


def test_the_log_contains_what_the_client_received(engine: FedEngine, guest: Guest) -> None:
    made = guest.create()
    engine.words("na\u00efve ", "\u2028", "\0", "\U0001f600")
    engine.feed.put(Final())
    asked = Asked(guest, made)
    live = [json.loads(line) for line in asked.whole()]
    found = read(guest, made, f"?generationId={asked.id}")
    logged = [data for _, _, data in found[:-1]]
    assert [each for each in logged if each["type"] != "stream"] == [
        each for each in live if each["type"] != "stream"
    ]
    # The NUL belongs to the answer here, and is padding there.
    assert text(found) == "na\u00efve \u2028\0\U0001f600"
    assert numbers(found) == list(range(1, len(found)))
    assert found[-1] == COMPLETED


def test_an_interrupted_answer_is_read_to_its_end(engine: FedEngine, guest: Guest) -> None:
    made = guest.create()
    engine.words("one ")
    asked = Asked(guest, made)
    asked.begin()
    asked.leave()
    reader = Reader(guest, log_of(made, asked.id))
    assert [reader.next() for _ in range(3)] == [
        ("1", "update", {"type": "status", "status": "started"}),
        ("2", "update", {"type": "title", "title": "Hello"}),
        ("3", "update", {"type": "stream", "token": "one "}),
    ]
    engine.words("two")
    assert reader.next() == ("4", "update", {"type": "stream", "token": "two"})
    engine.feed.put(Final())
    assert reader.rest() == [
        ("5", "update", {"type": "finalAnswer", "text": "one two", "interrupted": False}),
        ("6", "update", FINISHED),
        COMPLETED,
    ]


def test_an_interrupted_log_is_resumed_after_the_last_update(
    engine: FedEngine, guest: Guest
) -> None:
    made = guest.create()
    asked = Asked(guest, made)
    after, found = "", ""
    for word in ("one ", "two ", "three "):
        engine.words(word)
        reader = Reader(guest, log_of(made, asked.id), {"Last-Event-ID": after} if after else {})
        while (frame := reader.next()) is not None:
            after, found = frame[0], found + frame[2].get("token", "")
            if "token" in frame[2]:
                break
        reader.close()
    engine.feed.put(Final())
    asked.whole()
    assert found == "one two three "
    assert numbers(read(guest, made, Last_Event_ID=after)) == [6, 7]


def test_heartbeats_are_sent_during_silence(engine: FedEngine, guest: Guest) -> None:
    made = guest.create()
    begun = time.monotonic()
    asked = Asked(guest, made)
    reader = Reader(guest, log_of(made, asked.id))
    reader.next(), reader.next()

    def speak() -> None:
        eventually(lambda: reader.heartbeats == 3)
        engine.words("late")

    speaking = threading.Thread(target=speak)
    speaking.start()
    assert reader.next() == ("3", "update", {"type": "stream", "token": "late"})
    assert 3 <= reader.heartbeats <= (time.monotonic() - begun) / 0.26
    speaking.join()
    reader.close()
    asked.leave()


@pytest.mark.parametrize(
    ("query", "header", "first"),
    [
        ("", None, 1),
        ("fromSeq=3", None, 4),
        ("fromSeq=6", None, None),
        ("fromSeq=999", None, None),
        ("fromSeq=" + "9" * 5000, None, None),
        ("fromSeq=-1", None, 1),
        ("fromSeq=abc", None, 1),
        ("fromSeq=2.7", None, 3),
        ("fromSeq=", None, 1),
        ("", "3", 4),
        ("fromSeq=1", "4", 5),
        ("fromSeq=3", "zzz", 1),
        ("fromSeq=3", "", 1),
        ("from=3", None, 1),
    ],
)
def test_the_log_begins_after_the_requested_update(
    finished: tuple[Guest, str, str], query: str, header: str | None, first: int | None
) -> None:
    guest, made, generation_id = finished
    headers = {} if header is None else {"Last_Event_ID": header}
    found = read(guest, made, f"?generationId={generation_id}&{query}", **headers)
    assert numbers(found) == list(range(first or 6, 6))
    assert found[-1] == COMPLETED


@pytest.fixture(scope="module")
def finished() -> Iterator[tuple[Guest, str, str]]:
    """A conversation with a log of five updates, and the id of its run."""
    with serve("Hello", chat_ui="latest") as server:
        guest = Guest(server.url)
        made = guest.create()
        asked = Asked(guest, made)
        asked.whole()
        yield guest, made, asked.id


def test_generation_id_chooses_the_run(engine: FedEngine, guest: Guest) -> None:
    made, first = answered(guest, engine, "one")
    engine.words("two")
    engine.feed.put(Final())
    second = Asked(guest, made)
    second.whole()
    assert text(read(guest, made, f"?generationId={first.id}")) == "one"
    assert text(read(guest, made, f"?generationId={first.id}&generationId={second.id}")) == "one"
    for last in ("", "?generationId=", "?messageId=x", f"?generationId={second.id}"):
        assert text(read(guest, made, last)) == "two"


def test_a_run_without_a_log_is_gone(engine: FedEngine, guest: Guest) -> None:
    made, asked = answered(guest, engine, "one")
    other = guest.create()
    unknown = f"{log_of(made)}?generationId="
    for path in (
        log_of(other),
        log_of(other, asked.id),
        unknown + str(uuid.uuid4()),
        unknown + "not-a-uuid",
    ):
        answer = guest.send("GET", path)
        assert (answer.status_code, answer.content) == (200, GONE)
        assert answer.headers["content-type"] == "text/event-stream"


def test_the_run_of_another_session_is_not_found(engine: FedEngine, guest: Guest) -> None:
    made, asked = answered(guest, engine, "one")
    path = log_of(made, asked.id)
    assert told(Guest(guest.url).send("GET", path)) == NOT_FOUND
    assert told(guest.send("GET", "/conversation/000000000000000000000000/stream")) == NOT_FOUND
    for malformed in ("zzz", "abcdefg"):
        assert crashed(guest.send("GET", log_of(malformed)))
    assert told(guest.send("POST", path, json={})) == (405, "POST method not allowed")
    for accept in ("text/event-stream", "text/html"):
        page = Guest(guest.url).send("GET", path, headers={"Accept": accept})
        assert (page.status_code, page.headers["content-type"][:9]) == (404, "text/html")
    found = guest.send("HEAD", path)
    assert told(found) == (200, "")
    assert found.headers["content-type"] == "text/event-stream"
    guest.send("DELETE", f"/conversation/{made}")
    assert told(guest.send("GET", path)) == NOT_FOUND


def test_the_log_of_a_failed_answer_has_the_failure(engine: FedEngine, guest: Guest) -> None:
    made = guest.create()
    engine.feed.put(EngineFailure("no", status=422))
    asked = Asked(guest, made)
    asked.whole()
    failed = {"type": "status", "status": "error", "message": "422 no", "statusCode": 422}
    assert read(guest, made)[2:] == [
        ("3", "update", failed),
        ("", "end", {"status": "error"}),
    ]


# Messages stored during the answer


def test_an_unfinished_answer_is_stored_as_it_grows(
    engine: FedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from h2o_client.server.latest.routes import Routes

    monkeypatch.setattr(Routes, "kept_every", 0.05)
    with serve(engine, chat_ui="latest") as server:
        guest = Guest(server.url)
        made = guest.create()
        engine.words("one ")
        asked = Asked(guest, made)
        asked.begin()
        eventually(lambda: guest.said(made)[-1] == ("assistant", "one "))
        stored = guest.stored(made)[-1]
        assert stored["generationId"] == asked.id
        assert stored["materializedSeq"] == len(stored["updates"]) == 3
        assert stored["updates"][-1] == {"type": "stream", "token": "", "len": 4}
        assert "interrupted" not in stored
        # It has no effect on other runs.
        plain = guest.send("GET", f"/api/conversation/{made}").json()["messages"][-1]
        assert "generationId" not in plain
        engine.words("two")
        eventually(lambda: guest.said(made)[-1] == ("assistant", "one two"))
        engine.feed.put(Final())
        asked.whole()
        stored = guest.stored(made)[-1]
        assert (stored["interrupted"], stored["updates"][-1]) == (False, FINISHED)
        assert stored["materializedSeq"] == len(read(guest, made)) - 1


def test_an_answer_is_stored_when_its_client_leaves(engine: FedEngine, guest: Guest) -> None:
    made = guest.create()
    engine.words("one ")
    asked = Asked(guest, made)
    asked.begin()
    stored = guest.stored(made)[-1]
    assert (stored["content"], stored["generationId"]) == ("", asked.id)
    assert stored.keys().isdisjoint({"updates", "materializedSeq"})
    asked.leave()
    eventually(lambda: guest.said(made)[-1] == ("assistant", "one "))
    engine.feed.put(Final())
    eventually(lambda: guest.stored(made)[-1].get("interrupted") is False)


def test_without_an_id_the_server_creates_one(engine: FedEngine, guest: Guest) -> None:
    made = guest.create()
    engine.words("one")
    engine.feed.put(Final())
    guest.say(made, "Hello")
    stored = guest.stored(made)[-1]
    assert text(read(guest, made, f"?generationId={stored['generationId']}")) == "one"


def test_an_id_used_twice_keeps_its_first_log(engine: FedEngine, guest: Guest) -> None:
    made, asked = answered(guest, engine, "one")
    engine.words("two")
    engine.feed.put(Final())
    again = guest.say(made, "Hello", generationId=asked.id)
    assert b'"text":"two"' in again.content
    assert [content for _, content in guest.said(made)[2::2]] == ["one", "two"]
    assert text(read(guest, made, f"?generationId={asked.id}")) == "one"


@pytest.mark.parametrize("generation_id", ["abc", "", None, 7])
def test_a_malformed_id_is_refused(guest: Guest, generation_id: object) -> None:
    made = guest.create()
    assert crashed(guest.say(made, "Hello", generationId=generation_id))
    assert len(guest.stored(made)) == 1


# Bounds


def test_a_log_is_cut_off_when_its_time_is_over(engine: FedEngine) -> None:
    with serve(engine, chat_ui="latest", limits=Limits(log_seconds=0.4)) as server:
        guest = Guest(server.url)
        made = guest.create()
        engine.words("one")
        asked = Asked(guest, made)
        asked.begin()
        reader = Reader(guest, log_of(made, asked.id))
        found = reader.rest()
        assert reader.response.isclosed()  # like a complete one
        assert numbers(found) == [1, 2, 3]
        engine.feed.put(Final())
        asked.whole()
        assert read(guest, made, Last_Event_ID="3")[-1] == COMPLETED


def test_a_log_that_has_expired_is_completed_and_empty(engine: FedEngine) -> None:
    with serve(engine, chat_ui="latest", limits=Limits(logs=0)) as server:
        guest = Guest(server.url)
        made, asked = answered(guest, engine, "one")
        for query in ("", f"?generationId={asked.id}"):
            assert read(guest, made, query) == [COMPLETED]
        assert guest.send("GET", log_of(made, str(uuid.uuid4()))).content == GONE
        assert guest.said(made)[-1] == ("assistant", "one")
