"""Features of the latest chat-ui besides runs, and the client with this version."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from h2o_client import GenerationError, H2oSession
from h2o_client.plugins.pytest import H2oServer
from h2o_client.server import Limits, ScriptedAnswer, Server, Turn, serve
from h2o_client.server.latest import frames
from h2o_client.server.scripted import SCRIPTED
from h2o_client.wire import superjson
from h2o_client.wire.events import Final
from visitors import Asked, FedEngine, Frame, Guest, Reader, crashed, told

LIVE = "/api/v2/generations/live"
NOTHING: Frame = ("", "sync", {"running": [], "ended": []})
IDLE: Frame = ("", "idle", {})


def counting(prompt: str, turns: list[Turn]) -> str:
    return f"{len(turns)}: {prompt}"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serve(counting, chat_ui="latest") as server:
        yield server


@pytest.fixture
def guest(server: Server) -> Guest:
    return Guest(server.url)


# Documents


def test_a_creation_returns_the_conversation(guest: Guest) -> None:
    body = {"model": SCRIPTED, "preprompt": "P"}
    made = guest.send("POST", "/conversation", json=body).json()
    assert made.keys() == {"conversationId", "conversation"}
    document = superjson.read(made["conversation"])
    assert isinstance(document, dict)
    assert document == guest.tree(made["conversationId"])
    (root,) = document["messages"]
    assert (root["content"], document["rootMessageId"]) == ("P", root["id"])
    # Like in a recording.
    plain = json.loads(made["conversation"])
    assert plain["json"].keys() == {
        *("messages", "title", "model", "preprompt", "rootMessageId", "id", "updatedAt"),
        *("modelId", "shared", "deployedSpaces"),
    }
    assert plain["meta"]["values"]["deployedSpaces"] == ["undefined"]


def test_a_copy_returns_the_conversation(guest: Guest) -> None:
    made = guest.create()
    guest.say(made, "Hello")
    shared = guest.send("POST", f"/conversation/{made}/share").json()["shareId"]
    body = {"model": SCRIPTED, "fromShare": shared}
    copied = Guest(guest.url).send("POST", "/conversation", json=body).json()
    document = superjson.read(copied["conversation"])
    assert isinstance(document, dict)
    assert [each["content"] for each in document["messages"][1:]] == ["Hello", "1: Hello"]


def test_models_declare_support_for_artifacts(guest: Guest) -> None:
    (model,) = guest.send("GET", "/api/models").json()
    assert model["supportsArtifacts"] is False
    for path in ("/api/v2/models", f"/api/v2/models/{SCRIPTED}"):
        found: Any = superjson.read(guest.send("GET", path).content)
        assert (found[0] if isinstance(found, list) else found)["supportsArtifacts"] is False


def test_settings_have_artifacts_until_a_post_omits_them(guest: Guest) -> None:
    assert guest.kept()["artifactsOverrides"] == {}
    body = {"artifactsOverrides": {SCRIPTED: True}, "directPaste": True}
    guest.send("POST", "/settings", json=body)
    assert guest.kept()["artifactsOverrides"] == {SCRIPTED: True}
    assert guest.kept()["directPaste"] is True
    guest.send("POST", "/api/v2/user/settings", json={"shareConversationsWithModelAuthors": False})
    assert guest.kept()["artifactsOverrides"] == {}
    assert crashed(guest.send("POST", "/settings", json={"artifactsOverrides": {"x": 1}}))


# Elicitations, of which there are none


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        ({"elicitationId": str(uuid.uuid4()), "action": "accept"}, (404, "Unknown elicitation.")),
        (
            {"elicitationId": str(uuid.uuid4()), "action": "decline", "content": {"a": 1}},
            (404, "Unknown elicitation."),
        ),
        ({"elicitationId": "x", "action": "accept"}, (400, "Invalid elicitation response")),
        (
            {"elicitationId": str(uuid.uuid4()), "action": "maybe"},
            (400, "Invalid elicitation response"),
        ),
        ({}, (400, "Invalid elicitation response")),
    ],
)
def test_an_answer_to_an_elicitation_is_refused(
    guest: Guest, body: dict[str, object], answer: tuple[int, str]
) -> None:
    found = guest.send("POST", f"/conversation/{guest.create()}/elicitation", json=body)
    assert (found.status_code, found.json()["message"]) == answer


def test_an_elicitation_is_found_only_in_the_sessions_conversations(guest: Guest) -> None:
    made = guest.create()
    nowhere = (404, '{"message":"Conversation not found"}')
    for who, conversation_id in (
        (guest, "000000000000000000000000"),
        (guest, "zzz"),
        (Guest(guest.url), made),
    ):
        path = f"/conversation/{conversation_id}/elicitation"
        assert told(who.send("POST", path, json={})) == nowhere
    path = f"/conversation/{made}/elicitation"
    headers = {"Content-Type": "application/json"}
    invalid = (400, '{"message":"Invalid elicitation response"}')
    assert told(guest.send("POST", path, data=b"{bad", headers=headers)) == invalid
    assert told(guest.send("GET", path)) == (405, "GET method not allowed")


def test_no_message_waits_for_an_elicitation(guest: Guest) -> None:
    made = guest.create()
    parked = {"resumeElicitationId": str(uuid.uuid4())}
    for inputs in ({}, {"inputs": "x"}):
        answer = guest.tell(made, {**inputs, "id": guest.leaf(made), **parked})
        assert told(answer) == (404, '{"message":"No parked message to resume"}')
    assert crashed(guest.tell(made, {"inputs": "x", **parked}))
    malformed = {"inputs": "x", "id": guest.leaf(made), "resumeElicitationId": "abc"}
    assert crashed(guest.tell(made, malformed))
    assert len(guest.stored(made)) == 1


# Running answers


def live(guest: Guest) -> list[Frame]:
    return Reader(guest, LIVE).rest()


def test_without_running_answers_an_empty_list_is_sent_twice(
    guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "_TICK", 0.05)
    assert live(guest) == [NOTHING, NOTHING, IDLE]
    answer = guest.send("GET", LIVE)
    nothing = b'event: sync\ndata: {"running":[],"ended":[]}\n\n'
    assert answer.content == nothing * 2 + b"event: idle\ndata: {}\n\n"
    assert answer.headers["content-type"] == "text/event-stream"


def test_only_its_session_is_notified_of_a_running_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "_TICK", 0.2)
    engine = FedEngine()
    with serve(engine, chat_ui="latest") as server:
        guest = Guest(server.url)
        made = guest.create()
        asked = Asked(guest, made, "Is it?")
        asked.listener.next()
        runs = {"conversationId": made, "title": "Is it?"}
        reader = Reader(guest, LIVE)
        assert reader.next() == ("", "sync", {"running": [runs], "ended": []})
        assert live(Guest(server.url)) == [NOTHING, NOTHING, IDLE]
        assert reader.next() == ("", "sync", {"running": [runs], "ended": []})
        guest.send("PATCH", f"/conversation/{made}", json={"title": "T"})
        engine.words("yes")
        engine.feed.put(Final())
        asked.whole()
        ended = {"conversationId": made, "status": "completed", "title": "T"}
        told_of = [each for each in reader.rest() if each[2] != {"running": [runs], "ended": []}]
        assert told_of == [("", "sync", {"running": [], "ended": [ended]}), NOTHING, IDLE]


def test_a_deleted_conversation_causes_no_notification(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "_TICK", 0.2)
    engine = FedEngine()
    with serve(engine, chat_ui="latest") as server:
        guest = Guest(server.url)
        made = guest.create()
        asked = Asked(guest, made)
        asked.listener.next()
        reader = Reader(guest, LIVE)
        frame = reader.next()
        assert frame is not None
        assert len(frame[2]["running"]) == 1
        log = Reader(guest, f"/conversation/{made}/stream")
        log.next()
        guest.send("DELETE", f"/conversation/{made}")
        engine.words("one")
        engine.feed.put(Final())
        asked.whole()
        # A client that is already reading the log reads it to its end.
        assert log.rest()[-1] == ("", "end", {"status": "completed"})
        assert reader.rest() == [NOTHING, NOTHING, IDLE]


def test_the_list_of_running_answers_ends_after_a_time() -> None:
    engine = FedEngine()
    with serve(engine, chat_ui="latest", limits=Limits(log_seconds=0.3)) as server:
        guest = Guest(server.url)
        asked = Asked(guest, guest.create())
        asked.listener.next()
        assert [event for _, event, _ in live(guest)] == ["sync"]
        asked.leave()


# The client


def test_the_client_detects_the_version(server: Server) -> None:
    with H2oSession(server.url) as client:
        assert client.server().versions == "chat-ui since July 2026"
        assert client.chat("Hello").text == "1: Hello"


def test_the_client_works_with_the_latest_version(server: Server) -> None:
    with H2oSession(server.url, server_version="latest", max_retries=0) as client:
        with client.conversation(system="Be brief") as chat:
            assert chat.chat("one").text == "2: one"
            assert "".join(chat.stream("two")) == "4: two"
            assert chat.retry().read().text == "4: two"
            assert [each.content for each in chat.messages() if each.role == "user"] == [
                "one",
                "two",
            ]
            chat.rename("T")
            assert [each.title for each in client.conversations()] == ["T"]
        assert list(client.conversations()) == []
        assert [each.id for each in client.models()] == [SCRIPTED]


def test_the_client_stops_an_answer_and_receives_the_next() -> None:
    answers = [ScriptedAnswer("on " * 500, pause=0.05), ScriptedAnswer("yes")]
    with (
        serve(answers, chat_ui="latest") as server,
        H2oSession(server.url, server_version="latest") as client,
        client.conversation() as chat,
    ):
        with chat.stream("Go") as reply:
            next(reply)
            reply.stop()
            for _ in reply:
                pass
        assert reply.finish_reason == "stopped"
        assert chat.chat("Go on").text == "yes"


@pytest.mark.h2o_server(chat_ui="latest")
def test_the_fixture_supports_the_latest_version(h2o_server: H2oServer) -> None:
    with H2oSession(h2o_server.url, max_retries=0) as client:
        assert client.chat("Hi").text == "Hello from h2o_server."
        assert client.server().versions == "chat-ui since July 2026"
        h2o_server.fails(503, after="one ")
        with pytest.raises(GenerationError, match="The model failed"):
            client.chat("Hi")
    assert h2o_server.prompts == ["Hi", "Hi"]
