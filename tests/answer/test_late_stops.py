"""Stops that a busy server handles after their client gave up: they end the next answer.

The server of August 2026 keeps the mark of a stop without a running answer for five seconds.
"""

from __future__ import annotations

import re
import threading
import time
from pathlib import Path

import pytest
import requests
from requests.cookies import RequestsCookieJar

import fake_model
from cutting import BreakingPath, Cut, How
from fake_chatui import FakeChatUi
from fake_checks import check, talking
from fake_model import Says
from h2o_client import (
    AsyncH2oSession,
    H2oSession,
    IncompleteAnswerError,
    Timeouts,
)
from h2o_client.answer import storage
from h2o_client.backend import cleanup
from h2o_client.server import ScriptedAnswer, serve
from h2o_client.wire.events import Elicitation, Event, Final, Status, Title, Token, Tool
from h2o_client.wire.transcript import Transcript, without_stop
from local_service import PATIENCE
from scripted import Exchange
from ways import Way

HELLO, YES = Says(("Hello",)), Says(("Yes", " indeed"))


def test_an_answer_ended_by_an_earlier_late_stop_is_retried_once() -> None:
    # This used to be returned as an empty answer, as if the model had sent no text.
    with talking("head", answer=[HELLO, YES, YES, HELLO]) as (server, client):
        with client.conversation() as chat:
            chat.chat("one")
            assert chat.id is not None
            server.mark(chat.id)
            reply = chat.stream("two")
            assert list(reply) == ["Yes", " indeed"]
            answer = reply.read()
            assert (answer.text, answer.finish_reason) == ("Yes indeed", "stop")
            assert answer.message_id == chat.messages()[-1].id
            assert [each.content for each in chat.messages()[-2:]] == ["", "Yes indeed"]
            chat.chat("three")
        turns = [[each[1] for each in prompt.turns] for prompt in server.prompts]
        # It is sent as a retry, not as a second message.
        assert turns[1] == turns[2] == ["one", "Hello", "two"]
        assert turns[3] == ["one", "Hello", "two", "Yes indeed", "three"]
        assert server.stops == []


@pytest.mark.anyio
async def test_it_is_retried_in_async_code() -> None:
    with FakeChatUi("head", answer=[HELLO, YES, YES]) as server:
        async with AsyncH2oSession(server.url) as client, client.conversation() as chat:
            await chat.chat("one")
            assert chat.id is not None
            server.mark(chat.id)
            assert [token async for token in chat.stream("two")] == ["Yes", " indeed"]
        check(server)


@pytest.mark.parametrize("how", ["end", "reset"])
@pytest.mark.parametrize("at", [0, 250, 330, 420])
def test_it_is_retried_after_a_broken_connection(at: int, how: How) -> None:
    with (
        FakeChatUi("head", answer=[HELLO, YES, YES]) as server,
        BreakingPath(server.port, Way([None, Cut(at, how), Cut(at, how)])) as path,
    ):
        client = H2oSession(path.url, server_version="latest")
        with client, client.conversation() as chat:
            chat.chat("one")
            assert chat.id is not None
            server.mark(chat.id)
            assert chat.chat("two").text == "Yes indeed"
        check(server)
        assert len(server.prompts) == 3


def test_a_second_empty_answer_is_incomplete() -> None:
    class Marking(FakeChatUi):
        def say(self, prompt: object) -> Says:
            (conversation,) = self.conversations
            self.mark(conversation)
            return super().say(prompt)  # type: ignore[arg-type]

    with Marking("head", answer=[YES, YES, YES]) as server:
        client = H2oSession(server.url)
        with client, pytest.raises(IncompleteAnswerError, match="first token") as caught:
            client.chat("Hello")
        assert len(server.prompts) == 2
        assert (caught.value.partial, caught.value.resendable) == ("", False)
        check(server)


@pytest.mark.parametrize(
    ("version", "retries"), [("head", 0), ("0.10.0", 2), ("0.9.6", 2), ("0.9.5", 2)]
)
def test_an_empty_answer_stopped_by_another_client_is_incomplete(
    version: str, retries: int
) -> None:
    def stops(server: FakeChatUi, conversation_id: str) -> None:
        server.conversations[conversation_id].run.stopped.set()  # type: ignore[union-attr]

    with FakeChatUi(version, answer=[HELLO, Says((), holds=True)]) as server:
        client = H2oSession(server.url, max_retries=retries, server_version=version)
        with client, client.conversation() as chat:
            chat.chat("one")
            reply = chat.stream("two")
            assert chat.id is not None
            stops(server, chat.id)
            with pytest.raises(IncompleteAnswerError, match="before its first token"):
                reply.read()
        check(server)
        assert len(server.prompts) == 2


def test_an_answer_stopped_by_another_client_after_a_token_counts_as_stopped() -> None:
    with talking("head", answer=[Says(("One",), holds=True)]) as (server, client):
        reply = client.stream("Hello")
        assert next(reply) == "One"
        (conversation,) = server.conversations.values()
        assert conversation.run is not None
        conversation.run.stopped.set()
        answer = reply.read()
        assert (answer.text, answer.finish_reason) == ("One", "stopped")
        assert len(server.prompts) == 1


def test_stopping_before_the_first_token_is_not_an_error() -> None:
    with talking("head", answer=[Says((), holds=True)]) as (server, client):
        reply = client.stream("Hello")
        reply.stop()
        answer = reply.read()
        assert (answer.text, answer.finish_reason) == ("", "stopped")
        assert (len(server.prompts), len(server.stops)) == (1, 1)


@pytest.mark.parametrize("end", ["stop", "close"])
def test_a_retried_answer_can_be_stopped(end: str) -> None:
    with talking("head", answer=[HELLO, YES, Says(("One",), holds=True)]) as (server, client):
        with client.conversation() as chat:
            chat.chat("one")
            assert chat.id is not None
            server.mark(chat.id)
            reply = chat.stream("two")
            assert next(reply) == "One"
            getattr(reply, end)()
            assert (list(reply), reply.finish_reason) == ([], "stopped")
        assert len(server.stops) == 1


def test_an_answer_ended_by_a_late_stop_of_the_bundled_server_is_retried(tmp_path: Path) -> None:
    script = [ScriptedAnswer("Hello"), *[ScriptedAnswer("Yes indeed", delay=1.0)] * 2]
    with (
        serve(script, chat_ui="latest") as server,
        H2oSession(server.url) as client,
        client.conversation() as chat,
    ):
        chat.chat("one")
        client.save_cookies(tmp_path / "cookies")
        stop = f"{server.url}/conversation/{chat.id}/stop-generating"
        requests.post(stop, cookies=_read(tmp_path / "cookies"), timeout=10).raise_for_status()
        answer = chat.chat("two")
        assert (answer.text, answer.finish_reason) == ("Yes indeed", "stop")
        assert [each.content for each in chat.messages()[-2:]] == ["", "Yes indeed"]


STOP_REQUEST = re.compile(r"/conversation/[^/]+/stop-generating")


@pytest.fixture
def lasting_marks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait for a mark to expire is limited by the total timeout."""
    monkeypatch.setattr(storage, "_MARK_LASTS", 3600.0)


@pytest.mark.usefixtures("lasting_marks")
def test_no_message_waits_after_a_stop_that_ended_its_answer() -> None:
    # The second message after a stop, and each request for messages, waited up to five seconds.
    answers, options = [Says(("One",), holds=True), HELLO, YES], {"timeout": Timeouts(total=20)}
    with (
        talking("head", answer=answers, client=options) as (_, client),
        client.conversation() as chat,
    ):
        with chat.stream("one") as reply:
            next(reply)
        assert chat.chat("two").text == "Hello"
        assert [each.content for each in chat.messages()[-3:]] == ["One", "two", "Hello"]
        assert chat.chat("three").text == "Yes indeed"


@pytest.mark.usefixtures("lasting_marks")
def test_reading_messages_does_not_wait_after_a_late_stop() -> None:
    def before(exchange: Exchange) -> bool:
        if exchange.request.path.endswith("/stop-generating"):
            server.released.set()  # the answer ends while the stop request is on its way
            server.wait_for(lambda fake: server.stored)
        return False

    with FakeChatUi("head", answer=[Says(("One",), holds=True)], before=before) as server:
        client = H2oSession(server.url, timeout=Timeouts(total=20))
        with client, client.conversation() as chat:
            with chat.stream("one") as reply:
                next(reply)
            assert chat.messages()[-1].content == "One"
        assert len(server.late_stops) == 1


def test_a_late_stop_does_not_end_the_next_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The five seconds used to begin when the client gave up the stop, which was too early.
    monkeypatch.setattr(cleanup, "_STOP_WITHIN", 0.05)
    monkeypatch.setattr(storage, "_MARK_LASTS", 0.5)
    monkeypatch.setattr(fake_model, "MARK_OF_2026", 0.5)
    next_request = threading.Event()

    def before(exchange: Exchange) -> bool:
        if exchange.request.path.endswith("/stop-generating"):
            server.released.set()
            assert next_request.wait(PATIENCE)
        elif not next_request.is_set() and server.count("POST", STOP_REQUEST):
            time.sleep(0.2)  # the server is busy
            next_request.set()
            server.wait_for(lambda fake: server.late_stops)
        return False

    with FakeChatUi("head", answer=[Says(("One",), holds=True), YES], before=before) as server:
        with H2oSession(server.url) as client, client.conversation() as chat:
            with chat.stream("one") as reply:
                next(reply)
            assert chat.chat("two").text == "Yes indeed"
        assert server.violations == []


def _read(path: Path) -> RequestsCookieJar:
    jar = RequestsCookieJar()
    name, value = path.read_text().split("\n")[-2].split("\t")[-2:]
    jar.set(name, value)
    return jar


STOP = Final("", interrupted=True)


@pytest.mark.parametrize(
    ("before", "events", "expected"),
    [
        ([], [STOP], True),
        ([Status("started"), Title("T")], [Status("keepAlive"), STOP], True),
        ([Token("")], [Token("</s>", special=True), Final(interrupted=True)], True),
        ([], [Final("", interrupted=False)], False),
        ([], [Final("", interrupted=None)], False),
        ([], [Final("a", interrupted=True)], False),
        ([], [Token("a"), STOP], False),
        ([Token("a")], [STOP], False),
        # Otherwise the tool would do its work twice.
        ([Tool("call", "n", {})], [STOP], False),
        ([], [Tool("call", "n", {}), STOP], False),
        ([Elicitation(id="e", state="request")], [STOP], False),
        ([], [Token("a")], False),
        ([], [], False),
    ],
)
def test_a_stopped_answer_without_text_is_recognized(
    before: list[Event], events: list[Event], expected: bool
) -> None:
    transcript = Transcript()
    transcript.add(before)
    assert transcript.is_stopped_empty(events) is expected
    if expected:
        assert without_stop(events) == events[:-1]
