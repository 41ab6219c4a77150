"""``h2o-chat doctor``: steps as lines, a status for each failure, hints for a shell."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import pytest

from fake_chatui import FakeChatUi
from fake_model import Says
from h2o_client.cli import run
from scripted import (
    Exchange,
    ScriptedServer,
    certificates,
    hang_up,
    refusing_port,
    say_nothing,
)


def says_nothing(exchange: Exchange) -> None:
    exchange.json({})


def test_a_working_server(capsys: pytest.CaptureFixture[str]) -> None:
    with FakeChatUi("0.9.4") as server:
        assert run(["doctor", "--url", server.url]) == 0
        assert server.conversations == {}
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"ok      address      {server.url}"
    assert "skipped TLS          the address is http" in lines
    assert any(line.startswith("ok      answer       first token after ") for line in lines)
    assert len(lines) == 12


def test_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    with FakeChatUi("0.9.4", login="401") as server:
        assert run(["doctor", "--url", server.url, "--json"]) == 3
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (failed,) = [each for each in found if each["status"] == "failed"]
    assert failed["name"] == "login"
    assert failed["hint"].startswith("To chat behind a login")
    assert ": --cookie name=value, or" in failed["hint"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["localhost:3171"],
            "address 'localhost:3171'\n        Did you mean http://localhost:3171?",
        ),
        (["chat.example.org/chat"], "Did you mean https://chat.example.org/chat?"),
        (["http://h/conversation/64f0c1"], "not the server's address\n        Use http://h."),
        (["https://a:b@h/chat/r/a1B2c3D"], "Use https://h/chat."),
        (["http://h:3000/settings/application"], "Use http://h:3000."),
        (["http://"], "Invalid server address"),
        (["--url", "http://localhost", "--timeout", "-1"], "Invalid timeout -1.0"),
        ([], "Pass --url http://localhost:3000, or set H2O_CLIENT_URL."),
    ],
)
def test_an_invalid_address_is_a_failed_step(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["doctor", *arguments]) == 2
    shown = capsys.readouterr()
    assert shown.out.startswith("failed  address      ")
    assert said in shown.out
    assert shown.err == ""


def test_an_invalid_version_is_a_failed_step(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "http://localhost", "--chat-ui", "ten"]) == 2
    assert capsys.readouterr().out == (
        "failed  version      Invalid server version 'ten'\n"
        '        A version looks like --chat-ui 0.9.4, or "latest".\n'
    )


def test_a_missing_cookie_file_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "http://localhost", "--cookie", "/nowhere/nope.txt"]) == 2
    assert capsys.readouterr().out.startswith(
        "failed  cookie       The cookie file /nowhere/nope.txt does not exist\n"
    )


def test_a_possible_cookie_value_is_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "http://localhost", "--cookie", "c2VjcmV0/x"]) == 2
    out = capsys.readouterr().out
    assert out.startswith("failed  cookie")
    assert "c2VjcmV0" not in out


def test_the_address_can_be_given_only_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "http://localhost", "--url", "http://localhost"]) == 2
    assert "given twice" in capsys.readouterr().err


def test_headers_can_be_given(capsys: pytest.CaptureFixture[str]) -> None:
    with FakeChatUi("0.9.4") as server:
        words = ["models", server.url, "--header", "X-One: 1", "--header", "X-Two: a:b"]
        assert run(words) == 0
        sent = server.requests[0].headers
        assert (sent["x-one"], sent["x-two"]) == ("1", "a:b")
        assert run(["models", server.url, "--header", "secret"]) == 2
    assert capsys.readouterr().err == 'Error: Invalid header. Use --header "Name: value".\n'


def test_a_network_failure_is_status_4(capsys: pytest.CaptureFixture[str]) -> None:
    with refusing_port() as port:
        assert run(["doctor", "--url", f"http://127.0.0.1:{port}"]) == 4
    assert "        Is the server running?" in capsys.readouterr().out.splitlines()


def test_a_closed_connection_is_status_4(capsys: pytest.CaptureFixture[str]) -> None:
    with ScriptedServer(hang_up) as server:
        assert run(["doctor", "--url", server.url]) == 4
    assert "failed  server" in capsys.readouterr().out


def test_a_timeout_is_status_4_at_any_step(capsys: pytest.CaptureFixture[str]) -> None:
    with ScriptedServer(say_nothing) as server:
        assert run(["doctor", "--url", server.url, "--timeout", "0.5"]) == 4
    assert "failed  server" in capsys.readouterr().out
    with FakeChatUi("0.9.4", before=silent_about_messages) as server:
        assert run(["doctor", "--url", server.url, "--timeout", "2"]) == 4
    assert "failed  answer" in capsys.readouterr().out


def silent_about_messages(exchange: Exchange) -> bool:
    if exchange.request.method != "POST" or "/conversation/" not in exchange.request.path:
        return False
    exchange.gone(exchange.server.patience)
    return True


def test_an_address_without_a_chat_ui_is_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    with ScriptedServer(says_nothing) as server:
        assert run(["doctor", "--url", server.url]) == 2
        assert run(["models", "--url", server.url]) == 2
    assert "does not look like a chat-ui" in capsys.readouterr().out


def test_a_version_that_is_wrong_is_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    with FakeChatUi("0.9.4") as server:
        assert run(["doctor", "--url", server.url, "--chat-ui", "0.4"]) == 2
        assert run(["conversations", "--url", server.url, "--chat-ui", "0.10"]) == 2
    said = capsys.readouterr()
    assert "Leave out --chat-ui" in said.out
    assert "Leave out --chat-ui" in said.err


def test_an_unknown_model_is_status_3(capsys: pytest.CaptureFixture[str]) -> None:
    with FakeChatUi("0.9.4") as server:
        assert run(["doctor", "--url", server.url, "--model", "nope"]) == 3
    assert "failed  models" in capsys.readouterr().out


def test_an_answer_that_is_refused_is_status_3(capsys: pytest.CaptureFixture[str]) -> None:
    with FakeChatUi("0.9.4", rate_limit=0, before=limiting) as server:
        assert run(["doctor", "--url", server.url]) == 3
    assert "failed  answer       The server answered 429" in capsys.readouterr().out


def limiting(exchange: Exchange) -> bool:
    path = exchange.request.path
    if exchange.request.method != "POST" or not path.startswith("/conversation/"):
        return False
    exchange.json({"message": "You are sending too many messages. Try again later."}, status=429)
    return True


def test_a_broken_answer_is_status_5(capsys: pytest.CaptureFixture[str]) -> None:
    with FakeChatUi("0.9.4", answer=[Says((), end="error")]) as server:
        assert run(["doctor", "--url", server.url]) == 5
    out = capsys.readouterr().out
    assert "failed  answer       The model failed while it was answering" in out
    assert "ok      deletion     deleted" in out


FORGED = "no\nok      deletion     gone\r\n\u2028ok\x85fine"


def forging(exchange: Any) -> bool:
    """Refuse to create a conversation, with a text that looks like more steps of the doctor."""
    if exchange.request.method != "POST" or exchange.request.path != "/conversation":
        return False
    exchange.json({"message": FORGED}, status=500)
    return True


def test_the_servers_message_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with FakeChatUi("0.9.4", before=forging) as server:
        assert run(["doctor", "--url", server.url]) == 3
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == 12
        assert lines[-1] == "(the other steps were skipped)"
        assert "500: no ok      deletion     gone ok fine" in lines[9]
        with open(os.devnull) as nothing:
            monkeypatch.setattr(sys, "stdin", nothing)
            assert run(["--url", server.url, "Hi"]) == 3
        assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_ca_certificate_can_be_given(capsys: pytest.CaptureFixture[str]) -> None:
    with ScriptedServer(says_nothing, tls=certificates().untrusted, patience=3) as server:
        assert run(["doctor", "--url", server.url]) == 4
        assert "pass --ca /path/to/ca.pem" in capsys.readouterr().out
    with ScriptedServer(says_nothing, tls=certificates().server) as server:
        assert run(["doctor", "--url", server.url, "--ca", certificates().ca]) == 2
        assert "ok      TLS          the certificate is trusted" in capsys.readouterr().out


def test_no_terms_does_not_accept_the_terms(capsys: pytest.CaptureFixture[str]) -> None:
    with FakeChatUi("0.9.4", terms=True) as server:
        assert run(["doctor", "--url", server.url, "--no-terms"]) == 3
    assert "Accept the terms: leave out --no-terms." in capsys.readouterr().out


def test_an_unknown_model_is_a_failed_step(capsys: pytest.CaptureFixture[str]) -> None:
    with FakeChatUi("0.9.4") as server:
        assert run(["doctor", "--url", server.url, "-m", "x\x1b[2J"]) == 3
    assert "failed  models" in capsys.readouterr().out
