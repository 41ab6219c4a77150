"""Several turns in one conversation, whose history is stored on the server."""

from __future__ import annotations

import json
import logging
import pickle
import re
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import fake_wire
from fake_chatui import FakeChatUi
from fake_wire import Failed, Skipped
from h2o_client import (
    ConfigurationError,
    ConversationBusyError,
    H2oSession,
    IncompleteAnswerError,
    NotFoundError,
    ServerError,
    Timeouts,
    TransportTimeout,
)
from h2o_client.answer import storage
from h2o_client.backend.background_reader import Ending
from local_service import PATIENCE, at_once
from scripted import Exchange, ScriptedServer
from scripted_chatui import ID, ScriptedChatUi, page, refuses, streams, tokens

Open = Callable[..., H2oSession]
MESSAGE = f"/conversation/{ID}"
PAGE = f"{MESSAGE}/__data.json"


class Stored:
    """A conversation that the server stores only after some reads."""

    def __init__(self, *, late: int = 0) -> None:
        self.late = late
        self.messages: list[Mapping[str, object]] = []
        self.reads = 0

    def message(self, exchange: Exchange) -> None:
        asked = json.loads(exchange.request.body)
        options = asked["options"]
        streams(tokens("Hello"))(exchange)
        self.reads = 0
        self.messages += [
            {"from": "user", "content": asked["inputs"], "id": options["id"]},
            {"from": "assistant", "content": "Hello", "id": options["response_id"]},
        ]

    def read(self, exchange: Exchange) -> None:
        self.reads += 1
        page(self.messages if self.reads > self.late else self.messages[:-2])(exchange)


def asked(server: ScriptedServer) -> list[dict[str, Any]]:
    return [
        json.loads(each.body)
        for each in server.requests
        if each.path == MESSAGE and each.method == "POST"
    ]


def test_turns_share_one_conversation_that_is_deleted_at_the_end(open_session: Open) -> None:
    stored = Stored()
    with ScriptedChatUi(stored.message, read=stored.read) as server:
        with open_session(server.url).conversation() as chat:
            assert chat.id is None
            assert chat.chat("one").text == "Hello"
            assert chat.id == ID
            assert "".join(chat.stream("two")) == "Hello"
        assert [each["inputs"] for each in asked(server)] == ["one", "two"]
        assert server.count("POST", "/conversation") == 1
        assert server.paths()[-1] == f"DELETE {MESSAGE}"


def test_a_message_waits_until_the_previous_answer_is_stored(open_session: Open) -> None:
    stored = Stored(late=3)
    with ScriptedChatUi(stored.message, read=stored.read) as server:
        with open_session(server.url).conversation() as chat:
            chat.chat("one")
            chat.chat("two")
        between = server.paths()
        first = between.index(f"POST {MESSAGE}")
        second = between.index(f"POST {MESSAGE}", first + 1)
        assert between[first + 1 : second] == [f"GET {PAGE}"] * 4


def test_a_message_is_not_sent_until_the_previous_answer_is_stored(
    open_session: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_PATIENCE", "_STORED_WITHIN"):
        monkeypatch.setattr(f"h2o_client.answer.storage.{name}", 0.3)
    stored = Stored(late=1000)
    with (
        ScriptedChatUi(stored.message, read=stored.read) as server,
        open_session(server.url).conversation() as chat,
    ):
        chat.chat("one")
        with pytest.raises(ConversationBusyError, match=r"not stored .* Nothing was sent") as busy:
            chat.chat("two")
        assert (busy.value.seconds, busy.value.resendable) == (0.3, True)
        assert busy.value.conversation_id == chat.id
        assert [each["inputs"] for each in asked(server)] == ["one"]


def test_an_answer_that_is_never_stored_leaves_its_conversation_open(
    open_session: Open, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(storage._STORED_AFTER, Ending.COMPLETE, 0.1)
    stored = Stored(late=1000)
    with ScriptedChatUi(stored.message, read=stored.read) as server:
        with open_session(server.url).conversation() as chat, caplog.at_level(logging.WARNING):
            chat.chat("one")
            chat.chat("two")
        assert len(asked(server)) == 2
    assert "has not stored the last answer" in caplog.text


def test_no_message_waits_for_a_failed_answer_to_be_stored(open_session: Open) -> None:
    message = [streams(tokens("a", end=False)), streams(tokens("b"))]
    with (
        ScriptedChatUi(message) as server,
        open_session(server.url).conversation() as chat,
    ):
        with pytest.raises(IncompleteAnswerError):
            chat.chat("one")
        looked = server.count("GET", PAGE)  # for the stored messages
        assert chat.chat("two").text == "b"
        assert server.count("GET", PAGE) == looked


def test_the_system_prompt_precedes_the_first_message(open_session: Open) -> None:
    stored = Stored()
    with ScriptedChatUi(stored.message, read=stored.read) as server:
        with open_session(server.url).conversation(system="Be brief") as chat:
            chat.chat("one")
            chat.chat("two")
        inputs = [each["inputs"] for each in asked(server)]
    assert inputs == ["System: Be brief\nUser: one\nAssistant:", "two"]


def test_the_system_prompt_is_sent_until_a_message_is_accepted(open_session: Open) -> None:
    stored = Stored()
    refused = refuses(500, {"error": "Model is overloaded"})
    message = [refused, stored.message, stored.message]
    with ScriptedChatUi(message, read=stored.read) as server:
        with open_session(server.url).conversation(system="Be brief") as chat:
            with pytest.raises(ServerError):
                chat.chat("one")
            chat.chat("one")
            chat.chat("two")
        inputs = [each["inputs"] for each in asked(server)]
    assert inputs == ["System: Be brief\nUser: one\nAssistant:"] * 2 + ["two"]


def test_only_an_edit_of_the_first_prompt_includes_the_system_prompt(
    open_session: Open,
) -> None:
    stored = Stored()
    with ScriptedChatUi(stored.message, read=stored.read) as server:
        with open_session(server.url).conversation(system="Be brief") as chat:
            chat.chat("one")
            chat.chat("two")
            first, _, second, _ = [str(each.id) for each in chat.messages()]
            chat.edit(second, "zwei").read()
            chat.edit(first, "eins").read()
        inputs = [each["inputs"] for each in asked(server)]
    assert inputs[2:] == ["zwei", "System: Be brief\nUser: eins\nAssistant:"]


def test_after_a_timeout_the_next_message_waits_again_for_storage(open_session: Open) -> None:
    stored = Stored(late=4)
    with ScriptedChatUi(stored.message, read=stored.read) as server:
        with open_session(server.url).conversation() as chat:
            chat.chat("one")
            with pytest.raises(TransportTimeout):
                chat.chat("two", timeout=Timeouts(total=0.1))
            chat.chat("two")
        between = server.paths()
        first = between.index(f"POST {MESSAGE}")
        second = between.index(f"POST {MESSAGE}", first + 1)
        assert between[first + 1 : second] == [f"GET {PAGE}"] * 5


def test_stored_messages_are_read(open_session: Open) -> None:
    stored = Stored(late=1)
    with (
        ScriptedChatUi(stored.message, read=stored.read) as server,
        open_session(server.url).conversation() as chat,
    ):
        assert chat.messages() == []
        answer = chat.chat("one")
        user, assistant = chat.messages()
    assert (user.role, user.content) == ("user", "one")
    assert (assistant.role, assistant.content, assistant.id) == (
        "assistant",
        "Hello",
        answer.message_id,
    )


def test_retry_sends_the_last_prompt_again_with_its_id(open_session: Open) -> None:
    stored = Stored()
    with ScriptedChatUi(stored.message, read=stored.read) as server:
        with open_session(server.url).conversation() as chat:
            chat.chat("one")
            chat.chat("two")
            assert chat.retry(temperature=0.9).read().text == "Hello"
        one, two, again = asked(server)
    assert again["inputs"] == "two"
    assert again["options"]["is_retry"] is True
    assert again["options"]["id"] == two["options"]["id"] != one["options"]["id"]
    assert again["parameters"]["temperature"] == 0.9


def test_retry_finds_the_prompt_that_a_message_answers(open_session: Open) -> None:
    stored = Stored()
    with ScriptedChatUi(stored.message, read=stored.read) as server:
        with open_session(server.url).conversation() as chat:
            first = chat.chat("one")
            chat.chat("two")
            chat.retry(first.message_id).read()
            with pytest.raises(ConfigurationError, match="has no message 'unknown'"):
                chat.retry("unknown")
        assert asked(server)[-1]["inputs"] == "one"


def test_edit_replaces_a_prompt(open_session: Open) -> None:
    stored = Stored()
    with ScriptedChatUi(stored.message, read=stored.read) as server:
        with open_session(server.url).conversation() as chat:
            chat.chat("one")
            first = chat.messages()[0].id
            assert first is not None
            with pytest.raises(ConfigurationError, match="message is blank"):
                chat.edit(first, " ")
            chat.edit(first, "uno").read()
        edited = asked(server)[-1]
    assert (edited["inputs"], edited["options"]["id"]) == ("uno", first)


def test_a_conversation_opened_by_its_id_or_kept_is_not_deleted(open_session: Open) -> None:
    stored = Stored()
    with ScriptedChatUi(stored.message, read=stored.read) as server:
        client = open_session(server.url)
        with client.conversation(ID) as chat:
            chat.chat("Hi")
        with client.conversation(keep=True) as chat:
            chat.chat("Hi")
        client.close()
        assert server.count("DELETE") == 0
        assert server.count("POST", "/conversation") == 1


def test_delete_raises_an_error_if_it_fails(open_session: Open) -> None:
    failing = refuses(500, {"message": "Internal Error"})
    with ScriptedChatUi(delete=failing) as server:
        client = open_session(server.url, max_retries=0)
        with pytest.raises(ServerError):
            client.conversation(ID).delete()


def test_delete_deletes_once(open_session: Open) -> None:
    with ScriptedChatUi() as server:
        with open_session(server.url).conversation() as chat:
            chat.chat("Hi")
            chat.delete()
            with pytest.raises(ConfigurationError, match="closed"):
                chat.chat("And?")
        assert server.count("DELETE") == 1


@pytest.mark.parametrize(
    ("status", "error"), [(403, NotFoundError), (404, NotFoundError), (500, ServerError)]
)
def test_reading_another_sessions_conversation_is_not_found(
    open_session: Open, status: int, error: type[Exception]
) -> None:
    def failed(exchange: Exchange) -> None:
        exchange.answer(200, fake_wire.page(Skipped(), Failed(status, "No access")))

    with ScriptedChatUi(read=failed) as server, pytest.raises(error, match="No access"):
        open_session(server.url).conversation(ID).messages()


@pytest.mark.parametrize("id", ["", "../settings", "a/b", "a?b", "x" * 65, "a\nb"])
def test_an_id_that_could_leave_its_place_in_the_url_is_refused(
    open_session: Open, id: str
) -> None:
    with pytest.raises(ConfigurationError, match="Invalid conversation id"):
        open_session("http://localhost:3000").conversation(id)


def test_a_system_prompt_is_for_new_conversations(open_session: Open) -> None:
    with pytest.raises(ConfigurationError, match="system="):
        open_session("http://localhost:3000").conversation(ID, system="Be brief")


def test_stop_before_the_first_token_ends_a_waiting_stream(open_session: Open) -> None:
    def silent(exchange: Exchange) -> None:
        exchange.until_gone()
        exchange.cut()

    with ScriptedChatUi(silent) as server:
        chat = open_session(server.url).conversation()

        def stop() -> None:
            server.wait_for(lambda server: server.count("POST", MESSAGE))
            chat.stop()

        thread = threading.Thread(target=stop)
        thread.start()
        with at_once():
            answer = chat.stream("Hi").read()
        thread.join()
        assert (answer.text, answer.finish_reason) == ("", "stopped")
        assert server.count("POST", f"{MESSAGE}/stop-generating") == 1


def test_stop_while_the_conversation_is_being_created_sends_no_prompt(open_session: Open) -> None:
    creating, go_on = threading.Event(), threading.Event()

    def create(exchange: Exchange) -> None:
        creating.set()
        exchange.until(go_on)
        exchange.json({"conversationId": ID})

    with ScriptedChatUi(create=create) as server:
        chat = open_session(server.url).conversation()

        def stop() -> None:
            assert creating.wait(PATIENCE)
            chat.stop()
            go_on.set()

        thread = threading.Thread(target=stop)
        thread.start()
        assert chat.stream("Hi").read().finish_reason == "stopped"
        thread.join()
        server.wait_for(lambda server: server.count("DELETE", MESSAGE) == 1)
        assert asked(server) == []


def test_stop_without_a_running_answer_does_nothing(open_session: Open) -> None:
    open_session("http://127.0.0.1:1").conversation().stop()


def test_closing_during_an_answer_stops_it(open_session: Open) -> None:
    def unending(exchange: Exchange) -> None:
        exchange.head(200)
        exchange.write(tokens("a", end=False)[0])
        exchange.until_gone()

    with ScriptedChatUi(unending) as server:
        with open_session(server.url).conversation() as chat:
            reply = chat.stream("Hi")
            assert next(reply) == "a"
        assert list(reply) == []
        stop = f"POST {MESSAGE}/stop-generating"
        assert server.paths()[-2:] == [stop, f"DELETE {MESSAGE}"]
        assert server.count("POST", re.compile(".*stop-generating")) == 1


def test_an_abandoned_answer_is_stopped_and_a_kept_conversation_stays(
    open_session: Open,
) -> None:
    def unending(exchange: Exchange) -> None:
        exchange.head(200)
        exchange.write(tokens("a", end=False)[0])
        exchange.until_gone()

    with ScriptedChatUi(unending) as server:
        chat = open_session(server.url).conversation(ID)
        with chat.stream("Hi") as reply:
            next(reply)
        assert server.paths()[-1] == f"POST {MESSAGE}/stop-generating"
        assert server.count("DELETE") == 0


def test_a_conversation_shows_its_id_and_cannot_be_pickled(open_session: Open) -> None:
    client = open_session("http://localhost:3000")
    assert repr(client.conversation(ID)) == f"<Conversation {ID}>"
    assert repr(client.conversation()) == "<Conversation not started>"
    with pytest.raises(TypeError, match="cannot pickle"):
        pickle.dumps(client.conversation(ID))


def test_after_a_break_the_next_message_waits_for_the_stop_to_complete(
    open_session: Open,
) -> None:
    stopped = threading.Event()
    stored = Stored()

    def unending(exchange: Exchange) -> None:
        options = json.loads(exchange.request.body)["options"]
        exchange.head(200)
        exchange.write(tokens("a", end=False)[0])
        exchange.until(stopped)
        stored.messages.append({"from": "assistant", "content": "a", "id": options["response_id"]})
        exchange.cut()

    def slow_stop(exchange: Exchange) -> None:
        exchange.stall(0.3)
        exchange.answer(200, b"")
        stopped.set()

    with (
        ScriptedChatUi([unending, stored.message], read=stored.read, stop=slow_stop) as server,
        open_session(server.url).conversation(ID) as chat,
    ):
        for _ in chat.stream("one"):
            break
        assert chat.chat("two").text == "Hello"
        messages = [path for path in server.paths() if path.startswith("POST /conversation/")]
        assert messages == [f"POST {MESSAGE}", f"POST {MESSAGE}/stop-generating", f"POST {MESSAGE}"]


def test_a_conversation_closed_during_its_creation_is_deleted(open_session: Open) -> None:
    creating, go_on = threading.Event(), threading.Event()

    def create(exchange: Exchange) -> None:
        creating.set()
        exchange.until(go_on)
        exchange.json({"conversationId": ID})

    with ScriptedChatUi(create=create) as server:
        chat = open_session(server.url).conversation()
        texts: list[str] = []
        thread = threading.Thread(target=lambda: texts.extend(chat.stream("Hi")))
        thread.start()
        assert creating.wait(PATIENCE)
        chat.close()
        go_on.set()
        thread.join()
        assert texts == []
        server.wait_for(lambda server: server.count("DELETE", MESSAGE) == 1)
        assert asked(server) == []


@pytest.mark.parametrize("version", ["0.4", "head"])
def test_threads_that_create_a_conversation_at_once_get_the_same_one(version: str) -> None:
    both = threading.Barrier(2)

    def before(exchange: Exchange) -> bool:
        if exchange.request.method == "POST" and exchange.request.path == "/conversation":
            both.wait(PATIENCE)
        return False

    with FakeChatUi(version, before=before) as server, H2oSession(server.url) as client:
        conversation = client.conversation(keep=True)
        with ThreadPoolExecutor(2) as pool:
            first, second = pool.map(lambda _: conversation.create(), range(2))
        assert first == second == conversation.id
        client.close()
        assert list(server.conversations) == [first]
