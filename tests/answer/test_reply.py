"""One streamed answer: tokens, every kind of end, stopping, closing, leaks."""

from __future__ import annotations

import copy
import gc
import json
import pickle
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from msgspec.structs import replace

from h2o_client import (
    Answer,
    AuthenticationError,
    ConfigurationError,
    GenerationError,
    H2oError,
    H2oSession,
    IncompleteAnswerError,
    ProtocolError,
    Reply,
    Timeouts,
    Token,
    TransportError,
    TransportTimeout,
)
from h2o_client.wire.events import Failure
from h2o_client.wire.sse import write_comment
from h2o_client.wire.tgi import write_failure, write_token
from local_service import PATIENCE, at_once
from scripted import Exchange, Framing, Script, ScriptedServer
from scripted_chatui import COOKIE, ID, ScriptedChatUi, page, streams, tokens

MESSAGE = f"/conversation/{ID}"
STOP = f"POST {MESSAGE}/stop-generating"
DELETE = f"DELETE {MESSAGE}"
FRAMINGS: tuple[Framing, ...] = ("chunked", "length", "close", "http10")


@pytest.fixture
def ask(leaks_nothing: None) -> Iterator[Callable[..., tuple[ScriptedServer, Reply]]]:
    """Send a prompt to a server with this message route. Servers and sessions end with the test."""
    opened: list[Any] = []

    def start(message: Script, **options: Any) -> tuple[ScriptedServer, Reply]:
        # Nothing is stored, as for a failed answer.
        server = ScriptedChatUi(message, read=page([])).__enter__()
        opened.append(server)
        client = H2oSession(server.url, max_retries=0)
        opened.append(client)
        return server, client.stream("Hi", **options)

    yield start
    for each in reversed(opened):
        each.__exit__(None, None, None)


Ask = Callable[..., tuple[ScriptedServer, Reply]]


@pytest.mark.parametrize("framing", FRAMINGS)
def test_tokens_are_yielded_one_by_one_when_their_bytes_arrive(ask: Ask, framing: Framing) -> None:
    taken = threading.Semaphore(0)
    events = tokens("a", "b", "c", "d")

    def message(exchange: Exchange) -> None:
        size = sum(map(len, events))
        exchange.head(200, {"Set-Cookie": COOKIE}, framing=framing, length=size)
        for event in events:
            exchange.write(event)
            assert taken.acquire(timeout=PATIENCE)
        exchange.end()

    server, reply = ask(message)
    texts = []
    for token in reply:
        texts.append(token)
        assert reply.text == "".join(texts)
        assert reply.finish_reason is None
        taken.release()
        if len(texts) == 4:
            taken.release()
    assert texts == ["a", "b", "c", "d"]
    assert reply.finish_reason == "stop"
    assert reply.answer is not None
    assert replace(reply.answer, seconds=None, time_to_first_token=None) == Answer(
        text="abcd",
        finish_reason="stop",
        model=reply.model,
        conversation_id=ID,
        message_id=reply.message_id,
    )
    assert str(reply.answer) == "abcd"
    server.wait_for(lambda server: server.paths()[-1] == DELETE)


def test_a_token_does_not_wait_for_the_blank_line_after_it(ask: Ask) -> None:
    taken = threading.Event()

    def message(exchange: Exchange) -> None:
        exchange.head(200)
        exchange.write(write_token(Token("now")).rstrip(b"\n") + b"\n")
        exchange.until(taken)
        exchange.write(b"\n" + tokens()[0])
        exchange.end()

    _, reply = ask(message)
    assert next(reply) == "now"
    taken.set()
    assert list(reply) == []


@pytest.mark.parametrize("cut", range(1, 90, 7))
def test_text_is_complete_however_its_bytes_are_divided(ask: Ask, cut: int) -> None:
    texts = ["é\u2028", "\u0085x", "👩‍🚀", "\r\n", '"\\', "\u0000"]
    body = write_comment() + b"".join(tokens(*texts)).replace(b"\n", b"\r\n")

    def message(exchange: Exchange) -> None:
        exchange.head(200)
        exchange.drip(body, size=cut)
        exchange.end()

    _, reply = ask(message)
    assert list(reply) == texts


def test_an_answer_as_a_dict_can_be_logged(ask: Ask) -> None:
    _, reply = ask(streams(tokens("Hi", " there")))
    answer = reply.read()
    fields = json.loads(json.dumps(answer.to_dict()))
    assert 0 <= fields.pop("time_to_first_token") <= fields.pop("seconds") < PATIENCE
    assert fields == {
        "text": "Hi there",
        "finish_reason": "stop",
        "model": answer.model,
        "conversation_id": ID,
        "message_id": answer.message_id,
        "title": None,
        "sources": [],
        "files": [],
    }


def test_special_tokens_are_events_but_not_text(ask: Ask) -> None:
    events = [
        write_token(Token("<s>", special=True)),
        *tokens("Hi", end=False),
        write_token(Token("</s>", special=True), generated_text="<s>Hi</s>"),
    ]
    _, reply = ask(streams(events))
    seen = list(reply.events())
    assert [event.text for event in seen if isinstance(event, Token)] == ["<s>", "Hi", "</s>"]
    assert seen[-1] is reply.answer
    assert reply.text == "Hi"


def test_events_and_text_can_be_mixed(ask: Ask) -> None:
    _, reply = ask(streams(tokens("a", "b", "c")))
    assert next(reply) == "a"
    events = reply.events()
    assert next(events) == Token("b", id=1, logprob=-0.5)
    assert reply.read().text == "abc"
    assert list(events) == [reply.answer]


def test_an_answer_without_text_is_not_an_error(ask: Ask) -> None:
    _, reply = ask(streams([write_token(Token("</s>", special=True), generated_text="")]))
    assert reply.read().text == ""
    assert reply.finish_reason == "stop"


def test_the_finish_reason_is_length_if_the_server_reports_it(ask: Ask) -> None:
    last = write_token(Token("b"), generated_text="ab", finish_reason="length")
    _, reply = ask(streams([*tokens("a", end=False), last]))
    assert reply.read().finish_reason == "length"


def test_an_answer_that_was_not_streamed_is_read(ask: Ask) -> None:
    def message(exchange: Exchange) -> None:
        exchange.json([{"generated_text": "All at once"}])

    _, reply = ask(message)
    assert list(reply) == ["All at once"]


def test_the_final_event_ends_the_answer_before_the_body_ends(ask: Ask) -> None:
    def message(exchange: Exchange) -> None:
        exchange.head(200)
        for event in tokens("a"):
            exchange.write(event)
        exchange.until_gone()

    _, reply = ask(message)
    with at_once():
        assert reply.read().text == "a"


def broken_by(*events: bytes, how: str) -> Callable[[Exchange], None]:
    def message(exchange: Exchange) -> None:
        exchange.head(200, {"Set-Cookie": COOKIE})
        for event in events:
            exchange.write(event)
        if how == "end":
            exchange.end()
        elif how == "cut":
            exchange.cut()
        else:
            exchange.until_gone()

    return message


HELLO = tokens("Hello", " there", end=False)
OVERLOADED = write_failure(Failure("CUDA out of memory", "overloaded"))


@pytest.mark.parametrize(
    ("message", "error", "reason", "stops"),
    [
        (broken_by(*HELLO, how="end"), IncompleteAnswerError, "incomplete", 0),
        (broken_by(*HELLO, how="cut"), IncompleteAnswerError, "incomplete", 1),
        (broken_by(*HELLO, b"data:{tok", how="end"), IncompleteAnswerError, "incomplete", 0),
        (broken_by(*HELLO, b"data:{tok", how="cut"), IncompleteAnswerError, "incomplete", 1),
        (broken_by(*HELLO, OVERLOADED, how="end"), GenerationError, "error", 0),
        (broken_by(*HELLO, OVERLOADED, how="cut"), GenerationError, "error", 0),
        (broken_by(*HELLO, b"data:{tok}\n\n", how="end"), ProtocolError, "error", 0),
        (broken_by(*HELLO, b"data:{tok}\n\n", how="stall"), ProtocolError, "error", 1),
        (streams(HELLO, framing="close"), IncompleteAnswerError, "incomplete", 0),
    ],
)
def test_the_error_of_a_broken_answer_has_the_text_so_far(
    ask: Ask, message: Script, error: type[H2oError], reason: str, stops: int
) -> None:
    server, reply = ask(message)
    texts = []
    with pytest.raises(error) as caught:
        for token in reply:
            texts.append(token)
    assert texts == ["Hello", " there"]
    assert caught.value.partial == reply.text == "Hello there"
    assert caught.value.conversation_id == ID
    assert caught.value.resendable is False
    assert "11 characters" in str(caught.value)
    assert reply.finish_reason == reason
    assert reply.answer is None
    assert list(reply) == []
    with pytest.raises(error):
        reply.read()
    assert server.count("POST", MESSAGE) == 1
    assert cleaning(server)[-1 - stops :] == [STOP] * stops + [DELETE]


def cleaning(server: ScriptedServer) -> list[str]:
    """The requests, without those that read stored messages."""
    return [path for path in server.paths() if not path.startswith("GET ")]


def test_the_error_contains_the_model_servers_message(ask: Ask) -> None:
    _, reply = ask(broken_by(OVERLOADED, how="end"))
    with pytest.raises(GenerationError, match="CUDA") as caught:
        reply.read()
    assert caught.value.error_type == "overloaded"


def test_a_reset_during_the_stream_is_a_transport_error_with_the_text_so_far(ask: Ask) -> None:
    read = threading.Event()

    def message(exchange: Exchange) -> None:
        exchange.head(200)
        exchange.write(HELLO[0])
        exchange.until(read)
        exchange.reset()

    server, reply = ask(message)
    assert next(reply) == "Hello"
    read.set()
    with pytest.raises(TransportError) as caught:
        reply.read()
    assert caught.value.partial == "Hello"
    assert cleaning(server)[-2:] == [STOP, DELETE]


@pytest.mark.parametrize("body", [b"<!doctype html><h1>Log in</h1>", b"nonsense"])
def test_an_unknown_format_is_a_protocol_error_with_an_excerpt(ask: Ask, body: bytes) -> None:
    def page(exchange: Exchange) -> None:
        exchange.answer(200, body, content_type="text/html")

    _, reply = ask(page)
    with pytest.raises(ProtocolError) as caught:
        reply.read()
    assert caught.value.excerpt == body.decode()


def test_a_login_page_instead_of_a_stream_is_an_authentication_error(ask: Ask) -> None:
    def wall(exchange: Exchange) -> None:
        exchange.json({"type": "redirect", "status": 302, "location": "https://id.example/auth"})

    _, reply = ask(wall)
    with pytest.raises(AuthenticationError, match=r"id\.example"):
        reply.read()


def test_stream_raises_the_first_token_timeout(ask: Ask) -> None:
    def silent(exchange: Exchange) -> None:
        exchange.until_gone()
        exchange.cut()

    with pytest.raises(TransportTimeout) as caught:
        ask(silent, timeout=Timeouts(first_token=0.3))
    assert caught.value.which == "first_token"
    assert caught.value.resendable is False


def test_comments_do_not_count_as_a_first_token(ask: Ask) -> None:
    def commenting(exchange: Exchange) -> None:
        exchange.head(200)
        while not exchange.gone(0.05):
            exchange.write(write_comment("alive"))

    _, reply = ask(commenting, timeout=Timeouts(first_token=0.4))
    with pytest.raises(TransportTimeout) as caught:
        reply.read()
    assert (caught.value.which, caught.value.seconds) == ("first_token", 0.4)


def test_comments_do_not_restart_the_idle_timeout(ask: Ask) -> None:
    def commenting(exchange: Exchange) -> None:
        exchange.head(200)
        exchange.write(HELLO[0])
        while not exchange.gone(0.05):
            exchange.write(write_comment("alive"))

    server, reply = ask(commenting, timeout=Timeouts(idle=0.4))
    with pytest.raises(TransportTimeout) as caught:
        reply.read()
    assert (caught.value.which, caught.value.partial) == ("idle", "Hello")
    assert server.paths()[-2:] == [STOP, DELETE]


def test_a_slow_caller_does_not_cause_an_idle_timeout(ask: Ask) -> None:
    def message(exchange: Exchange) -> None:
        exchange.head(200)
        exchange.write(HELLO[0])
        exchange.until(taken)
        for event in tokens("!"):
            exchange.write(event)
        exchange.end()
        sent.set()

    taken, sent = threading.Event(), threading.Event()
    _, reply = ask(message, timeout=Timeouts(idle=0.5))
    assert next(reply) == "Hello"
    taken.set()
    assert sent.wait(PATIENCE)
    threading.Event().wait(0.7)  # longer than idle
    assert list(reply) == ["!"]


def test_the_total_timeout_ends_an_endless_answer(ask: Ask) -> None:
    def unending(exchange: Exchange) -> None:
        exchange.head(200)
        while not exchange.gone(0.02):
            exchange.write(HELLO[0])

    _, reply = ask(unending, timeout=Timeouts(total=2))
    with pytest.raises(TransportTimeout) as caught:
        reply.read()
    assert caught.value.which == "total"
    assert caught.value.partial.startswith("HelloHello")


def unending(exchange: Exchange) -> None:
    """Send a token, then nothing until the client disconnects."""
    exchange.head(200)
    exchange.write(HELLO[0])
    exchange.until_gone()


def test_leaving_the_iteration_stops_the_model_and_deletes_the_conversation(ask: Ask) -> None:
    server, reply = ask(unending)
    for _ in reply:
        break
    with at_once():
        reply.close()
        reply.close()
    assert server.paths()[-2:] == [STOP, DELETE]
    assert reply.finish_reason == "stopped"
    assert reply.text == "Hello"
    assert list(reply) == []


def test_a_garbage_collected_reply_is_cleaned_up(ask: Ask) -> None:
    server, reply = ask(unending)
    next(reply)
    del reply
    gc.collect()
    server.wait_for(lambda server: server.paths()[-2:] == [STOP, DELETE])


def test_an_exception_in_the_callers_code_cleans_up_and_is_raised(
    ask: Ask,
) -> None:
    server, reply = ask(unending)
    with pytest.raises(ZeroDivisionError), reply:
        for token in reply:
            len(token) / 0
    assert server.paths()[-2:] == [STOP, DELETE]


def test_a_finished_answer_is_not_stopped(ask: Ask) -> None:
    server, reply = ask(streams(tokens("a")))
    with reply:
        reply.read()
        reply.stop()
    server.wait_for(lambda server: server.count("DELETE") == 1)
    assert server.count("POST", re.compile(".*/stop-generating")) == 0


@pytest.fixture
def last_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a stop the client waits for the last text, also on a busy machine."""
    monkeypatch.setattr("h2o_client.answer.ending._LATE_TEXT_WITHIN", PATIENCE)


@pytest.mark.usefixtures("last_words")
def test_after_stop_the_remaining_text_is_returned_without_an_error(ask: Ask) -> None:
    stopped = threading.Event()

    def message(exchange: Exchange) -> None:
        exchange.head(200)
        exchange.write(HELLO[0])
        exchange.until(stopped)
        exchange.write(HELLO[1])
        exchange.cut()  # like chat-ui: without a final event or a last chunk

    server, reply = ask(message)
    texts = []
    for token in reply:
        texts.append(token)
        reply.stop()
        stopped.set()
    assert texts == ["Hello", " there"]
    assert reply.answer is not None
    assert (reply.answer.text, reply.finish_reason) == ("Hello there", "stopped")
    assert server.count("POST", f"{MESSAGE}/stop-generating") == 1
    assert server.paths()[-1] == DELETE


def test_stop_from_another_thread_ends_the_reading_even_if_the_server_ignores_it(
    ask: Ask,
) -> None:
    server, reply = ask(unending)
    assert next(reply) == "Hello"
    thread = threading.Thread(target=reply.stop)
    thread.start()
    with at_once():
        assert list(reply) == []
    thread.join()
    assert reply.finish_reason == "stopped"
    assert server.count("POST", f"{MESSAGE}/stop-generating") == 1


@pytest.mark.usefixtures("last_words")
def test_a_failure_after_a_stop_is_not_an_error(ask: Ask) -> None:
    stopped = threading.Event()

    def message(exchange: Exchange) -> None:
        exchange.head(200)
        exchange.write(HELLO[0])
        exchange.until(stopped)
        exchange.write(write_failure(Failure("aborted")))
        exchange.end()

    _, reply = ask(message)
    assert next(reply) == "Hello"
    reply.stop()
    stopped.set()
    assert reply.read().finish_reason == "stopped"


def test_close_from_another_thread_ends_the_reader_at_once(ask: Ask) -> None:
    _, reply = ask(unending)
    assert next(reply) == "Hello"
    thread = threading.Thread(target=reply.close)
    thread.start()
    with at_once():
        assert list(reply) == []
    thread.join()
    assert reply.finish_reason == "stopped"


def test_a_reply_shows_its_state_and_cannot_be_copied_or_pickled(ask: Ask) -> None:
    _, reply = ask(streams(tokens("Hi")))
    assert repr(reply) == "<Reply unfinished, 2 characters>" or "unfinished" in repr(reply)
    reply.read()
    assert repr(reply) == "<Reply stop, 2 characters>"
    for forbidden in (copy.copy, pickle.dumps):
        with pytest.raises(TypeError, match="cannot pickle a"):
            forbidden(reply)


@pytest.mark.parametrize("how", ["ended", "broken off", "raised", "stopped"])
def test_a_hundred_runs_leave_nothing_behind(leaks_nothing: None, how: str) -> None:
    """The server has received one DELETE for each conversation."""
    made: list[str] = []
    lock = threading.Lock()

    def create(exchange: Exchange) -> None:
        with lock:
            made.append(f"{len(made):024x}")
            exchange.json({"conversationId": made[-1]})

    def message(exchange: Exchange) -> None:
        if how == "ended":
            streams(tokens("a", "b"))(exchange)
        elif how == "raised":
            broken_by(*HELLO, OVERLOADED, how="end")(exchange)
        else:
            exchange.head(200)
            exchange.write(HELLO[0])
            exchange.until_gone()
            exchange.cut()

    with ScriptedChatUi(message, create=create) as server:
        with H2oSession(server.url) as client:
            for _ in range(25):
                try:
                    for _token in client.stream("Hi"):
                        if how in ("broken off", "stopped"):
                            break
                except GenerationError:
                    assert how == "raised"
        deleted = [each.path for each in server.requests if each.method == "DELETE"]
    assert sorted(deleted) == [f"/conversation/{each}" for each in made]


def test_a_long_answer_takes_little_memory_beyond_its_text(leaks_nothing: None) -> None:
    import tracemalloc

    block = b"".join(tokens(*["word "] * 1000, end=False))

    def message(exchange: Exchange) -> None:
        exchange.head(200)
        for _ in range(100):
            exchange.write(block)
        exchange.write(tokens()[0])
        exchange.end()

    with ScriptedChatUi(message) as server, H2oSession(server.url) as client:
        reply = client.stream("Hi")
        next(reply)
        tracemalloc.start()
        count = 1 + sum(1 for _ in reply)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert count == 100_000
    assert len(reply.text) == 500_000
    assert peak < 8_000_000


def test_two_concurrent_answers_in_a_conversation_raise_a_configuration_error() -> None:
    with ScriptedChatUi(unending) as server, H2oSession(server.url) as client:
        with client.conversation() as chat:
            reply = chat.stream("Hi")
            with pytest.raises(ConfigurationError, match="unfinished"):
                chat.stream("And?")
            assert next(reply) == "Hello"
        assert len([each for each in server.requests if b"inputs" in each.body]) == 1
        assert json.loads(server.requests[-3].body)["inputs"] == "Hi"


def and_then(script: Script, do: Callable[[], object]) -> Script:
    def message(exchange: Exchange) -> None:
        script(exchange)
        do()

    return message


def test_a_complete_but_unread_answer_is_not_stopped(ask: Ask) -> None:
    sent = threading.Event()
    server, reply = ask(and_then(streams(tokens("a", "b")), sent.set))
    assert next(reply) == "a"
    assert sent.wait(PATIENCE)
    reply.close()
    server.wait_for(lambda server: server.paths()[-2:] == [f"POST {MESSAGE}", DELETE])


def test_stopping_a_complete_but_unread_answer_returns_all_of_it(ask: Ask) -> None:
    sent = threading.Event()
    server, reply = ask(and_then(streams(tokens("a", "b")), sent.set))
    assert next(reply) == "a"
    assert sent.wait(PATIENCE)
    reply.stop()
    assert list(reply) == ["b"]
    assert reply.finish_reason == "stop"
    assert server.count("POST", f"{MESSAGE}/stop-generating") == 0


@pytest.mark.parametrize("late", [b"data:{bad\n\n", OVERLOADED, b"<html>\n\n"])
def test_data_after_the_final_event_causes_no_error(ask: Ask, late: bytes) -> None:
    _, reply = ask(streams([*tokens("a"), late]))
    assert reply.read().text == "a"


def test_endless_data_after_the_final_event_is_not_read(ask: Ask) -> None:
    def message(exchange: Exchange) -> None:
        exchange.head(200)
        for event in tokens("a"):
            exchange.write(event)
        while not exchange.gone(0):
            exchange.write(b": " + b"x" * 60_000 + b"\n")

    _, reply = ask(message)
    assert reply.read().text == "a"


def test_endless_comments_do_not_count_as_a_first_token(ask: Ask) -> None:
    def message(exchange: Exchange) -> None:
        exchange.head(200)
        while not exchange.gone(0):
            exchange.write(write_comment("x" * 1000))

    _, reply = ask(message, timeout=Timeouts(first_token=0.5))
    with pytest.raises(TransportTimeout) as caught, at_once():
        reply.read()
    assert caught.value.which == "first_token"


def test_an_invalid_chunk_does_not_keep_an_abandoned_reply_alive(ask: Ask) -> None:
    def message(exchange: Exchange) -> None:
        exchange.head(200)
        exchange.send(b"%x\r\n%b\r\n" % (len(HELLO[0]), HELLO[0]) + b"zz\r\n")
        exchange.until_gone()

    server, reply = ask(message)
    assert next(reply) == "Hello"
    gc.disable()
    try:
        del reply
        server.wait_for(lambda server: server.paths()[-2:] == [STOP, DELETE])
    finally:
        gc.enable()


@pytest.mark.usefixtures("last_words")
def test_stop_does_not_wait_for_a_slow_response(leaks_nothing: None) -> None:
    go_on, stopped = threading.Event(), threading.Event()

    def message(exchange: Exchange) -> None:
        exchange.head(200)
        exchange.write(HELLO[0])
        exchange.until(stopped)
        exchange.write(HELLO[1])
        exchange.cut()

    def slow(exchange: Exchange) -> None:
        exchange.until(go_on)
        exchange.answer(200, b"")

    with ScriptedChatUi(message, stop=slow) as server, H2oSession(server.url) as client:
        reply = client.stream("Hi")
        assert next(reply) == "Hello"
        reply.stop()  # which is not answered before go_on
        stopped.set()
        assert next(reply) == " there"
        go_on.set()
        assert reply.read().finish_reason == "stopped"
        assert server.paths()[-2:] == [STOP, DELETE]


def updates(*documents: dict[str, object], pause: float = 0.0, end: bool = True) -> Script:
    """A message route that sends JSON lines, like chat-ui v0.7 and later."""

    def message(exchange: Exchange) -> None:
        exchange.head(200, {"Content-Type": "application/jsonl", "Set-Cookie": COOKIE})
        for document in documents:
            exchange.write(json.dumps(document).encode() + b"\n")
            exchange.stall(pause)
            if exchange.gone(0):
                return
        if end:
            exchange.end()
        else:
            exchange.until_gone()

    return message


ALIVE: dict[str, object] = {"type": "status", "status": "keepAlive"}
STARTED: dict[str, object] = {"type": "status", "status": "started"}
TOKEN: dict[str, object] = {"type": "stream", "token": "a"}


def test_keepalives_do_not_restart_the_idle_timeout(ask: Ask) -> None:
    # v0.9.3 and later send about ten a second during silence, so no socket times out.
    script = updates(STARTED, TOKEN, *[ALIVE] * 1000, pause=0.05)
    _, reply = ask(script, timeout=Timeouts(idle=0.4))
    with pytest.raises(TransportTimeout) as raised:
        reply.read()
    assert (raised.value.which, raised.value.partial) == ("idle", "a")


def test_keepalives_do_not_count_as_a_first_token(ask: Ask) -> None:
    timeout = Timeouts(first_token=0.4)
    _, reply = ask(updates(STARTED, *[ALIVE] * 1000, pause=0.05), timeout=timeout)
    with pytest.raises(TransportTimeout) as raised:
        reply.read()
    assert raised.value.which == "first_token"


def test_other_updates_restart_the_idle_timeout(ask: Ask) -> None:
    tool: dict[str, object] = {"type": "tool", "subtype": "eta", "eta": 1}
    final: dict[str, object] = {"type": "finalAnswer", "text": "a"}
    script = updates(STARTED, TOKEN, *[tool] * 6, final, pause=0.4)
    _, reply = ask(script, timeout=Timeouts(idle=2))
    assert reply.read().text == "a"
