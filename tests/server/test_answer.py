"""Streamed answers of an engine controlled by the test, read over a real socket."""

from __future__ import annotations

import http.client
import json
import logging
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from urllib.parse import urlsplit

import anyio
import pytest
from starlette.types import Message, Scope

from h2o_client.errors import GenerationError
from h2o_client.server import (
    AnswerCut,
    EngineFailure,
    Turn,
    create_app,
    serve,
)
from h2o_client.server.scripted import SCRIPTED
from h2o_client.wire.events import Final, Token
from local_service import PATIENCE
from visitors import INTERNAL_ERROR, FedEngine, Stream, Visitor


@pytest.fixture
def engine() -> FedEngine:
    return FedEngine()


@pytest.fixture
def visitor(engine: FedEngine) -> Iterator[Visitor]:
    with serve(engine, chat_ui="0.4") as server:
        yield Visitor(server.url)


@pytest.fixture
def stream(visitor: Visitor) -> Iterator[Callable[..., Stream]]:
    opened: list[Stream] = []

    def open_stream(conversation_id: str, inputs: str = "Hello") -> Stream:
        opened.append(Stream(visitor, conversation_id, inputs))
        return opened[-1]

    yield open_stream
    for each in opened:
        each.close()


def stop(visitor: Visitor, conversation_id: str) -> None:
    answer = visitor.send("POST", f"/conversation/{conversation_id}/stop-generating")
    assert (answer.status_code, answer.content) == (200, b"")


# A whole answer


def test_an_answer_has_the_events_of_the_model_server(engine: FedEngine, visitor: Visitor) -> None:
    engine.words("Hello", " there")
    engine.feed.put(Final())
    answer = visitor.ask(visitor.create(), "Hi")
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.headers["transfer-encoding"] == "chunked"
    events = [json.loads(event[5:]) for event in answer.text.strip().split("\n\n")]
    assert [event["token"]["text"] for event in events] == ["Hello", " there", "<|endoftext|>"]
    assert [event["token"]["special"] for event in events] == [False, False, True]
    assert [event["generated_text"] for event in events] == [None, None, "Hello there"]
    assert events[-1]["details"] == {"finish_reason": "eos_token"}


def test_an_answer_cut_at_its_length_has_the_finish_reason_length(
    engine: FedEngine, visitor: Visitor
) -> None:
    engine.words("Hello")
    engine.feed.put(Final(finish_reason="length"))
    last = json.loads(visitor.ask(visitor.create(), "Hi").text.strip().split("\n\n")[-1][5:])
    assert last["token"]["special"] is True
    assert last["generated_text"] == "Hello"
    assert last["details"] == {"finish_reason": "length"}


def test_each_token_is_sent_at_once_and_headers_with_the_first(
    engine: FedEngine, visitor: Visitor, stream: Callable[..., Stream]
) -> None:
    answer = stream(visitor.create())
    assert engine.begun.wait(PATIENCE)
    engine.words("one")
    assert answer.text() == "one"
    engine.words("two")
    assert answer.text() == "two"
    engine.feed.put(Final())
    assert b'"generated_text":"onetwo"' in answer.rest()


def test_an_answer_is_stored_before_its_last_event_is_sent(
    engine: FedEngine, visitor: Visitor, stream: Callable[..., Stream]
) -> None:
    made = visitor.create()
    answer = stream(made, "  Hi\n")
    engine.words("one ")
    engine.feed.put(Final())
    answer.next(), answer.next()
    assert visitor.messages(made) == [("user", "Hi"), ("assistant", "one")]
    messages = visitor.page(made)["messages"]
    assert isinstance(messages, list)
    assert [each["id"] for each in messages] == list(answer.options.values())


def test_special_tokens_are_not_part_of_the_text(engine: FedEngine, visitor: Visitor) -> None:
    made = visitor.create()
    engine.feed.put(Token("<s>", special=True))
    engine.words("one")
    engine.feed.put(Final())
    assert '"<s>"' in visitor.ask(made, "Hi").text
    assert visitor.messages(made)[-1] == ("assistant", "one")


def test_the_history_is_passed_to_the_engine(engine: FedEngine, visitor: Visitor) -> None:
    made = visitor.create()
    for question in ("My name is Ada.", "What is my name?"):
        engine.words("Ada")
        engine.feed.put(Final())
        visitor.ask(made, question)
    assert engine.turns == [
        Turn("user", "My name is Ada."),
        Turn("assistant", "Ada"),
        Turn("user", "What is my name?"),
    ]


def test_the_requests_parameters_precede_the_servers(engine: FedEngine, visitor: Visitor) -> None:
    engine.feed.put(Final())
    visitor.ask(visitor.create(), "Hi", body={"parameters": {"temperature": 0.9, "seed": 1}})
    assert engine.parameters == {
        "temperature": 0.9,
        "seed": 1,
        "top_p": 0.9,
        "repetition_penalty": 1.1,
        "max_new_tokens": 512,
    }


def test_a_retry_drops_the_messages_after_its_prompt(visitor: Visitor, engine: FedEngine) -> None:
    made = visitor.create()
    asked = {"id": str(uuid.uuid4()), "response_id": str(uuid.uuid4())}
    for options in (asked, {}, {"id": asked["id"], "is_retry": True}):
        engine.words("yes")
        engine.feed.put(Final())
        visitor.ask(made, "Is it?", body={"options": options})
    assert visitor.messages(made) == [("user", "Is it?"), ("assistant", "yes")]


def test_without_an_id_a_retry_is_a_new_message(visitor: Visitor, engine: FedEngine) -> None:
    made = visitor.create()
    for _ in range(2):
        engine.feed.put(Final())
        visitor.ask(made, "Is it?", body={"options": {"is_retry": True}})
    assert len(visitor.messages(made)) == 4


def test_an_answer_without_streaming_is_one_json_document_and_is_not_stored(
    visitor: Visitor, engine: FedEngine
) -> None:
    made = visitor.create()
    engine.words("Hello", " there")
    engine.feed.put(Final())
    answer = visitor.ask(made, "Hi", body={"stream": False})
    assert answer.headers["content-type"] == "application/json"
    assert answer.text == '[{"generated_text":"Hello there"}]'
    assert visitor.messages(made) == []


def test_a_connection_is_kept_alive_after_a_stream(visitor: Visitor, engine: FedEngine) -> None:
    made = visitor.create()
    host = urlsplit(visitor.url)
    connection = http.client.HTTPConnection(str(host.hostname), host.port, timeout=PATIENCE)
    headers = {"Content-Type": "application/json", "Cookie": f"hf-chat={visitor.session}"}
    sockets = set()
    for _ in range(2):
        engine.words("one")
        engine.feed.put(Final())
        body = json.dumps({"inputs": "Hi", "stream": True, "options": {}})
        connection.request("POST", f"/conversation/{made}", body, headers)
        assert b"generated_text" in connection.getresponse().read()
        sockets.add(connection.sock)
    connection.close()
    assert len(sockets) == 1


# Failures


def test_a_failure_before_the_first_token_is_a_status(visitor: Visitor, engine: FedEngine) -> None:
    made = visitor.create()
    engine.feed.put(GenerationError("too many tokens", error_type="validation", status=422))
    answer = visitor.ask(made, "Hi")
    assert answer.status_code == 422
    assert answer.text == '{"error":"too many tokens","error_type":"validation"}'
    assert "set-cookie" in answer.headers
    engine.feed.put(GenerationError("no idea"))
    answer = visitor.ask(made, "Hi", body={"stream": False})
    assert (answer.status_code, answer.json()["error"]) == (500, "no idea")
    assert visitor.messages(made) == []


def test_a_failure_during_the_stream_is_an_event_and_nothing_is_stored(
    visitor: Visitor, engine: FedEngine
) -> None:
    made = visitor.create()
    engine.words("one")
    engine.feed.put(GenerationError("out of memory", error_type="overloaded"))
    answer = visitor.ask(made, "Hi")
    assert answer.status_code == 200
    assert answer.text.endswith('data:{"error":"out of memory","error_type":"overloaded"}\n\n')
    assert visitor.messages(made) == []


def test_an_engine_with_a_bug_is_logged_and_its_answer_fails(
    visitor: Visitor, engine: FedEngine, caplog: pytest.LogCaptureFixture
) -> None:
    engine.feed.put(ZeroDivisionError("oops"))
    with caplog.at_level(logging.ERROR, logger="h2o_client.server"):
        answer = visitor.ask(visitor.create(), "Hi")
    assert (answer.status_code, answer.json()["error_type"]) == (424, "generation")
    assert "oops" in caplog.text


def test_an_engine_without_a_final_event_leaves_the_answer_incomplete(
    visitor: Visitor, engine: FedEngine
) -> None:
    made = visitor.create()
    engine.words("one")
    engine.feed.put(None)
    answer = visitor.ask(made, "Hi")
    assert answer.text.count("data:") == 1
    assert '"generated_text":null' in answer.text
    assert visitor.messages(made) == []


def test_an_engine_may_be_any_iterator() -> None:
    def one_word(
        turns: Sequence[Turn], parameters: Mapping[str, object], stopped: Callable[[], bool]
    ) -> Iterator[Token | Final]:
        return iter([Token("yes"), Final()])

    with serve(one_word, chat_ui="0.4") as server:
        visitor = Visitor(server.url)
        made = visitor.create()
        visitor.ask(made, "Hi")
        assert visitor.messages(made)[-1] == ("assistant", "yes")


def test_a_bug_of_the_server_is_logged_and_answered_with_json(
    visitor: Visitor, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr("h2o_client.server.store.Store.create", broken)
    with caplog.at_level(logging.ERROR, logger="h2o_client.server"):
        answer = visitor.send("POST", "/conversation", json={"model": SCRIPTED})
    assert (answer.status_code, answer.text) == (500, INTERNAL_ERROR)
    assert "POST /conversation failed" in caplog.text


@pytest.mark.parametrize("streamed", [True, False])
def test_return_full_text_repeats_the_prompt(
    visitor: Visitor, engine: FedEngine, streamed: bool
) -> None:
    made = visitor.create()
    engine.words("one")
    engine.feed.put(Final())
    body = {"parameters": {"return_full_text": True}, "stream": streamed}
    answer = visitor.ask(made, "Hi", body=body)
    assert '"generated_text":"<|prompt|>Hi<|endoftext|><|answer|>one"' in answer.text
    if streamed:
        assert visitor.messages(made)[-1] == ("assistant", "one")


def test_a_model_that_breaks_off_cuts_the_stream_and_nothing_is_stored(
    visitor: Visitor, engine: FedEngine, stream: Callable[..., Stream]
) -> None:
    made = visitor.create()
    answer = stream(made)
    engine.words("one")
    assert answer.text() == "one"
    engine.feed.put(AnswerCut("gone"))
    with pytest.raises(http.client.IncompleteRead):
        answer.rest()
    assert visitor.messages(made) == []


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("accept", ["*/*", "text/html"])
def test_a_model_that_cannot_be_reached_is_an_internal_error(
    visitor: Visitor, engine: FedEngine, streamed: bool, accept: str
) -> None:
    engine.feed.put(AnswerCut("refused"))
    headers = {"Accept": accept}
    answer = visitor.ask(visitor.create(), "Hi", body={"stream": streamed}, headers=headers)
    assert answer.status_code == 500
    assert "Internal Error" in answer.text
    assert answer.headers["content-type"].startswith("text/html") is (accept == "text/html")


def test_a_failure_has_a_retry_after_and_is_always_an_error(
    visitor: Visitor, engine: FedEngine
) -> None:
    engine.feed.put(EngineFailure("loading", status=503, retry_after=7))
    answer = visitor.ask(visitor.create(), "Hi")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "7")
    assert answer.text == '{"error":"loading"}'
    engine.feed.put(EngineFailure("moved", status=302))
    assert visitor.ask(visitor.create(), "Hi").status_code == 500


# Stopping


def test_a_stopped_stream_lacks_its_last_chunk_and_its_text_is_stored(
    engine: FedEngine, visitor: Visitor, stream: Callable[..., Stream]
) -> None:
    made = visitor.create()
    answer = stream(made)
    engine.words("one ", "two ")
    assert (answer.text(), answer.text()) == ("one ", "two ")
    stop(visitor, made)
    assert visitor.messages(made) == [("user", "Hello"), ("assistant", "one two")]
    with pytest.raises(http.client.IncompleteRead):
        answer.rest()
    assert engine.ended.wait(PATIENCE)


def test_a_stop_before_the_first_token_sends_no_http_response(
    engine: FedEngine, visitor: Visitor, stream: Callable[..., Stream]
) -> None:
    made = visitor.create()
    answer = stream(made)
    assert engine.begun.wait(PATIENCE)
    stop(visitor, made)
    with pytest.raises(http.client.RemoteDisconnected):
        answer.rest()
    assert visitor.messages(made) == [("user", "Hello"), ("assistant", "")]


def test_a_stop_without_a_running_answer_does_not_affect_the_next_answer(
    engine: FedEngine, visitor: Visitor
) -> None:
    made = visitor.create()
    stop(visitor, made)
    engine.words("one")
    engine.feed.put(Final())
    assert '"generated_text":"one"' in visitor.ask(made, "Hi").text


def test_another_stop_in_the_same_half_minute_has_no_effect(
    engine: FedEngine, visitor: Visitor, stream: Callable[..., Stream]
) -> None:
    made = visitor.create()
    stop(visitor, made)
    answer = stream(made)
    engine.words("one")
    assert answer.text() == "one"
    stop(visitor, made)
    engine.words(" two")
    assert answer.text() == " two"
    engine.feed.put(Final())
    assert b'"generated_text":"one two"' in answer.rest()


def test_a_stop_does_not_affect_other_conversations(
    engine: FedEngine, visitor: Visitor, stream: Callable[..., Stream]
) -> None:
    made = visitor.create()
    answer = stream(made)
    engine.words("one")
    assert answer.text() == "one"
    stop(visitor, visitor.create())
    engine.feed.put(Final())
    assert b'"generated_text":"one"' in answer.rest()


def test_a_stop_ends_a_stream_that_nobody_reads(visitor: Visitor, engine: FedEngine) -> None:
    made = visitor.create()
    unread = Stream(visitor, made)
    engine.words(*["x" * 100_000] * 100)
    assert unread.text() == "x" * 100_000
    stop(visitor, made)
    assert engine.ended.wait(PATIENCE)
    unread.close()


def test_an_answer_whose_client_leaves_is_completed_and_stored(
    engine: FedEngine, visitor: Visitor, stream: Callable[..., Stream]
) -> None:
    made = visitor.create()
    answer = stream(made)
    engine.words("one")
    assert answer.text() == "one"
    answer.close()
    engine.words("two")
    assert visitor.messages(made) == []
    engine.feed.put(Final())
    assert engine.ended.wait(PATIENCE)
    end = time.monotonic() + PATIENCE
    while not visitor.messages(made):
        assert time.monotonic() < end
    assert visitor.messages(made) == [("user", "Hello"), ("assistant", "onetwo")]


def test_a_client_that_leaves_before_the_first_token_stops_its_generation(
    engine: FedEngine, visitor: Visitor, stream: Callable[..., Stream]
) -> None:
    made = visitor.create()
    answer = stream(made)
    assert engine.begun.wait(PATIENCE)
    answer.close()
    assert engine.ended.wait(PATIENCE)
    assert visitor.messages(made) == []


def test_deleting_during_a_stream_lets_it_end_without_storing_it(
    engine: FedEngine, visitor: Visitor, stream: Callable[..., Stream]
) -> None:
    made = visitor.create()
    answer = stream(made)
    engine.words("one")
    assert answer.text() == "one"
    assert visitor.send("DELETE", f"/conversation/{made}").status_code == 200
    engine.feed.put(Final())
    assert b'"generated_text":"one"' in answer.rest()
    assert visitor.layout()["conversations"] == []


def test_of_two_concurrent_messages_the_last_to_finish_is_stored(
    engine: FedEngine, visitor: Visitor, stream: Callable[..., Stream]
) -> None:
    made = visitor.create()
    first = stream(made, "first")
    engine.words("one")
    assert first.text() == "one"
    engine.begun.clear()
    second = stream(made, "second")
    assert engine.begun.wait(PATIENCE)
    engine.feed.put(Final())  # which of the two gets it does not matter
    engine.feed.put(Final())
    first.rest(), second.rest()
    messages = visitor.messages(made)
    assert len(messages) == 2
    assert messages[0] in [("user", "first"), ("user", "second")]


# Limits


def test_messages_beyond_the_limit_wait_their_turn(engine: FedEngine) -> None:
    with serve(engine, max_generations=1, chat_ui="0.4") as server:
        visitor = Visitor(server.url)
        made = [visitor.create(), visitor.create(), visitor.create()]
        first = Stream(visitor, made[0])
        engine.words("one")
        assert first.text() == "one"
        waiting, unwanted = Stream(visitor, made[1]), Stream(visitor, made[2])
        unwanted.close()
        engine.feed.put(Final())
        assert b'"generated_text":"one"' in first.rest()
        engine.words("two")
        engine.feed.put(Final())
        assert b'"generated_text":"two"' in waiting.rest()
        first.close()
        waiting.close()


# Other ASGI servers


def test_if_a_connection_cannot_be_dropped_a_stop_is_an_error(engine: FedEngine) -> None:
    # An ASGI server that cannot drop a connection ends it when this is raised.
    app = create_app(engine, chat_ui="0.4")

    async def asked(method: str, path: str, body: object = None) -> list[Message]:
        sent: list[Message] = []
        waiting = [{"type": "http.request", "body": json.dumps(body).encode()}]

        async def receive() -> Message:
            if waiting:
                return waiting.pop()
            await anyio.sleep_forever()
            raise AssertionError

        async def send(message: Message) -> None:
            sent.append(message)

        headers = [(b"content-type", b"application/json"), (b"cookie", b"hf-chat=ada")]
        scope: Scope = {"type": "http", "method": method, "path": path, "headers": headers}
        scope.update(query_string=b"", server=("localhost", 80), scheme="http")
        await app(scope, receive, send)
        return sent

    async def main() -> None:
        created = await asked("POST", "/conversation", {"model": SCRIPTED})
        path = f"/conversation/{json.loads(created[1]['body'])['conversationId']}"
        question = {"inputs": "Hi", "stream": True, "options": {}}

        async def ask() -> None:
            with pytest.raises(ConnectionAbortedError):
                await asked("POST", path, question)

        async with anyio.create_task_group() as group:
            group.start_soon(ask)
            await anyio.to_thread.run_sync(engine.begun.wait)
            await asked("POST", f"{path}/stop-generating")

    anyio.run(main)
    assert engine.ended.wait(PATIENCE)
