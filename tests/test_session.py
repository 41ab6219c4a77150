"""`H2oSession` against a scripted chat-ui of 2023: its requests, their order and number."""

from __future__ import annotations

import inspect
import json
import logging
import os
import pickle
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest

import fake_wire
import h2o_client
from fake_chatui import FakeChatUi
from fake_documents import PARAMETERS
from fake_model import Says
from h2o_client import (
    AuthenticationError,
    ConfigurationError,
    H2oSession,
    ModelUnavailableError,
    NotFoundError,
    ServerError,
    StatusError,
    TermsNotAcceptedError,
    Timeouts,
    TransportError,
    UnsupportedError,
)
from local_service import PATIENCE, at_once
from programs import start
from scripted import Exchange, ScriptedServer, certificates, refusing_port
from scripted_chatui import (
    COOKIE,
    ID,
    LAYOUT,
    MODEL,
    ScriptedChatUi,
    accepts_settings,
    creates,
    layout,
    refuses,
    tokens,
)

Open = Callable[..., H2oSession]
MESSAGE = f"/conversation/{ID}"


def form(server: ScriptedServer) -> dict[str, str]:
    """The settings that were posted."""
    (body,) = [each.body for each in server.requests if each.path == "/settings"]
    return dict(parse_qsl(body.decode(), keep_blank_values=True))


def sent(server: ScriptedServer, path: str = MESSAGE) -> dict[str, Any]:
    """The one message that was posted."""
    (message,) = [each for each in server.requests if each.path == path and each.method == "POST"]
    value: dict[str, Any] = json.loads(message.body)
    return value


def with_settings(**settings: object) -> Mapping[str, object]:
    stored = {"ethicsModalAcceptedAt": None, "activeModel": "other", "searchEnabled": False}
    shares = {"shareConversationsWithModelAuthors": True}
    return {**LAYOUT, "settings": {**stored, **shares, **settings}}


def test_a_session_sends_nothing_before_the_first_call() -> None:
    with ScriptedChatUi() as server:
        with H2oSession(server.url) as client:
            client.conversation()
            assert client.base_url == server.url
        assert server.requests == []


def test_an_answer_needs_these_requests_in_this_order(open_session: Open) -> None:
    with ScriptedChatUi() as server:
        client = open_session(server.url)
        for _ in range(2):
            assert "".join(client.stream("Hi")) == "Hello there"
            server.wait_for(lambda server: server.paths()[-1] == f"DELETE {MESSAGE}")
        one_answer = ["POST /conversation", f"POST {MESSAGE}", f"DELETE {MESSAGE}"]
        found = ["GET /api/models", "GET /__data.json", "POST /settings"]
        assert server.paths() == [*found, *one_answer, *one_answer]
        assert server.connections <= 2  # one more for the deletions in the background


def test_by_default_settings_accept_the_terms_and_turn_sharing_off(open_session: Open) -> None:
    with ScriptedChatUi() as server:
        open_session(server.url).chat("Hi")
        assert form(server) == {
            "activeModel": MODEL,
            "ethicsModalAccepted": "true",
            "ethicsModalAcceptedAt": "",
        }


def test_settings_are_posted_as_the_caller_chose(open_session: Open) -> None:
    prompts = {"other": "Be brief"}
    root = layout(with_settings(customPrompts=prompts))
    with ScriptedChatUi(root=root) as server:
        client = open_session(
            server.url, model="other", accept_terms=False, share_data=True, web_search=True
        )
        client.settings()
        posted = form(server)
    assert json.loads(posted.pop("customPrompts")) == prompts
    assert posted == {
        "activeModel": "other",
        "shareConversationsWithModelAuthors": "true",
        "searchEnabled": "true",
    }


def test_suitable_settings_of_a_browsers_cookie_are_not_changed(
    open_session: Open,
) -> None:
    root = layout(
        with_settings(ethicsModalAcceptedAt="2023-09-01", shareConversationsWithModelAuthors=False)
    )
    with ScriptedChatUi(root=root) as server:
        open_session(server.url, cookies="hf-chat=mine").chat("Hi")
        assert server.count("POST", "/settings") == 0
        assert {each.cookies["hf-chat"] for each in server.requests} >= {"mine"}


def test_other_settings_of_a_browsers_cookie_are_kept(open_session: Open) -> None:
    prompts = {MODEL: "Answer in Welsh"}
    root = layout(with_settings(customPrompts=prompts, searchEnabled=True))
    with ScriptedChatUi(root=root) as server:
        open_session(server.url, cookies="hf-chat=mine").chat("Hi")
        posted = form(server)
    assert json.loads(posted.pop("customPrompts")) == prompts
    assert posted == {
        "activeModel": "other",
        "ethicsModalAccepted": "true",
        "ethicsModalAcceptedAt": "",
        "searchEnabled": "true",
    }


def test_the_session_cookie_is_sent_over_http_to_this_machine() -> None:
    with ScriptedChatUi() as server:
        with H2oSession(server.url.replace("127.0.0.1", "localhost")) as client:
            client.chat("Hi")
        cookies = [each.cookies.get("hf-chat") for each in server.requests]
    assert cookies == [None, "e41adc77", "e41adc77", "e41adc77", "e41adc77", "e41adc77"]


def test_the_session_cookie_is_sent_over_tls() -> None:
    certs = certificates()
    with ScriptedChatUi(tls=certs.server) as server:
        with H2oSession(server.url, verify=Path(certs.ca)) as client:
            client.chat("Hi")
        assert [each.cookies.get("hf-chat") for each in server.requests][1:] == ["e41adc77"] * 5


def test_a_303_response_also_accepts_the_settings(open_session: Open) -> None:
    def redirects(exchange: Exchange) -> None:
        referer = exchange.request.headers["Referer"] or ""
        exchange.answer(303, b"", headers={"Location": referer})

    with ScriptedChatUi(settings=redirects) as server:
        assert open_session(server.url).chat("Hi").text == "Hello there"


def test_a_server_that_expects_https_also_works_over_http(open_session: Open) -> None:
    def strict(exchange: Exchange) -> None:
        if (exchange.request.headers["Referer"] or "").startswith("https:"):
            accepts_settings(exchange)
        else:
            exchange.answer(403, b"Invalid referer for POST request")

    with ScriptedChatUi(settings=strict) as server:
        client = open_session(server.url)
        assert client.chat("Hi").text == client.chat("Hi").text == "Hello there"
        assert server.count("POST", "/settings") == 2


@pytest.mark.parametrize(
    "answer",
    [
        (302, {}, {"Location": "https://login.example/authorize?state=s3cret"}),
        (
            200,
            {
                "type": "redirect",
                "status": 302,
                "location": "https://login.example/authorize?state=s3cret",
            },
            {},
        ),
    ],
)
@pytest.mark.parametrize("route", ["root", "settings", "create", "message"])
def test_a_redirect_to_a_login_is_an_error(
    open_session: Open, answer: tuple[int, object, dict[str, str]], route: str
) -> None:
    walled: dict[str, Any] = {route: refuses(*answer)}
    with ScriptedChatUi(**walled) as server:
        client = open_session(server.url)
        with pytest.raises(AuthenticationError, match=r"login\.example/authorize") as caught:
            client.chat("Hi")
        assert "s3cret" not in str(caught.value)
        assert "Bearer token cannot chat" in str(caught.value)


def test_many_threads_post_the_settings_once(open_session: Open) -> None:
    with FakeChatUi("0.9.6", answer=lambda prompt: Says(("Hello",))) as server:
        client = open_session(server.url)
        texts: list[str] = []
        threads = [
            threading.Thread(target=lambda: texts.append(client.chat("Hi").text)) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert texts == ["Hello"] * 8
        assert server.count("POST", "/settings") == 1
        client.close()
        assert not server.conversations


def test_failed_settings_are_posted_again_with_the_next_prompt(open_session: Open) -> None:
    settings = [refuses(500, {"message": "Internal Error"}), accepts_settings]
    with ScriptedChatUi(settings=settings) as server:
        client = open_session(server.url)
        with pytest.raises(ServerError):
            client.chat("Hi")
        assert client.chat("Hi").text == "Hello there"


def test_settings_refused_with_status_200_are_an_error(open_session: Open) -> None:
    refused = refuses(200, {"type": "error", "error": {"message": "Internal Error"}})
    with ScriptedChatUi(settings=refused) as server, pytest.raises(ServerError):
        open_session(server.url).chat("Hi")


def test_callers_sampling_parameters_precede_the_servers_and_the_ancestors(
    open_session: Open,
) -> None:
    with ScriptedChatUi() as server:
        open_session(server.url).chat(
            "Hi", max_new_tokens=5, top_p=0.9, parameters={"watermark": True, "top_p": 0.1}
        )
        assert sent(server)["parameters"] == {
            "temperature": 0.3,
            "truncate": 1000,
            "max_new_tokens": 5,
            "do_sample": True,
            "repetition_penalty": 1.2,
            "return_full_text": False,
            "top_k": 50,
            "top_p": 0.9,
            "watermark": True,
        }


def test_a_message_follows_the_protocol(open_session: Open) -> None:
    with ScriptedChatUi() as server:
        reply = open_session(server.url).stream("Hi")
        reply.read()
        message = sent(server)
    options = message.pop("options")
    assert message.pop("parameters")
    assert message == {"inputs": "Hi", "stream": True}
    assert options.pop("response_id") == reply.message_id
    assert len(options.pop("id")) == 36
    assert options == {"is_retry": False, "use_cache": False, "web_search_id": ""}


@pytest.mark.parametrize(
    ("messages", "system", "prompt"),
    [
        ("Hi", None, "Hi"),
        ([{"role": "user", "content": "Hi"}], None, "Hi"),
        ([h2o_client.Message("user", "Hi")], None, "Hi"),
        ("Hi", "Be brief", "System: Be brief\nUser: Hi\nAssistant:"),
        (
            [
                {"role": "user", "content": "Hi"},
                {"role": "assistant", "content": "Hello"},
                {"role": "user", "content": [{"type": "text", "text": "And?"}]},
            ],
            None,
            "User: Hi\nAssistant: Hello\nUser: And?\nAssistant:",
        ),
    ],
)
def test_messages_become_one_prompt(
    open_session: Open, messages: Any, system: str | None, prompt: str
) -> None:
    with ScriptedChatUi() as server:
        open_session(server.url).chat(messages, system=system)
        assert sent(server)["inputs"] == prompt


def test_prompt_format_replaces_the_shape_of_the_prompt(open_session: Open) -> None:
    with ScriptedChatUi() as server:
        messages = [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]
        open_session(server.url).chat(
            messages, prompt_format=lambda parsed: "+".join(each.content for each in parsed)
        )
        assert sent(server)["inputs"] == "a+b"


@pytest.mark.parametrize(
    ("messages", "options"),
    [
        ("", {}),
        ("  \n", {}),
        ([], {}),
        ([{"role": "robot", "content": "Hi"}], {}),
        ([{"role": "user", "content": [{"type": "image_url"}]}], {}),
        ([{"role": "user", "content": None}], {}),
        ("half \ud83e", {}),
        ("Hi", {"prompt_format": lambda parsed: " "}),
        ("Hi", {"timeout": -1}),
    ],
)
def test_bad_input_is_refused_before_anything_is_sent(
    open_session: Open, messages: Any, options: dict[str, Any]
) -> None:
    with ScriptedChatUi() as server:
        with pytest.raises(ConfigurationError):
            open_session(server.url).stream(messages, **options)
        assert server.requests == []


@pytest.mark.parametrize(
    "options", [{"temperature": float("nan")}, {"parameters": {"x": object()}}]
)
def test_a_parameter_that_cannot_be_sent_is_refused_and_no_conversation_remains(
    open_session: Open, options: dict[str, Any]
) -> None:
    with ScriptedChatUi() as server:
        with pytest.raises(ConfigurationError):
            open_session(server.url).stream("Hi", **options)
        assert server.count("POST", "/conversation") == 0


def test_an_unknown_option_is_a_type_error(open_session: Open) -> None:
    client = open_session("http://127.0.0.1:1")
    with pytest.raises(TypeError, match="'temprature'"):
        client.stream("Hi", temprature=1)  # type: ignore[call-arg]


def test_the_signature_shows_every_option() -> None:
    for function in (H2oSession.stream, H2oSession.chat, h2o_client.stream, h2o_client.chat):
        assert {"temperature", "stop", "timeout"} <= set(inspect.signature(function).parameters)


def test_the_servers_first_model_is_used_unless_one_is_named(
    open_session: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ScriptedChatUi() as server:
        assert open_session(server.url).chat("Hi").model == MODEL
        assert open_session(server.url, model="other").chat("Hi").model == "other"
        assert open_session(server.url).chat("Hi", model="other").model == "other"
        monkeypatch.setenv("H2O_CLIENT_MODEL", "other")
        assert open_session(server.url).chat("Hi").model == "other"
        models = [
            json.loads(each.body)["model"]
            for each in server.requests
            if each.path == "/conversation"
        ]
    assert models == [MODEL, "other", "other", "other"]


def test_models_are_listed_with_their_parameters(open_session: Open) -> None:
    with ScriptedChatUi() as server:
        first, second = open_session(server.url).models()
    assert (first.id, first.parameters) == (MODEL, PARAMETERS)
    assert second.display_name == "OTHER"


def test_a_server_without_models_needs_a_named_model(open_session: Open) -> None:
    with (
        ScriptedChatUi(root=layout({**LAYOUT, "models": []})) as server,
        pytest.raises(ConfigurationError, match="model="),
    ):
        open_session(server.url).chat("Hi")


def test_an_unknown_model_is_an_error_that_lists_the_models(open_session: Open) -> None:
    internal = refuses(500, {"message": "Internal Error"}, {"Set-Cookie": COOKIE})
    with ScriptedChatUi(create=internal) as server:
        client = open_session(server.url)
        with pytest.raises(ModelUnavailableError, match="other"):
            client.chat("Hi", model="gpt-9")
        with pytest.raises(ServerError):
            client.chat("Hi")


def test_a_creation_response_without_an_id_is_a_protocol_error(
    open_session: Open,
) -> None:
    with (
        ScriptedChatUi(create=refuses(200, {"id": 1})) as server,
        pytest.raises(h2o_client.ProtocolError, match="POST /conversation"),
    ):
        open_session(server.url).chat("Hi")


@pytest.mark.parametrize(
    ("answer", "error", "origin"),
    [
        ((404, {"message": "Conversation not found"}), NotFoundError, "server"),
        ((405, {"error": "You need to accept the welcome modal first"}), TermsNotAcceptedError, ""),
        ((410, {"message": "Model not available anymore"}), ModelUnavailableError, "server"),
        ((401, {"error": "No key"}, {"Set-Cookie": COOKIE}), StatusError, "model"),
        ((401, {"error": "Login first"}), AuthenticationError, "server"),
        (
            (429, {"message": "You are sending too many messages."}, {"Set-Cookie": COOKIE}),
            h2o_client.RateLimitError,
            "server",
        ),
        ((503, {"error": "busy"}, {"Set-Cookie": COOKIE}), ServerError, "model"),
    ],
)
def test_a_refused_message_raises_an_error_and_its_conversation_is_deleted(
    open_session: Open, answer: tuple[Any, ...], error: type[StatusError], origin: str
) -> None:
    with ScriptedChatUi(refuses(*answer)) as server:
        with pytest.raises(error) as caught:
            open_session(server.url).stream("Hi")
        assert caught.value.status == answer[0]
        assert caught.value.conversation_id == ID
        assert caught.value.resendable
        assert caught.value.origin == (origin or "server")
        assert type(caught.value) is error
        assert server.paths()[-2:] == [f"POST {MESSAGE}", f"DELETE {MESSAGE}"]


@pytest.mark.parametrize("body", [b"<!doctype html><title>Hi", b"", b"[]", b'{"type":"data"}'])
def test_a_server_that_is_not_chat_ui_is_an_error_that_says_so(
    open_session: Open, body: bytes
) -> None:
    def page(exchange: Exchange) -> None:
        exchange.answer(200, body, content_type="text/html")

    with (
        ScriptedChatUi(root=page) as server,
        pytest.raises(ConfigurationError, match="does not look like a chat-ui"),
    ):
        open_session(server.url).chat("Hi")


def test_an_error_inside_the_page_data_is_an_error(open_session: Open) -> None:
    def failing(exchange: Exchange) -> None:
        exchange.answer(200, fake_wire.page(fake_wire.Failed(500, "Internal Error"), {}))

    with (
        ScriptedChatUi(root=failing) as server,
        pytest.raises(ServerError, match="Internal Error"),
    ):
        open_session(server.url).chat("Hi")


def test_the_url_model_and_cookie_default_to_the_environment(
    open_session: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ScriptedChatUi() as server:
        monkeypatch.setenv("H2O_CLIENT_URL", server.url)
        monkeypatch.setenv("H2O_CLIENT_COOKIE", "hf-chat=env")
        assert open_session().chat("Hi").text == "Hello there"
        assert server.requests[0].cookies["hf-chat"] == "env"
        monkeypatch.setenv("H2O_CLIENT_URL", "http://127.0.0.1:1")
        assert open_session(server.url).base_url == server.url


def test_the_error_for_an_unreachable_default_url_has_a_remedy(open_session: Open) -> None:
    client = open_session()
    assert client.base_url == "https://gpt-gm.h2o.ai"
    with (
        refusing_port() as port,
        pytest.MonkeyPatch.context() as patch,
        pytest.raises(ConfigurationError, match="October 2023") as caught,
    ):
        patch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
        client.chat("Hi")
    assert "H2O_CLIENT_URL" in str(caught.value)
    assert isinstance(caught.value.__cause__, TransportError)


@pytest.mark.parametrize(
    "arguments",
    [{"max_retries": -1}, {"max_retries": True}, {"max_connections": 0}, {"timeout": 0}],
)
def test_invalid_arguments_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        H2oSession("http://localhost:3000", **arguments)


def test_a_failed_delete_is_one_warning_with_the_id(
    open_session: Open, caplog: pytest.LogCaptureFixture
) -> None:
    failing = refuses(500, {"message": "Internal Error"})
    with ScriptedChatUi(delete=[failing, failing]) as server:
        with caplog.at_level(logging.WARNING, "h2o_client"):
            client = open_session(server.url, max_retries=0)
            assert client.chat("Hi").text == "Hello there"
            assert caplog.records == []
            client.close()  # tries once more
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert ID in caplog.text
        assert server.count("DELETE") == 2


def test_a_conversation_already_deleted_causes_no_warning(
    open_session: Open, caplog: pytest.LogCaptureFixture
) -> None:
    failing = refuses(500, {"message": "Internal Error"})
    gone = refuses(404, {"message": "Conversation not found"})
    with ScriptedChatUi(delete=[failing, gone]) as server:
        with caplog.at_level(logging.WARNING, "h2o_client"):
            client = open_session(server.url, max_retries=0)
            client.chat("Hi")
            client.close()
        assert server.count("DELETE") == 2
        assert caplog.records == []


def test_a_kept_conversation_is_not_deleted(open_session: Open) -> None:
    with ScriptedChatUi() as server:
        with H2oSession(server.url) as client:
            answer = client.chat("Hi", keep=True)
        assert answer.conversation_id == ID
        assert server.count("DELETE") == 0


def test_secrets_are_not_shown(open_session: Open) -> None:
    client = open_session(
        "http://ada:s3cret@localhost:3000",
        cookies="hf-chat=s3cret",
        headers={"X-Key": "s3cret"},
        proxy="http://me:s3cret@localhost:8080",
    )
    assert repr(client) == "<H2oSession http://localhost:3000>"


def test_using_a_closed_session_is_an_error() -> None:
    client = H2oSession("http://127.0.0.1:1")
    client.close()
    client.close()
    with pytest.raises(ConfigurationError, match="closed"):
        client.chat("Hi")


def test_closing_ends_what_is_unfinished(leaks_nothing: None) -> None:
    gone = threading.Event()

    def unending(exchange: Exchange) -> None:
        exchange.head(200)
        exchange.write(tokens("Hello", end=False)[0])
        exchange.until_gone()
        gone.set()

    with ScriptedChatUi(unending) as server:
        client = H2oSession(server.url)
        reply = client.stream("Hi")
        texts: list[str] = []
        reader = threading.Thread(target=lambda: texts.extend(reply))
        reader.start()
        while not reply.text:
            threading.Event().wait(0.01)
        client.close()
        reader.join(PATIENCE)
        assert texts == ["Hello"]
        assert reply.finish_reason == "stopped"
        assert gone.wait(PATIENCE)
        assert server.paths()[-2:] == [f"POST {MESSAGE}/stop-generating", f"DELETE {MESSAGE}"]


SCRIPT = """
import sys
from h2o_client import H2oSession
client = H2oSession(sys.argv[1])
{body}
"""


def run(
    server: ScriptedServer, body: str, interrupt: Callable[[], object] | None = None
) -> subprocess.CompletedProcess[str]:
    """A separate program with a session and without ``with``."""
    program = start(
        [sys.executable, "-c", SCRIPT.format(body=body), server.url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )
    if interrupt is not None:
        interrupt()
        program.send_signal(signal.SIGINT)
    out, err = program.communicate(timeout=PATIENCE)
    return subprocess.CompletedProcess(program.args, program.returncode, out, err)


def stalling(*events: bytes) -> Callable[[Exchange], None]:
    def message(exchange: Exchange) -> None:
        if events:
            exchange.head(200)
        for event in events:
            exchange.write(event)
        exchange.until_gone()

    return message


def test_a_program_that_leaves_an_answer_and_ends_leaves_no_conversation() -> None:
    with ScriptedChatUi(stalling(*tokens("Hello", end=False))) as server:
        done = run(server, "for token in client.stream('Hi'):\n    print(token)\n    break")
        assert (done.returncode, done.stdout, done.stderr) == (0, "Hello\n", "")
        assert server.paths()[-2:] == [f"POST {MESSAGE}/stop-generating", f"DELETE {MESSAGE}"]


def test_a_program_that_never_closes_its_conversation_leaves_none() -> None:
    with ScriptedChatUi() as server:
        done = run(server, "chat = client.conversation()\nprint(chat.chat('Hi'))")
        assert (done.returncode, done.stdout, done.stderr) == (0, "Hello there\n", "")
        assert server.count("DELETE", MESSAGE) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGINT to send here")
@pytest.mark.parametrize("where", ["creation", "before the head", "in mid-stream"])
def test_an_interrupted_program_leaves_no_conversation(where: str) -> None:
    asked, go_on = threading.Event(), threading.Event()

    def slow_creation(exchange: Exchange) -> None:
        if where == "creation":
            asked.set()
            exchange.until(go_on)
        creates(exchange)

    def message(exchange: Exchange) -> None:
        if where == "in mid-stream":
            exchange.head(200)
            exchange.write(tokens("Hello", end=False)[0])
        asked.set()
        exchange.until_gone()

    def interrupt() -> None:
        assert asked.wait(PATIENCE)
        threading.Timer(0.3, go_on.set).start()

    with ScriptedChatUi(message, create=slow_creation) as server:
        done = run(server, "for token in client.stream('Hi'): print(token)", interrupt)
        assert "KeyboardInterrupt" in done.stderr
        assert done.stderr.count("Traceback") == 1
        assert server.count("DELETE", MESSAGE) == 1
        assert server.count("POST", f"{MESSAGE}/stop-generating") == (where != "creation")


def test_many_threads_with_many_streams_are_kept_apart(leaks_nothing: None) -> None:
    with FakeChatUi("0.4", answer=lambda prompt: Says((prompt.last,))) as server:
        client = H2oSession(server.url)
        wrong: list[str] = []

        def ask(name: str) -> None:
            for number in range(5):
                prompt = f"{name}.{number}"
                if client.chat(prompt).text != prompt:
                    wrong.append(prompt)

        threads = [threading.Thread(target=ask, args=(f"thread{place}",)) for place in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        client.close()
        assert wrong == []
        assert server.count("DELETE") == 60


def test_the_time_to_the_first_token_is_recorded(open_session: Open) -> None:
    with ScriptedChatUi() as server:
        began = time.monotonic()
        reply = open_session(server.url).stream("Hi")
        reply.read()
        assert reply.time_to_first_token is not None
        assert 0 < reply.time_to_first_token < time.monotonic() - began


def test_an_unknown_model_of_the_session_is_an_error_that_lists_the_models(
    open_session: Open,
) -> None:
    def settings(exchange: Exchange) -> None:
        asked = dict(parse_qsl(exchange.request.body.decode()))
        if asked["activeModel"] in (MODEL, "other"):
            accepts_settings(exchange)
        else:
            exchange.json({"message": "Internal Error"}, status=500)

    internal = refuses(500, {"message": "Internal Error"}, {"Set-Cookie": COOKIE})
    with (
        ScriptedChatUi(settings=settings, create=internal) as server,
        pytest.raises(ModelUnavailableError, match="other"),
    ):
        open_session(server.url, model="gpt-9").chat("Hi")


@pytest.mark.parametrize("method", [H2oSession.chat, H2oSession.models, H2oSession.server])
def test_the_error_without_an_address_says_so(
    monkeypatch: pytest.MonkeyPatch, method: Callable[..., object]
) -> None:
    def unknown(*args: object, **kwargs: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.delenv("H2O_CLIENT_URL", raising=False)
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with H2oSession() as client, pytest.raises(ConfigurationError, match="No server address"):
        method(client, *(["Hi"] if method is H2oSession.chat else []))


def test_the_url_of_another_server_is_an_error_that_says_so(open_session: Open) -> None:
    nothing = refuses(404, {"detail": "Not Found"})
    with (
        ScriptedChatUi(root=nothing) as server,
        pytest.raises(ConfigurationError, match="does not look like a chat-ui") as caught,
    ):
        open_session(server.url).chat("Hi")
    assert "its port and its path? check()" in str(caught.value)


def test_the_error_for_another_server_does_not_show_the_source_of_its_page(
    open_session: Open,
) -> None:
    def missing(exchange: Exchange) -> None:
        exchange.answer(404, b"<!doctype html><title>Not Found</title><style>body{}", "text/html")

    with ScriptedChatUi(root=missing) as server:
        with pytest.raises(ConfigurationError) as caught:
            open_session(server.url).chat("Hi")
        assert "/__data.json returned 404. Is the address right" in str(caught.value)


def test_a_redirected_base_url_is_an_error_with_the_new_url(open_session: Open) -> None:
    moved = refuses(301, {}, {"Location": "https://chat.example.org/chat/__data.json"})
    with (
        ScriptedChatUi(root=moved) as server,
        pytest.raises(ConfigurationError, match=r"Use https://chat\.example\.org/chat\."),
    ):
        open_session(server.url).chat("Hi")


def test_settings_accept_a_redirect_to_the_callers_referer(open_session: Open) -> None:
    with ScriptedChatUi() as server:
        client = open_session(server.url, headers={"Referer": "https://public.example/"})
        assert client.chat("Hi").text == "Hello there"


@pytest.mark.parametrize(
    "arguments",
    [
        {"base_url": 3000},
        {"base_url": "http://[::1"},
        {"base_url": "http://exa mple.org"},
        {"headers": ["a"]},
        {"headers": {5: "a"}},
        {"proxy": 5},
        {"proxy": "http://host:99999"},
        {"verify": None},
        {"cookies": 5},
    ],
)
def test_arguments_of_a_wrong_type_are_refused_by_name(arguments: dict[str, Any]) -> None:
    name = next(iter(arguments))
    with pytest.raises(ConfigurationError) as caught:
        H2oSession(**{"base_url": "http://localhost:3000", **arguments})
    assert caught.value.argument == name


@pytest.mark.parametrize(
    "url", ["me:s3cret@host", "http//me:s3cret@h", "http://me:s3cret@", "127.0.0.1:1/?t=s3cret"]
)
def test_an_invalid_url_is_shown_without_its_secrets(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        H2oSession(url)
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("http://h/conversation/6b02c9d11306e1473508e3f3", "http://h"),
        ("http://h/chat/conversation/6b02c9d11306e1473508e3f3/?leafId=5", "http://h/chat"),
        ("https://a:b@h:8080/chat/r/a1B2c3D", "https://h:8080/chat"),
        ("http://h/chat/assistant/6b02c9d11306e1473508e3f3", "http://h/chat"),
        ("http://h/chat/settings", "http://h/chat"),
        ("http://h/chat/settings/application#top", "http://h/chat"),
        ("http://h/chat/models/", "http://h/chat"),
        ("http://h/chat/models/h2oai/h2ogpt", "http://h/chat"),
        ("http://h/privacy", "http://h"),
    ],
)
def test_the_url_of_a_page_is_refused_with_the_servers_url_in_the_error(
    url: str, server: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"the server's address. Use {server}[.]$"):
        H2oSession(url)


@pytest.mark.parametrize("path", ["/chat", "/settings-chat", "/conversation", "/r/team/chat"])
def test_a_base_path_that_looks_like_a_page_is_kept(path: str) -> None:
    assert H2oSession(f"http://h{path}").base_url == f"http://h{path}"


def test_the_timeout_of_a_call_includes_its_preparation(open_session: Open) -> None:
    def stalls(exchange: Exchange) -> None:
        exchange.until_gone()
        exchange.cut()

    for route in ("root", "settings", "create"):
        stalled: dict[str, Any] = {route: stalls}
        with ScriptedChatUi(**stalled) as server:
            client = open_session(server.url, max_retries=0)
            with pytest.raises(h2o_client.TransportTimeout), at_once():
                client.chat("Hi", timeout=Timeouts(total=0.5))


def test_closing_the_session_ends_a_wait_for_its_first_response(leaks_nothing: None) -> None:
    def stalls(exchange: Exchange) -> None:
        exchange.until_gone()
        exchange.cut()

    with ScriptedChatUi(root=stalls) as server:
        client = H2oSession(server.url)
        answers: list[str] = []
        thread = threading.Thread(target=lambda: answers.append(client.chat("Hi").finish_reason))
        thread.start()
        server.wait_for(lambda server: server.requests)
        client.close()
        thread.join(PATIENCE)
        assert answers == ["stopped"]


def test_all_cleanup_on_a_stalling_server_takes_five_seconds_at_most() -> None:
    def stalls(exchange: Exchange) -> None:
        exchange.until_gone()
        exchange.cut()

    message = stalling(*tokens("a", end=False))
    with ScriptedChatUi(message, stop=stalls, delete=stalls) as server:
        client = H2oSession(server.url)
        replies = [client.stream("Hi") for _ in range(3)]
        began = time.monotonic()
        client.close()
        assert time.monotonic() - began < 12  # one after the other take fifteen
        assert [reply.finish_reason for reply in replies] == [None] * 3
        # The stop leaves enough time for the DELETE.
        assert server.count("DELETE") >= 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_leaves_its_parents_answers_alone(open_session: Open) -> None:
    forked = threading.Event()

    def message(exchange: Exchange) -> None:
        exchange.head(200)
        for event in tokens("a", "b"):
            exchange.write(event)
            exchange.until(forked)
        exchange.end()

    program = """
import os, sys
from h2o_client import H2oSession
client = H2oSession(sys.argv[1])
reply = client.stream("Hi")
text = next(reply)
child = os.fork()
if child == 0:
    client.close()
    sys.exit(0)
os.waitpid(child, 0)
print(text + reply.read().text)
client.close()
"""
    with ScriptedChatUi(message) as server:
        forked.set()
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", program, server.url],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            cwd=Path(__file__).parents[1],
        )
        assert (done.stdout, done.stderr) == ("aab\n", "")
        assert server.count("DELETE") == 1
        assert server.count("POST", f"{MESSAGE}/stop-generating") == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_does_not_wait_for_its_parents_connections() -> None:
    program = """
import os, sys
from h2o_client import H2oSession
client = H2oSession(sys.argv[1], max_connections=1, timeout=5)
reply = client.stream("Hi")
next(reply)
if os.fork() == 0:
    print(client.chat("Hi").text, flush=True)
    client.close()
    os._exit(0)
os.wait()
reply.close()
client.close()
"""
    with FakeChatUi("head", answer=[Says(holds=True), Says(("the child",))]) as server:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", program, server.url],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert (done.stdout, done.stderr) == ("the child\n", "")


def test_with_a_given_version_the_server_is_not_examined(open_session: Open) -> None:
    root = layout({key: value for key, value in LAYOUT.items() if key != "requiresLogin"})
    with ScriptedChatUi(root=root) as server:
        assert open_session(server.url, server_version="0.4").chat("Hi").text == "Hello there"
        assert server.count("GET", "/api/models") == 0
        with pytest.raises(ConfigurationError, match="server_version="):
            open_session(server.url).chat("Hi")


@pytest.mark.parametrize(
    ("version", "error"),
    [("0.9", ConfigurationError), ("0.2", UnsupportedError), ("new", ConfigurationError)],
)
def test_an_unsupported_version_is_refused(version: str, error: type[Exception]) -> None:
    with pytest.raises(error, match=re.escape(version)):
        H2oSession("http://localhost:3000", server_version=version)


def test_files_are_refused_on_servers_without_files(open_session: Open) -> None:
    with ScriptedChatUi() as server:
        with pytest.raises(UnsupportedError, match=r"v0\.3 to v0\.6"):
            open_session(server.url).stream("Hi", files=[b"a text"])
        assert server.count("POST", "/conversation") == 0


def test_a_file_that_cannot_be_read_is_an_error_before_anything_is_sent(open_session: Open) -> None:
    with pytest.raises(ConfigurationError, match=r"Cannot read the file 'no/such\.txt': No such"):
        open_session("http://127.0.0.1:1").stream("Hi", files=["no/such.txt"])


def test_a_pickled_session_keeps_its_cookies(open_session: Open) -> None:
    with ScriptedChatUi() as server:
        session = open_session(
            server.url, model="other", headers={"X-Team": "blue"}, timeout=PATIENCE, max_retries=0
        )
        session.models()
        with pickle.loads(pickle.dumps(session)) as copied:
            assert repr(copied) == repr(session)
            copied.chat("Hi")
        assert {each.cookies.get("hf-chat") for each in server.requests[3:]} == {"e41adc77"}
        assert {each.headers["X-Team"] for each in server.requests} == {"blue"}
        assert server.connections == 2


def test_a_pickled_session_with_a_browsers_cookie_keeps_its_settings(
    open_session: Open,
) -> None:
    root = layout(
        with_settings(ethicsModalAcceptedAt="2023-09-01", shareConversationsWithModelAuthors=False)
    )
    with ScriptedChatUi(root=root) as server:
        session = open_session(server.url, cookies="hf-chat=mine")
        with pickle.loads(pickle.dumps(session)) as copied:
            copied.chat("Hi")
        assert server.count("POST", "/settings") == 0


def test_a_session_with_its_own_ssl_context_cannot_be_pickled() -> None:
    with (
        H2oSession("https://localhost", verify=ssl.create_default_context()) as session,
        pytest.raises(TypeError, match="SSLContext"),
    ):
        pickle.dumps(session)


@pytest.mark.parametrize("version", ["0.4", "head"])
def test_a_generator_closed_by_the_end_of_the_program_leaves_no_conversation(version: str) -> None:
    """The interpreter closes it when threads cannot be started."""
    program = """
import builtins, sys
from h2o_client import H2oSession
def tokens(url):
    try:
        with H2oSession(url) as client:
            with client.stream("Hello") as reply:
                yield from reply
    finally:
        print(sys.is_finalizing(), flush=True)
builtins.answer = tokens(sys.argv[1])
print(next(builtins.answer), flush=True)
"""
    with FakeChatUi(version, answer=lambda prompt: Says(("a", "b", "c"))) as server:
        done = subprocess.run(
            [sys.executable, "-c", program, server.url],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            cwd=Path(__file__).parents[1],
        )
        assert (done.stdout, done.stderr) == ("a\nTrue\n", "")
        server.wait_for(lambda fake: not fake.conversations)
