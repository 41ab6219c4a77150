"""`stream` and `chat` without a session, and the order of the calls under a mocked transport."""

from __future__ import annotations

import pytest
import responses
from responses import matchers
from responses.registries import OrderedRegistry

import fake_wire
import h2o_client
from h2o_client import H2oSession, ServerError
from scripted import Exchange
from scripted_chatui import ID, LAYOUT, ScriptedChatUi, refuses, tokens

URL = "http://localhost:3000"


def test_chat_sends_one_prompt_and_leaves_no_conversation(leaks_nothing: None) -> None:
    with ScriptedChatUi() as server:
        assert h2o_client.chat("Hi", base_url=server.url).text == "Hello there"
        assert server.count("DELETE") == 1
        server.wait_for(lambda server: server.open == 0)


def test_stream_ends_its_session_with_the_reply(leaks_nothing: None) -> None:
    with ScriptedChatUi() as server:
        reply = h2o_client.stream("Hi", base_url=server.url)
        assert list(reply) == ["Hello", " there"]
        server.wait_for(lambda server: server.open == 0)
        assert server.count("DELETE") == 1


def test_an_abandoned_stream_ends_its_session(leaks_nothing: None) -> None:
    def unending(exchange: Exchange) -> None:
        exchange.head(200)
        exchange.write(tokens("Hello", end=False)[0])
        exchange.until_gone()

    with ScriptedChatUi(unending) as server:
        for token in h2o_client.stream("Hi", base_url=server.url):
            assert token == "Hello"
            break
        server.wait_for(lambda server: server.count("DELETE") == 1 and server.open == 0)


def test_a_refused_stream_ends_its_session(leaks_nothing: None) -> None:
    failing = refuses(500, {"message": "Internal Error"})
    with ScriptedChatUi(failing) as server:
        with pytest.raises(ServerError):
            h2o_client.stream("Hi", base_url=server.url)
        server.wait_for(lambda server: server.count("DELETE") == 1 and server.open == 0)


@responses.activate(registry=OrderedRegistry)
def test_the_calls_follow_the_order_of_the_protocol() -> None:
    form = "application/x-www-form-urlencoded"
    responses.get(f"{URL}/api/models", status=404, body="<!doctype html>")
    responses.get(f"{URL}/__data.json", body=fake_wire.page(LAYOUT, None))
    responses.post(
        f"{URL}/settings",
        json={"type": "redirect", "status": 303, "location": f"{URL}/"},
        match=[matchers.header_matcher({"Content-Type": form, "Referer": f"{URL}/"})],
    )
    responses.post(f"{URL}/conversation", json={"conversationId": ID})
    responses.post(
        f"{URL}/conversation/{ID}",
        body=b"".join(tokens("Hello", " there")),
        content_type="text/event-stream",
    )
    responses.delete(f"{URL}/conversation/{ID}")
    with H2oSession(URL) as client:
        assert list(client.stream("Hi")) == ["Hello", " there"]
    assert len(responses.calls) == 6
