"""Streamed answers of a later chat-ui: an engine controlled by the test, over a real socket."""

from __future__ import annotations

import http.client
import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from h2o_client.server import AnswerCut, EngineFailure, Turn, generation, serve
from h2o_client.server.scripted import SCRIPTED
from h2o_client.server.v0_9_6 import outbox
from h2o_client.wire import updates
from h2o_client.wire.events import Failure, Final, Status, Title, Token
from local_service import PATIENCE
from recordings import recording
from visitors import FINISHED, FedEngine, Guest, Listener, eventually

PADDING = b" " * 4096


@pytest.fixture
def engine() -> FedEngine:
    return FedEngine()


@pytest.fixture
def guest(engine: FedEngine) -> Iterator[Guest]:
    with serve(engine, chat_ui="0.10") as server:
        yield Guest(server.url)


@pytest.fixture
def listen(guest: Guest) -> Iterator[Callable[..., Listener]]:
    opened: list[Listener] = []

    def ask(conversation_id: str, inputs: str = "Hello", **more: object) -> Listener:
        data = {"inputs": inputs, "id": guest.leaf(conversation_id), **more}
        opened.append(Listener(guest, conversation_id, data))
        return opened[-1]

    yield ask
    for each in opened:
        each.close()


Listen = Callable[..., Listener]


def lines_of(body: bytes) -> list[bytes]:
    """The lines of a whole answer, without its keep-alives."""
    return [each for each in body.split(b"\n") if b'"keepAlive"' not in each]


# A whole answer


def test_an_answer_is_lines_of_json_padded_like_in_v0_10_0(engine: FedEngine, guest: Guest) -> None:
    engine.words("Hello", " there")
    engine.feed.put(Final())
    answer = guest.say(guest.create(), "Hi")
    assert answer.headers["content-type"] == "application/jsonl"
    assert answer.headers["transfer-encoding"] == "chunked"
    assert lines_of(answer.content) == [
        b'{"type":"status","status":"started"}',
        b'{"type":"title","title":"Hi"}',
        b'{"type":"stream","token":"Hello' + rb"\u0000" * 11 + b'"}',
        b'{"type":"stream","token":" there' + rb"\u0000" * 10 + b'"}',
        b'{"type":"finalAnswer","text":"Hello there","interrupted":false}',
        PADDING + b'{"type":"status","status":"finished"}',
        b"",
    ]


def test_it_has_the_shape_of_a_recorded_one(engine: FedEngine, guest: Guest) -> None:
    def kinds(body: bytes) -> list[type]:
        events = [updates.read(line) for line in lines_of(body) if line.strip()]
        return [type(each) for each in events if not isinstance(each, Token)]

    recorded = recording("v0.10.0-content-emoji")
    tokens = [
        event
        for line in lines_of(recorded.payload)
        if line.strip() and isinstance(event := updates.read(line), Token)
    ]
    for token in tokens:
        engine.feed.put(token)
    engine.feed.put(Final())
    answer = guest.say(guest.create(), "Hi")
    assert answer.headers["content-type"] == recorded.headers["content-type"]
    assert kinds(answer.content) == kinds(recorded.payload) == [Status, Title, Final, Status]
    assert answer.content.count(b"\n" + PADDING + b"{") == 1


def test_each_token_is_sent_at_once_and_headers_before_the_first(
    engine: FedEngine, guest: Guest, listen: Listen
) -> None:
    answer = listen(guest.create())
    assert answer.next() == {"type": "status", "status": "started"}
    assert answer.next()["type"] == "title"
    engine.words("one")
    assert answer.token() == "one"
    engine.words("two")
    assert answer.token() == "two"
    engine.feed.put(Final())
    assert len(answer.rest()) == 2


def test_keepalives_are_sent_about_ten_times_a_second(
    engine: FedEngine, guest: Guest, listen: Listen
) -> None:
    made = guest.create()
    begun = time.monotonic()
    answer = listen(made)

    def speak() -> None:
        eventually(lambda: answer.alive >= 4)
        engine.words("late")

    speaking = threading.Thread(target=speak)
    speaking.start()
    answer.next(), answer.next()
    assert answer.token() == "late"
    assert answer.alive <= (time.monotonic() - begun) * 10 + 2
    speaking.join()


def test_the_text_is_trimmed_at_its_end_and_lacks_special_tokens(
    engine: FedEngine, guest: Guest
) -> None:
    engine.words("  \n", "hello ", " world ", "\n")
    engine.feed.put(Token("</s>", special=True))
    engine.feed.put(Final())
    made = guest.create()
    answer = guest.say(made, "Hi")
    assert b'"text":"  \\nhello  world","interrupted"' in answer.content
    assert b"</s>" not in answer.content
    assert guest.said(made)[-1] == ("assistant", "  \nhello  world")


def test_an_answer_cut_at_its_length_has_a_final_answer(engine: FedEngine, guest: Guest) -> None:
    engine.words("cut")
    engine.feed.put(Final(finish_reason="length"))
    answer = guest.say(guest.create(), "Hi")
    assert b'"finalAnswer","text":"cut","interrupted":false' in answer.content


def test_only_the_first_message_sets_a_title(engine: FedEngine, guest: Guest) -> None:
    made = guest.create()
    titles = []
    for inputs in ("one two\nthree  four five six", "seven"):
        engine.words("yes")
        engine.feed.put(Final())
        titles.append(guest.say(made, inputs).content.count(b'"type":"title"'))
    assert titles == [1, 0]
    assert guest.tree(made)["title"] == "one two three four five"


def test_the_title_of_an_engine_is_used() -> None:
    class Titled(FedEngine):
        def title(self, message: str) -> str:
            return f" <think>{message.upper()}</think>{'!' * 200}"

    engine = Titled()
    with serve(engine, chat_ui="0.10") as server:
        guest = Guest(server.url)
        engine.words("yes")
        engine.feed.put(Final())
        made = guest.create()
        assert b'"title":"HELLO!!' in guest.say(made, "hello").content
        assert len(str(guest.tree(made)["title"])) == 100


# The model's input


def test_the_history_is_passed_to_the_engine_with_the_preprompt(
    engine: FedEngine, guest: Guest
) -> None:
    body = {"model": SCRIPTED, "preprompt": "Be brief."}
    made = guest.send("POST", "/conversation", json=body).json()["conversationId"]
    for question in (" My name\r\nis Ada. ", "What is my name?"):
        engine.words("Ada")
        engine.feed.put(Final())
        guest.say(made, question)
    assert engine.turns == [
        Turn("system", "Be brief."),
        Turn("user", " My name\nis Ada. "),
        Turn("assistant", "Ada"),
        Turn("user", "What is my name?"),
    ]


def test_no_request_changes_the_sampling_parameters(engine: FedEngine, guest: Guest) -> None:
    engine.feed.put(Final())
    guest.say(guest.create(), "Hi", parameters={"temperature": 0.9}, temperature=0.9)
    assert engine.parameters == {
        "temperature": 0.2,
        "top_p": 0.9,
        "repetition_penalty": 1.1,
        "max_new_tokens": 512,
    }


def asked(guest: Guest, engine: FedEngine, conversation_id: str, **data: object) -> int:
    engine.words("yes")
    engine.feed.put(Final())
    return guest.tell(conversation_id, data).status_code


def test_a_retry_adds_an_answer_beside_the_first(engine: FedEngine, guest: Guest) -> None:
    made = guest.create()
    asked(guest, engine, made, inputs="Is it?", id=guest.leaf(made))
    _, question, answer = guest.stored(made)
    assert asked(guest, engine, made, id=answer["id"], is_retry=True) == 200
    stored = guest.stored(made)
    assert stored[1]["children"] == [answer["id"], stored[3]["id"]]
    assert [each.content for each in engine.turns] == ["Is it?"]
    assert stored[3]["ancestors"][-1] == question["id"]


def test_an_edited_prompt_starts_a_branch(engine: FedEngine, guest: Guest) -> None:
    made = guest.create()
    asked(guest, engine, made, inputs="Is it?", id=guest.leaf(made))
    root, question, _ = guest.stored(made)
    assert asked(guest, engine, made, id=question["id"], inputs="Was it?", is_retry=True) == 200
    stored = guest.stored(made)
    assert stored[0]["children"] == [question["id"], stored[3]["id"]]
    assert [each["content"] for each in stored[1:]] == ["Is it?", "yes", "Was it?", "yes"]
    assert [each.content for each in engine.turns] == ["Was it?"]
    assert asked(guest, engine, made, id=root["id"], inputs="And?") == 200
    assert len(guest.stored(made)[0]["children"]) == 3


def test_an_impossible_retry_is_an_error(engine: FedEngine, guest: Guest) -> None:
    made = guest.create()
    asked(guest, engine, made, inputs="Is it?", id=guest.leaf(made))
    root, question, _ = guest.stored(made)
    unknown = "66b64f87-f41e-4eb7-947b-c55fc1dd021a"
    answer = guest.tell(made, {"id": unknown, "inputs": "x", "is_retry": True})
    assert (answer.status_code, answer.text) == (404, '{"message":"Message not found"}')
    for message_id in (root["id"], question["id"]):
        answer = guest.tell(made, {"id": message_id, "is_retry": True})
        assert (answer.status_code, answer.text) == (500, '{"message":"Failed to create message"}')
    assert len(guest.stored(made)) == 3


def test_continuing_sends_an_empty_prompt(engine: FedEngine, guest: Guest) -> None:
    made = guest.create()
    asked(guest, engine, made, inputs="Is it?", id=guest.leaf(made))
    asked(guest, engine, made, id=guest.leaf(made), is_continue=True)
    assert guest.said(made)[-2:] == [("user", ""), ("assistant", "yes")]


# Failures


def ended(guest: Guest, engine: FedEngine, *items: Any) -> tuple[list[dict[str, Any]], list[Any]]:
    """The updates after the tokens of an answer, and the stored message."""
    for item in items:
        engine.feed.put(item)
    made = guest.create()
    answer = guest.say(made, "Hi")
    assert answer.status_code == 200
    found = [json.loads(line) for line in lines_of(answer.content) if line.strip()]
    last = guest.stored(made)[-1]
    return [each for each in found[2:] if each["type"] != "stream"], [
        last["content"],
        last.get("interrupted"),
        last["updates"][-1].get("status"),
    ]


def error(message: str, **more: int) -> dict[str, object]:
    return {"type": "status", "status": "error", "message": message, **more}


def test_a_failure_before_the_first_token_is_reported_with_its_status(
    engine: FedEngine, guest: Guest
) -> None:
    failure = EngineFailure("loading", error_type="overloaded", status=503, retry_after=2)
    assert ended(guest, engine, failure) == (
        [error("503 loading", statusCode=503)],
        ["", None, "error"],
    )
    assert ended(guest, engine, EngineFailure("no idea")) == (
        [error("no idea")],
        ["", None, "error"],
    )


def test_a_failure_during_an_answer_keeps_the_text_so_far(engine: FedEngine, guest: Guest) -> None:
    items = Token("one "), EngineFailure("out of memory", status=500)
    assert ended(guest, engine, *items) == ([error("out of memory")], ["one ", None, "error"])


def test_a_connection_that_breaks_is_a_failure_too(engine: FedEngine, guest: Guest) -> None:
    assert ended(guest, engine, AnswerCut())[0] == [error("Connection error.")]
    assert ended(guest, engine, Token("one "), AnswerCut()) == (
        [error("terminated")],
        ["one ", None, "error"],
    )


def test_an_engine_without_a_final_event_leaves_no_final_answer(
    engine: FedEngine, guest: Guest
) -> None:
    assert ended(guest, engine, Token("one "), None) == ([FINISHED], ["one ", None, "finished"])


@pytest.mark.parametrize(
    "items", [[Final()], [None], [Token(""), Final()], [Token("\n "), Final()]]
)
def test_an_answer_without_text_is_a_failure(
    engine: FedEngine, guest: Guest, items: list[Any]
) -> None:
    said = error("No output was generated. Something went wrong.")
    told, stored = ended(guest, engine, *items)
    assert told == [said]
    assert stored[1:] == [None, "error"]


def test_an_engine_with_a_bug_is_logged_and_its_answer_fails(
    engine: FedEngine, guest: Guest, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, logger="h2o_client.server"):
        told, _ = ended(guest, engine, ZeroDivisionError("oops"))
    assert told == [error("424 Request failed during generation", statusCode=424)]
    assert "oops" in caplog.text


def test_a_token_that_cannot_be_encoded_fails_only_its_answer(
    engine: FedEngine, guest: Guest, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, logger="h2o_client.server"):
        told, stored = ended(guest, engine, Token("one "), Token(b"bytes"))  # type: ignore[arg-type]
    assert told == [error("An error occurred")]
    assert stored[0] == "one "
    assert "An answer failed" in caplog.text
    assert engine.ended.wait(PATIENCE)
    assert ended(guest, engine, Token("two"), Final())[1] == ["two", False, "finished"]


def test_half_a_surrogate_pair_becomes_the_replacement_character(
    engine: FedEngine, guest: Guest
) -> None:
    _, stored = ended(guest, engine, Token("one "), Token("\ud83e"), Final())
    assert stored == ["one \ufffd", False, "finished"]


def test_the_message_of_a_failure_is_shortened(engine: FedEngine, guest: Guest) -> None:
    told, _ = ended(guest, engine, EngineFailure("x" * 1_000_000, status=502))
    assert told == [error("502 " + "x" * 4000, statusCode=502)]


def test_a_conversation_can_continue_after_a_failure(engine: FedEngine, guest: Guest) -> None:
    made = guest.create()
    engine.feed.put(EngineFailure("loading", status=503))
    guest.say(made, "Hi")
    asked(guest, engine, made, inputs="Again?", id=guest.leaf(made))
    assert [turn.content for turn in engine.turns] == ["Hi", "", "Again?"]


# Stopping


def stop(guest: Guest, conversation_id: str) -> None:
    answer = guest.send("POST", f"/conversation/{conversation_id}/stop-generating")
    assert (answer.status_code, answer.content) == (200, b"")


def test_a_stop_ends_the_answer_at_once_and_stores_its_text(
    engine: FedEngine, guest: Guest, listen: Listen
) -> None:
    made = guest.create()
    answer = listen(made)
    engine.words("one ", "two ")
    answer.next(), answer.next(), answer.token(), answer.token()
    stop(guest, made)
    final, finished = answer.rest()
    assert json.loads(final) == {"type": "finalAnswer", "text": "one two ", "interrupted": True}
    assert finished == PADDING + b'{"type":"status","status":"finished"}\n'
    last = guest.stored(made)[-1]
    assert (last["content"], last["interrupted"]) == ("one two ", True)
    assert engine.ended.wait(PATIENCE)


def test_a_stop_does_not_wait_for_an_engine_that_ignores_it() -> None:
    let_on, begun = threading.Event(), threading.Event()

    def deaf(prompt: str) -> Iterator[str]:
        yield "one "
        begun.set()
        let_on.wait(PATIENCE)
        yield "two "

    with serve(deaf, chat_ui="0.10") as server:
        guest = Guest(server.url)
        made = guest.create()
        answer = Listener(guest, made, {"inputs": "Hi", "id": guest.leaf(made)})
        answer.next(), answer.next(), answer.token()
        assert begun.wait(PATIENCE)
        stop(guest, made)
        assert len(answer.rest()) == 2
        assert guest.said(made)[-1] == ("assistant", "one ")
        let_on.set()
        answer.close()


def test_a_stop_before_the_first_token_leaves_an_empty_answer(
    engine: FedEngine, guest: Guest, listen: Listen
) -> None:
    made = guest.create()
    answer = listen(made)
    answer.next(), answer.next()
    stop(guest, made)
    assert json.loads(answer.rest()[0]) == {
        "type": "finalAnswer",
        "text": "",
        "interrupted": True,
    }
    last = guest.stored(made)[-1]
    assert (last["content"], last["interrupted"]) == ("", True)


def test_a_stop_ends_a_waiting_answer() -> None:
    engine = FedEngine()
    with serve(engine, chat_ui="0.10", max_generations=1) as server:
        guest = Guest(server.url)
        first, second = guest.create(), guest.create()
        running = Listener(guest, first, {"inputs": "Hi", "id": guest.leaf(first)})
        assert engine.begun.wait(PATIENCE)
        waiting = Listener(guest, second, {"inputs": "Hi", "id": guest.leaf(second)})
        stop(guest, second)
        waiting.next(), waiting.next()
        assert len(waiting.rest()) == 2
        for each in (running, waiting):
            each.close()


def test_a_stop_without_a_running_answer_succeeds_and_stops_no_later_answer(
    engine: FedEngine, guest: Guest
) -> None:
    made = guest.create()
    stop(guest, made)
    asked(guest, engine, made, inputs="Hi", id=guest.leaf(made))
    stop(guest, made)
    asked(guest, engine, made, inputs="Hi", id=guest.leaf(made))
    assert [each.get("interrupted") for each in guest.stored(made)[2::2]] == [False, False]


# Disconnected clients


def test_an_answer_whose_client_has_left_is_completed_and_stored(
    engine: FedEngine, guest: Guest, listen: Listen
) -> None:
    made = guest.create()
    answer = listen(made)
    engine.words("one ")
    answer.next(), answer.next(), answer.token()
    answer.close()
    assert guest.said(made)[-1] == ("assistant", "")
    engine.words("two")
    engine.feed.put(Final())
    eventually(lambda: guest.stored(made)[-1]["content"] == "one two")
    last = guest.stored(made)[-1]
    assert last["interrupted"] is False
    assert last["updates"][-1] == FINISHED


def test_an_answer_whose_client_has_left_can_be_stopped(
    engine: FedEngine, guest: Guest, listen: Listen
) -> None:
    made = guest.create()
    answer = listen(made)
    engine.words("one ")
    answer.next(), answer.next(), answer.token()
    answer.close()
    stop(guest, made)
    assert guest.said(made)[-1] == ("assistant", "one ")


def test_a_client_that_does_not_read_is_dropped_and_its_answer_stored(
    engine: FedEngine, guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "_PATIENCE", 0.2)
    monkeypatch.setattr(generation, "_LONGEST_ANSWER", 10**9)
    made = guest.create()
    host = urlsplit(guest.url)
    data = json.dumps({"inputs": "Hi", "id": guest.leaf(made)})
    body = f'--x\r\nContent-Disposition: form-data; name="data"\r\n\r\n{data}\r\n--x--\r\n'
    head = (
        f"POST /conversation/{made} HTTP/1.1\r\nHost: {host.netloc}\r\nOrigin: {guest.url}\r\n"
        f"Cookie: hf-chat={guest.session}\r\nContent-Length: {len(body)}\r\n"
        "Content-Type: multipart/form-data; boundary=x\r\n\r\n"
    )
    with socket.create_connection((str(host.hostname), host.port or 0), timeout=PATIENCE) as client:
        client.sendall((head + body).encode())
        # More than the system's buffers for a reader, which can be several megabytes.
        engine.words(*["\0" * 100_000] * 40)
        engine.feed.put(Final())
        eventually(lambda: len(guest.stored(made)[-1]["content"]) == 4_000_000)
        last = b""
        try:
            while received := client.recv(1 << 20):
                last = received
        except ConnectionResetError:
            pass
        assert not last.endswith(b"0\r\n\r\n")


def test_the_length_of_an_answer_is_limited(
    engine: FedEngine, guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generation, "_LONGEST_ANSWER", 10)
    made = guest.create()
    engine.words(*["on "] * 9)
    assert b'"text":"on on on o","interrupted":false' in guest.say(made, "Hi").content
    assert engine.ended.wait(PATIENCE)


def test_a_conversation_deleted_during_an_answer_is_not_restored(
    engine: FedEngine, guest: Guest, listen: Listen
) -> None:
    made = guest.create()
    answer = listen(made)
    answer.next()
    assert guest.send("DELETE", f"/conversation/{made}").status_code == 200
    engine.words("one")
    engine.feed.put(Final())
    assert len(answer.rest()) == 4
    assert guest.send("GET", f"/api/conversation/{made}").status_code == 404


def test_two_concurrent_answers_in_one_conversation_are_both_stored() -> None:
    both = threading.Barrier(2)

    def answer(prompt: str) -> str:
        both.wait(PATIENCE)
        return f"{prompt}!"

    with serve(answer, chat_ui="0.10") as server:
        guest = Guest(server.url)
        made = guest.create()
        root = guest.leaf(made)
        listeners = [Listener(guest, made, {"inputs": each, "id": root}) for each in ("a", "b")]
        for each in listeners:
            each.rest()
            each.close()
        assert sorted(guest.said(made)[1:]) == [
            ("assistant", "a!"),
            ("assistant", "b!"),
            ("user", "a"),
            ("user", "b"),
        ]


# The server's limits and its shutdown


def test_a_message_beyond_the_queue_is_a_503_and_not_stored() -> None:
    engine = FedEngine()
    with serve(engine, chat_ui="0.10", max_generations=1, max_waiting=1) as server:
        guest = Guest(server.url)
        made = [guest.create() for _ in range(3)]
        running = [
            Listener(guest, each, {"inputs": "x", "id": guest.leaf(each)}) for each in made[:2]
        ]
        refused = guest.say(made[2], "x")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
        assert guest.said(made[2]) == [("system", "")]
        assert guest.tree(made[2])["title"] == "New Chat"
        # Answers whose clients have left continue, and count.
        for each in running:
            each.close()
        assert guest.say(made[2], "x").status_code == 503
        for conversation_id in made[:2]:
            stop(guest, conversation_id)
        assert engine.ended.wait(PATIENCE)
        engine.words("yes")
        engine.feed.put(Final())
        assert guest.say(made[2], "x").status_code == 200


def test_closing_stops_answers_with_and_without_a_client(leaks_nothing: None) -> None:
    engine = FedEngine()
    with serve(engine, chat_ui="0.10") as server:
        guest = Guest(server.url)
        made = guest.create()
        stays, leaves = (
            Listener(guest, made, {"inputs": "x", "id": guest.leaf(made)}) for _ in range(2)
        )
        engine.words("one")
        leaves.close()
    assert engine.ended.is_set()
    with pytest.raises((OSError, http.client.HTTPException)):
        stays.response.read()
    stays.close()


def test_a_connection_is_kept_alive_after_a_stream(engine: FedEngine, guest: Guest) -> None:
    made = guest.create()
    answer = Listener(guest, made, {"inputs": "x", "id": guest.leaf(made)})
    engine.words("one")
    engine.feed.put(Final())
    answer.rest()
    connection = answer._connection
    own = connection.sock
    connection.request("GET", "/healthcheck")
    assert connection.getresponse().read() == b"OK"
    assert connection.sock is own
    answer.close()


def test_stored_updates_are_those_that_were_sent() -> None:
    for event in (Status("started"), Title("T"), Failure("no", status=503)):
        assert updates.read(updates.write(event)) == event
