"""The upstream engine, against an OpenAI-compatible server scripted to the byte."""

from __future__ import annotations

import json
import re
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trustme

from h2o_client.errors import ConfigurationError
from h2o_client.server import AnswerCut, EngineFailure, Turn, UpstreamEngine, serve
from h2o_client.wire.events import Final, Token
from local_service import Over
from scripted import Exchange, Routes, ScriptedServer, refusing_port
from visitors import INTERNAL_ERROR, Visitor

HI = [Turn("user", "Hi"), Turn("assistant", "Hello"), Turn("user", "Bye")]
COMPLETIONS = "/v1/chat/completions"
Script = Callable[[Exchange], None]


def never() -> bool:
    return False


def chunk(text: str | None = None, finish_reason: str | None = None) -> bytes:
    choice = {
        "index": 0,
        "delta": {"content": text} if text else {},
        "finish_reason": finish_reason,
    }
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


def streams(*events: bytes, end: bool = True) -> Script:
    def script(exchange: Exchange) -> None:
        exchange.head(200, {"Content-Type": "text/event-stream; charset=utf-8"})
        for event in events:
            exchange.write(event)
        if end:
            exchange.end()
        else:
            exchange.cut()

    return script


def refuses(
    status: int, body: bytes, headers: dict[str, str] | None = None, kind: str = "application/json"
) -> Script:
    return lambda exchange: exchange.answer(status, body, kind, headers or {})


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("H2O_UPSTREAM_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def ask(script: Script, **parameters: object) -> list[Token | Final]:
    with ScriptedServer(script) as upstream:
        return list(UpstreamEngine(upstream.url, model="m")(HI, parameters, never))


def fail(script: Script) -> EngineFailure:
    with pytest.raises(EngineFailure) as caught:
        ask(script)
    return caught.value


DONE = b"data: [DONE]\n\n"


# Requests


def test_the_turns_and_the_supported_parameters_are_sent() -> None:
    with ScriptedServer(streams(chunk("Bye", "stop"), DONE)) as upstream:
        engine = UpstreamEngine(f"{upstream.url}/v1/", model="m", key="sesame")
        given = {"temperature": 0.4, "max_new_tokens": 9, "top_p": 0.5, "seed": 3, "stop": ["."]}
        list(engine(HI, {**given, "top_k": 5, "truncate": 99, "weird_key": 1}, never))
    (request,) = upstream.requests
    assert (request.method, request.path) == ("POST", COMPLETIONS)
    assert request.headers["Authorization"] == "Bearer sesame"
    assert request.json() == {
        "model": "m",
        "stream": True,
        "messages": [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hello"},
            {"role": "user", "content": "Bye"},
        ],
        "temperature": 0.4,
        "max_tokens": 9,
        "top_p": 0.5,
        "seed": 3,
        "stop": ["."],
    }


def test_without_sampling_the_temperature_is_0() -> None:
    with ScriptedServer(streams(chunk("x", "stop"))) as upstream:
        list(UpstreamEngine(upstream.url, model="m")(HI, {"do_sample": False}, never))
    assert upstream.requests[0].json()["temperature"] == 0


@pytest.mark.parametrize(
    ("environment", "sent"),
    [
        ({}, None),
        ({"OPENAI_API_KEY": "a"}, "Bearer a"),
        ({"OPENAI_API_KEY": "a", "H2O_UPSTREAM_KEY": "b"}, "Bearer b"),
    ],
)
def test_the_key_comes_from_the_environment(
    environment: dict[str, str], sent: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with ScriptedServer(streams(chunk("x", "stop"))) as upstream:
        list(UpstreamEngine(upstream.url, model="m")(HI, {}, never))
    assert upstream.requests[0].headers["Authorization"] == sent


@pytest.mark.parametrize("path", ["", "/", "/v1", "/v1/", "/v1/chat/completions"])
def test_the_url_may_be_that_of_the_host_the_api_or_the_route(path: str) -> None:
    with ScriptedServer(streams(chunk("x", "stop"))) as upstream:
        list(UpstreamEngine(upstream.url + path, model="m")(HI, {}, never))
    assert upstream.paths() == [f"POST {COMPLETIONS}"]


def test_without_a_name_the_first_model_is_used() -> None:
    def models(exchange: Exchange) -> None:
        exchange.json({"data": [{"id": "qwen"}, {"id": "other"}]})

    with ScriptedServer(Routes({("GET", "/v1/models"): models})) as upstream:
        assert UpstreamEngine(upstream.url).model == "qwen"


@pytest.mark.parametrize(
    "script",
    [refuses(404, b"{}"), refuses(200, b'{"data": []}'), refuses(200, b"nonsense")],
)
def test_a_server_that_does_not_list_its_models_needs_a_name(script: Script) -> None:
    with (
        ScriptedServer(script) as upstream,
        pytest.raises(ConfigurationError, match="Pass one as model="),
    ):
        UpstreamEngine(upstream.url)


def test_the_error_for_an_unreachable_server_has_the_reason() -> None:
    said = r"Cannot list the models of 127\.0\.0\.1: Connection refused. Is it running\?"
    with refusing_port() as port, pytest.raises(ConfigurationError, match=said):
        UpstreamEngine(f"http://127.0.0.1:{port}")


@pytest.mark.parametrize(
    "url", ["", "localhost:8000", "ftp://host/", "http:///v1", "http://h/?a=1"]
)
def test_an_invalid_url_is_a_configuration_error(url: str) -> None:
    with pytest.raises(ConfigurationError, match="Invalid address of an OpenAI"):
        UpstreamEngine(url, model="m")


# Responses


def test_deltas_are_tokens_and_the_finish_reason_is_the_end() -> None:
    role = b'data: {"choices": [{"delta": {"role": "assistant"}, "finish_reason": null}]}\r\n\r\n'
    usage = b'data: {"choices": [], "usage": {}}\n\n'
    events = ask(streams(b": ping\n\n", role, chunk("By"), chunk("e"), chunk(None, "stop"), usage))
    assert events == [Token("By"), Token("e"), Final()]
    assert ask(streams(chunk("x", "length"), DONE))[-1] == Final(finish_reason="length")


def test_lines_divided_between_chunks_are_joined() -> None:
    whole = chunk("Grüße") + chunk(None, "stop")
    assert ask(streams(*(whole[i : i + 3] for i in range(0, len(whole), 3)))) == [
        Token("Grüße"),
        Final(),
    ]


def test_an_answer_that_was_not_streamed_is_one_token() -> None:
    body = {"choices": [{"message": {"content": "Bye"}, "finish_reason": "length"}]}
    assert ask(refuses(200, json.dumps(body).encode())) == [
        Token("Bye"),
        Final(finish_reason="length"),
    ]


def test_a_stream_without_a_finish_reason_has_no_end() -> None:
    assert ask(streams(chunk("x"), DONE)) == [Token("x")]


# Failures


@pytest.mark.parametrize(
    ("status", "body", "said", "kind"),
    [
        (400, b'{"error": {"message": "bad", "type": "invalid_request_error"}}', "bad",
         "invalid_request_error"),
        (401, b'{"error": {"message": "no key", "code": 401}}', "no key", None),
        (422, b'{"error": "Input", "error_type": "validation"}', "Input", "validation"),
        (404, b'{"detail": "Not Found"}', "The model server refused", None),
        (500, b"[1]", "The model server refused", None),
        (504, b"upstream request timeout", "upstream request timeout", None),
        (503, b"", "Service Unavailable", None),
    ],
)  # fmt: skip
def test_a_refusal_keeps_its_status_message_and_type(
    status: int, body: bytes, said: str, kind: str | None
) -> None:
    failure = fail(refuses(status, body))
    assert (failure.status, failure.said, failure.error_type) == (status, said, kind)


def test_a_refusal_keeps_its_retry_after() -> None:
    assert fail(refuses(429, b"{}", {"Retry-After": "7"})).retry_after == 7
    assert fail(refuses(429, b"{}", {"Retry-After": "soon"})).retry_after is None


def test_a_redirect_is_a_bad_gateway_and_is_not_followed() -> None:
    assert fail(refuses(307, b"", {"Location": "http://elsewhere.example/"})).status == 502


def test_an_error_during_the_stream_fails_the_answer() -> None:
    event = b'data: {"error": {"message": "out of memory", "type": "server_error"}}\n\n'
    failure = fail(streams(chunk("x"), event))
    assert (failure.said, failure.error_type) == ("out of memory", "server_error")


@pytest.mark.parametrize("data", [b"nonsense", b"[1]", b'{"choices": [7]}', b'"text"', b"3"])
def test_an_invalid_completion_fails_the_answer(data: bytes) -> None:
    assert "invalid completion" in fail(streams(b"data: " + data + b"\n\n")).said


def test_a_connection_that_breaks_cuts_the_answer() -> None:
    heard: list[Token | Final] = []
    with ScriptedServer(streams(chunk("so"), end=False)) as upstream, pytest.raises(AnswerCut):
        heard.extend(UpstreamEngine(upstream.url, model="m")(HI, {}, never))
    with ScriptedServer(lambda exchange: exchange.reset()) as upstream, pytest.raises(AnswerCut):
        list(UpstreamEngine(upstream.url, model="m")(HI, {}, never))


def test_an_upstream_that_is_silent_too_long_cuts_the_answer() -> None:
    with (
        ScriptedServer(lambda exchange: exchange.until_gone()) as upstream,
        pytest.raises(AnswerCut, match="timed out"),
    ):
        list(UpstreamEngine(upstream.url, model="m", timeout=0.2)(HI, {}, never))


def test_an_https_upstream_needs_a_trusted_certificate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with ScriptedServer(streams(chunk("x", "stop")), tls=context) as upstream:
        engine = UpstreamEngine(upstream.url, model="m")
        with pytest.raises(AnswerCut, match="CERTIFICATE_VERIFY_FAILED"):
            list(engine(HI, {}, never))
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        assert list(engine(HI, {}, never)) == [Token("x"), Final()]


# Limits


def floods(head: dict[str, str], piece: bytes) -> Script:
    """Send the piece repeatedly until the reader disconnects."""

    def script(exchange: Exchange) -> None:
        exchange.head(200, head)
        with suppress(Over):
            while True:
                exchange.write(piece)
        exchange.cut()

    return script


STREAM = {"Content-Type": "text/event-stream"}
NESTED = b"[" * 100_000


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (STREAM, b"x" * 65536),
        (STREAM, b'data: {"choices": "' + b"x" * 65536),
        ({"Content-Type": "application/json"}, b" " * 65536),
    ],
    ids=["a line", "a token", "a document"],
)
def test_an_endless_line_or_document_fails_the_answer(head: dict[str, str], piece: bytes) -> None:
    assert "is too long" in fail(floods(head, piece)).said


def test_with_an_endless_list_of_models_a_name_is_required() -> None:
    with (
        ScriptedServer(floods({"Content-Type": "application/json"}, b" " * 65536)) as upstream,
        pytest.raises(ConfigurationError, match="Pass one as model="),
    ):
        UpstreamEngine(upstream.url)


def test_the_wait_for_a_list_of_models_is_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("h2o_client.server.upstream._LIST_WITHIN", 0.2)
    with (
        ScriptedServer(floods({"Content-Type": "application/json"}, b" ")) as upstream,
        pytest.raises(ConfigurationError, match="Cannot list the models of"),
    ):
        UpstreamEngine(upstream.url)


@pytest.mark.parametrize(
    "piece",
    [b": ping\n\n", b"x", chunk(), b'data: {"choices": []}\n', b"data: [DONE]\n", b"\n"],
    ids=["comments", "a line", "empty chunks", "no choices", "ends", "blank lines"],
)
def test_an_upstream_that_sends_no_tokens_cuts_the_answer(piece: bytes) -> None:
    def drips(exchange: Exchange) -> None:
        exchange.head(200, STREAM)
        with suppress(Over):
            while not exchange.gone(0.02):
                exchange.write(piece)
        exchange.cut()

    with (
        ScriptedServer(drips) as upstream,
        pytest.raises(AnswerCut),
    ):
        list(UpstreamEngine(upstream.url, model="m", timeout=0.3)(HI, {}, never))


def test_an_upstream_that_never_sends_its_headers_cuts_the_answer() -> None:
    def informs(exchange: Exchange) -> None:
        with suppress(Over):
            while not exchange.gone(0.02):
                exchange.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        exchange.cut()

    with ScriptedServer(informs) as upstream, pytest.raises(AnswerCut):
        list(UpstreamEngine(upstream.url, model="m", timeout=0.3)(HI, {}, never))


def test_reasoning_restarts_the_idle_timeout() -> None:
    thought = b'data: {"choices": [{"delta": {"reasoning_content": "hm"}}]}\n\n'

    def thinks(exchange: Exchange) -> None:
        exchange.head(200, STREAM)
        for _ in range(8):
            exchange.write(thought)
            assert not exchange.gone(0.2)
        exchange.write(chunk("x", "stop"))
        exchange.end()

    with ScriptedServer(thinks) as upstream:
        engine = UpstreamEngine(upstream.url, model="m", timeout=1.0)
        assert list(engine(HI, {}, never)) == [Token("x"), Final()]


@pytest.mark.parametrize("data", [NESTED, b'{"choices":' + NESTED, b'{"error":' + NESTED])
def test_deeply_nested_json_fails_the_answer(data: bytes) -> None:
    assert "invalid completion" in fail(streams(b"data: " + data + b"\n\n")).said
    assert fail(refuses(500, data)).status == 500
    with (
        ScriptedServer(refuses(200, data)) as upstream,
        pytest.raises(ConfigurationError, match="Pass one as model="),
    ):
        UpstreamEngine(upstream.url)


def test_a_retry_after_that_is_too_large_is_ignored() -> None:
    assert fail(refuses(429, b"{}", {"Retry-After": "9" * 400})).retry_after is None


def test_the_message_of_a_refusal_is_printable_and_short() -> None:
    said = {"error": {"message": "\x1b[2J\n\u202e" + "x" * 50_000, "type": "y\x07" * 1000}}
    failure = fail(refuses(500, json.dumps(said).encode()))
    assert failure.said.startswith("\ufffd[2J \ufffdxxx")
    assert (len(failure.said), len(failure.error_type or "")) == (2000, 100)


def test_a_log_line_about_an_upstream_is_printable_and_short(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def garbles(exchange: Exchange) -> None:
        exchange.send(b"\x1b]0;owned\x07\x9b" + b"x" * 60_000 + b"\r\n")
        exchange.cut()

    with ScriptedServer(garbles) as upstream, pytest.raises(AnswerCut) as caught:
        list(UpstreamEngine(upstream.url, model="m")(HI, {}, never))
    for said in (caplog.records[-1].getMessage(), str(caught.value)):
        assert len(said) < 2100
        assert not re.search("[\x00-\x1f\x7f-\x9f]", said)


# Secrets


@pytest.mark.parametrize("key", ["sesame\r", "\nsesame\n", " sesame\t"])
def test_whitespace_around_a_key_is_removed(key: str) -> None:
    with ScriptedServer(streams(chunk("x", "stop"))) as upstream:
        list(UpstreamEngine(upstream.url, model="m", key=key)(HI, {}, never))
    assert upstream.requests[0].headers["Authorization"] == "Bearer sesame"


@pytest.mark.parametrize("key", ["ses\rame", "ses\namé", "sesamé", "ses\x00ame", "sesame\u2028x"])
def test_a_key_that_cannot_be_a_header_is_refused_and_not_shown(
    key: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key.replace("\x00", "\r"))
    for given in (key, None):
        with pytest.raises(ConfigurationError, match="H2O_UPSTREAM_KEY") as caught:
            UpstreamEngine("http://127.0.0.1:1", model="m", key=given)
        assert "ame" not in str(caught.value).replace("name", "")
        assert caught.value.__context__ is None
    assert caplog.text == ""


@pytest.mark.parametrize(
    "url",
    [
        "http://me:sesame@localhost/v1",
        "http://localhost/v1?key=sesame",
        "http://sesame:99999/",
        "http://[sesame",
        "sesame",
        "http://sesame/\x1b[2J",
        "file:///sesame",
    ],
)
def test_a_url_that_may_contain_a_secret_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(ConfigurationError, match="OpenAI-compatible") as caught:
        UpstreamEngine(url, model="m")
    assert "sesame" not in str(caught.value)


# Stops


@pytest.mark.parametrize("begun", [False, True])
def test_a_stop_wakes_a_waiting_reader(begun: bool) -> None:
    stopped = threading.Event()

    def silent(exchange: Exchange) -> None:
        if begun:
            exchange.head(200, {"Content-Type": "text/event-stream"})
            exchange.write(chunk("x"))
        stopped.set()
        exchange.until_gone()
        exchange.cut()

    with ScriptedServer(silent) as upstream, pytest.raises(AnswerCut):
        list(UpstreamEngine(upstream.url, model="m")(HI, {}, stopped.is_set))
    assert not [each for each in threading.enumerate() if each.name == "h2o-upstream"]


def test_leaving_the_iterator_closes_the_connection() -> None:
    def endless(exchange: Exchange) -> None:
        exchange.head(200, {"Content-Type": "text/event-stream"})
        exchange.write(chunk("x"))
        exchange.until_gone()
        exchange.cut()

    with ScriptedServer(endless) as upstream:
        events: Any = UpstreamEngine(upstream.url, model="m")(HI, {}, never)
        assert next(events) == Token("x")
        events.close()


# Through the server


@pytest.fixture
def visit() -> Iterator[Callable[[Script], Visitor]]:
    servers: list[Any] = []

    def make(script: Script) -> Visitor:
        servers.append(ScriptedServer(script))
        upstream = servers[-1].__enter__()
        servers.append(serve(UpstreamEngine(upstream.url, model="m"), chat_ui="0.4"))
        return Visitor(servers[-1].__enter__().url, model="m")

    yield make
    for server in reversed(servers):
        server.__exit__(None, None, None)


def test_an_upstreams_answer_is_sent_like_a_chat_uis(
    visit: Callable[[Script], Visitor],
) -> None:
    visitor = visit(streams(chunk("By"), chunk("e", "stop"), DONE))
    made = visitor.create()
    assert '"generated_text":"Bye"' in visitor.ask(made, "Hi").text
    assert visitor.messages(made) == [("user", "Hi"), ("assistant", "Bye")]


def test_an_upstream_s_refusal_is_passed_on(visit: Callable[[Script], Visitor]) -> None:
    body = b'{"error": {"message": "Overloaded", "type": "overloaded"}}'
    visitor = visit(refuses(429, body, {"Retry-After": "7"}))
    answer = visitor.ask(visitor.create(), "Hi")
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")
    assert answer.headers["content-type"] == "application/json"
    assert answer.text == '{"error":"Overloaded","error_type":"overloaded"}'
    assert "set-cookie" in answer.headers


def test_an_upstream_that_breaks_off_leaves_the_answer_incomplete(
    visit: Callable[[Script], Visitor],
) -> None:
    visitor = visit(streams(chunk("so"), end=False))
    made = visitor.create()
    with pytest.raises(Exception, match=r"broken|ended prematurely|IncompleteRead"):
        visitor.ask(made, "Hi")
    assert visitor.messages(made) == []


def test_an_unreachable_upstream_is_an_internal_error() -> None:
    with (
        refusing_port() as port,
        serve(UpstreamEngine(f"http://127.0.0.1:{port}", model="m"), chat_ui="0.4") as s,
    ):
        visitor = Visitor(s.url, model="m")
        answer = visitor.ask(visitor.create(), "Hi")
        assert (answer.status_code, answer.text) == (500, INTERNAL_ERROR)
        answer = visitor.ask(visitor.create(), "Hi", body={"stream": False})
        assert (answer.status_code, answer.text) == (500, INTERNAL_ERROR)
