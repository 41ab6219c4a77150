"""Answers: whole, streamed, cut by stop sequences, failing, or abandoned by the client."""

from __future__ import annotations

import base64
import json
import logging
import socket
import threading
import time
from typing import Any

import httpx
import pytest

from fake_chatui import FakeChatUi
from fake_checks import MESSAGE, PNG, every_era, stops
from fake_model import Prompt, Says
from fake_store import VERSIONS
from gateway_front import (
    MODEL,
    asking,
    assistant,
    complete,
    echoes,
    events_of,
    fronted,
    text_of,
    user,
)
from h2o_client.gateway import gateway
from local_service import PATIENCE
from scripted import Exchange, refusing_port

HELD = Says(("One", " two"), holds=True)


@every_era
def test_a_whole_answer_has_openais_shape_and_no_usage(version: str) -> None:
    with fronted(version, [Says()]) as (_, client):
        document = complete(client, user("Hi")).json()
        assert document["object"] == "chat.completion"
        assert document["id"].startswith("chatcmpl-")
        assert "usage" not in document
        (choice,) = document["choices"]
        assert choice["message"] == {"role": "assistant", "content": "Hello there", "refusal": None}
        assert choice["finish_reason"] == "stop"


@every_era
def test_a_stream_has_a_role_text_a_finish_reason_and_an_end(version: str) -> None:
    with fronted(version, [Says()]) as (_, client):
        response = complete(client, user("Hi"), stream=True)
        events = events_of(response)
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        deltas = [each["choices"][0]["delta"] for each in events]
        assert deltas[0] == {"role": "assistant", "content": ""}
        assert [each["content"] for each in deltas[1:-1]] == ["Hello", " there"]
        reasons = [each["choices"][0]["finish_reason"] for each in events]
        assert reasons == [None] * (len(events) - 1) + ["stop"]
        assert len({each["id"] for each in events}) == 1


def test_usage_is_null_if_requested_and_otherwise_left_out() -> None:
    with fronted("head") as (_, client):
        asked = complete(client, user("Hi"), stream=True, stream_options={"include_usage": True})
        assert {each["usage"] for each in events_of(asked)} == {None}
        other = complete(client, user("Hi"), stream=True, stream_options={})
        assert not any("usage" in each for each in events_of(other))


def test_the_finish_reason_of_a_length_limited_answer_is_length() -> None:
    with fronted("0.4", [Says(end="length")]) as (_, client):
        assert complete(client, user("Hi")).json()["choices"][0]["finish_reason"] == "length"


@every_era
@pytest.mark.parametrize("stream", [False, True])
def test_a_stop_sequence_ends_the_answer_and_the_model(version: str, stream: bool) -> None:
    says = [Says(("one", " E", "ND", " two"), holds=True), Says(("a E",)), Says()]
    with fronted(version, says) as (fake, client):
        response = complete(client, user("Hi"), stop=["END", "never"], stream=stream)
        assert text_of(response) == "one "
        assert text_of(complete(client, user("Hi"), stop="END", stream=stream)) == "a E"
        assert len(fake.stops) == int(stops(version))
        # The stored text differs from the text that the client has: the history becomes one prompt.
        history = (user("Hi"), {"role": "assistant", "content": "one "}, user("Go on"))
        text_of(complete(client, *history))
        assert fake.prompts[-1].last.startswith("User: Hi\nAssistant: one \nUser: Go on")


@every_era
def test_sampling_reaches_the_model_or_a_header_says_that_it_does_not(
    version: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "h2o_client"), fronted(version) as (fake, client):
        given = {"temperature": 0.5, "max_tokens": 7, "presence_penalty": 1}
        for _ in range(2):
            ignored = complete(client, user("Hi"), **given).headers["x-ignored-parameters"]
        if VERSIONS[version].before(0, 7):
            assert ignored == "presence_penalty"
            assert fake.prompts[0].parameters["temperature"] == 0.5
            assert fake.prompts[0].parameters["max_new_tokens"] == 7
        else:
            assert ignored == "temperature, max_tokens, presence_penalty"
        assert "x-ignored-parameters" not in complete(client, user("Hi")).headers
    assert len([each for each in caplog.messages if "ignores these parameters" in each]) == 1


@every_era
def test_an_image_is_sent_as_a_file_if_the_server_supports_files(version: str) -> None:
    picture = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    parts = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": picture}},
    ]
    with fronted(version, [Says()]) as (fake, client):
        response = complete(client, {"role": "user", "content": parts})
        if VERSIONS[version].takes_files_as:
            assert text_of(response) == "Hello there"
            assert fake.prompts[0].files == (PNG,)
        else:
            assert response.status_code == 400
            assert "chat-ui v0.3 to v0.6" in response.json()["error"]["message"]


@every_era
@pytest.mark.parametrize("stream", [False, True])
def test_a_failure_before_the_first_token_is_an_http_error(version: str, stream: bool) -> None:
    with fronted(version, [Says((), status=500)]) as (_, client):
        response = complete(client, user("Hi"), stream=stream)
        assert response.status_code in (502, 503)
        assert response.json()["error"]["type"] == "server_error"
        # On v0.3 to v0.6 it is a status, and the message was not accepted.
        assert ("x-should-retry" in response.headers) == (VERSIONS[version].since(0, 7))


@every_era
def test_a_failure_during_the_stream_is_an_event(version: str) -> None:
    with fronted(version, [Says(("a", " b"), end="error")]) as (_, client):
        *events, last = events_of(complete(client, user("Hi"), stream=True))
        text = "".join(each["choices"][0]["delta"].get("content", "") for each in events)
        assert text.startswith("a b")  # v0.9.6 and later retry and repeat it
        assert set(last) == {"error"}
        assert last["error"]["type"] == "server_error"


@every_era
def test_a_rate_limit_of_the_chat_ui_is_a_429_with_retry_after(version: str) -> None:
    with fronted(version, server={"rate_limit": 1}) as (_, client):
        assert complete(client, user("Hi")).status_code == 200
        refused = complete(client, user("Hi"))
        assert refused.status_code == 429
        assert refused.headers["retry-after"] == "60"
        assert refused.json()["error"]["code"] == "rate_limit_exceeded"


@every_era
def test_a_login_required_by_the_chat_ui_is_a_401(version: str) -> None:
    with fronted(version, server={"login": "401"}) as (_, client):
        for refused in (complete(client, user("Hi")), client.get("/v1/models")):
            if refused.status_code == 200:  # some list their models without a login
                continue
            assert refused.status_code == 401
            assert refused.json()["error"]["code"] == "chat_ui_login"
            assert "cookie" in refused.json()["error"]["message"]


def test_an_unreachable_chat_ui_is_a_502() -> None:
    with (
        refusing_port() as port,
        gateway(f"http://127.0.0.1:{port}") as running,
        asking(running.url) as client,
    ):
        assert client.get("/health").json() == {"status": "ok"}
        for response in (client.get("/v1/models"), complete(client, user("Hi"))):
            assert response.status_code == 502
            assert response.json()["error"]["type"] == "server_error"


def test_reasoning_is_separate_from_the_answer() -> None:
    updates = [
        {"type": "reasoning", "subtype": "stream", "token": "Let me"},
        {"type": "reasoning", "subtype": "stream", "token": " think"},
        {"type": "stream", "token": "Hello"},
        {"type": "finalAnswer", "text": "Hello", "interrupted": False},
    ]
    body = b"".join(json.dumps(each).encode() + b"\n" for each in updates)

    def before(exchange: Exchange) -> bool:
        if exchange.request.method == "POST" and MESSAGE.fullmatch(exchange.request.path):
            exchange.answer(200, body, content_type="application/jsonl")
            return True
        return False

    with (
        FakeChatUi("0.10.0", before=before) as fake,
        gateway(fake.url) as running,
        asking(running.url) as client,
    ):
        (choice,) = complete(client, user("Hi")).json()["choices"]
        assert choice["message"]["content"] == "Hello"
        assert choice["message"]["reasoning_content"] == "Let me think"
        events = events_of(complete(client, user("Hi"), stream=True))
        deltas = [each["choices"][0]["delta"] for each in events]
        assert [each.get("reasoning_content") for each in deltas[1:3]] == ["Let me", " think"]


def test_an_elicitation_is_declined() -> None:
    with fronted("head", [Says(("One",), asks=True), Says((" two",))]) as (fake, client):
        assert text_of(complete(client, user("Hi"))) == "One two"
        (asked,) = [each for each in fake.requests if each.path.endswith("/elicitation")]
        assert asked.json()["action"] == "decline"


class Leaving:
    """A client that sends a request as bytes and can disconnect at any time."""

    def __init__(self, client: httpx.Client, *messages: Any, stream: bool) -> None:
        body = {"model": MODEL, "messages": messages, "stream": stream}
        request = client.build_request("POST", "/v1/chat/completions", json=body)
        host, port = client.base_url.host, client.base_url.port
        assert port is not None
        self._socket = socket.create_connection((host, port), timeout=PATIENCE)
        lines = [f"{name}: {value}" for name, value in request.headers.items()]
        head = "\r\n".join(["POST /v1/chat/completions HTTP/1.1", *lines, "", ""])
        self._socket.sendall(head.encode() + request.read())

    def read_until(self, text: bytes) -> None:
        found = b""
        while text not in found:
            part = self._socket.recv(65536)
            assert part, found
            found += part

    def leave(self) -> None:
        self._socket.close()


@every_era
@pytest.mark.parametrize("where", ["streamed", "whole", "before the first token"])
def test_a_disconnected_client_stops_the_model_and_leaves_no_conversation(
    version: str, where: str
) -> None:
    asked = threading.Event()

    def says(prompt: Prompt) -> Says:
        asked.set()
        return HELD if where != "before the first token" else Says((), holds=True)

    with fronted(version, says) as (fake, client):
        client.get("/v1/models")
        reader = Leaving(client, user("Hi"), stream=where != "whole")
        assert asked.wait(PATIENCE)
        if where == "streamed":
            reader.read_until(b'" two"')
        reader.leave()
        end = time.monotonic() + PATIENCE
        while fake.conversations and time.monotonic() < end:
            threading.Event().wait(0.01)
        assert not fake.conversations
        if stops(version) and VERSIONS[version].since(0, 7):
            assert len(fake.stops) == 1


@every_era
def test_a_disconnect_in_a_later_turn_keeps_the_earlier_turns(version: str) -> None:
    asked = threading.Event()

    def says(prompt: Prompt) -> Says:
        if prompt.last == "two":
            asked.set()
            return HELD
        return echoes(prompt)

    with fronted(version, says) as (fake, client):
        history = (user("one"), assistant(text_of(complete(client, user("one")))))
        reader = Leaving(client, *history, user("two"), stream=False)
        assert asked.wait(PATIENCE)
        reader.leave()
        assert "three" in text_of(complete(client, *history, user("three")))
        seen = str(fake.prompts[-1].turns)
        assert "You said one" in seen
        assert "'two'" not in seen
