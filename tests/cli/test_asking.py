"""The options of a prompt: parameters, and keeping the conversation."""

from __future__ import annotations

import io
import json
import stat
import sys
from pathlib import Path

import pytest

from fake_chatui import FakeChatUi
from h2o_client.cli import run
from scripted import refusing_port


def pipe(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))


@pytest.fixture(autouse=True)
def nothing_piped(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe(monkeypatch, "")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("temprature", "temperature"),
        ("Temperature", "temperature"),
        ("top-p", "top_p"),
        ("topk", "top_k"),
        ("max_new_token", "max_new_tokens"),
    ],
)
def test_a_misspelt_parameter_is_refused(
    name: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["--url", "http://localhost:1", "-p", f"{name}=1", "Hi"]) == 2
    assert f"Unexpected parameter -p {name}=. Did you mean -p {meant}=?" in capsys.readouterr().err


def test_other_parameters_are_passed_to_the_server(capsys: pytest.CaptureFixture[str]) -> None:
    names = ("min_p", "top_a", "best_of", "mirostat")
    words = [word for name in names for word in ("-p", f"{name}=1")]
    with FakeChatUi("0.4") as server:
        assert run(["--url", server.url, *words, "Hi"]) == 0
        sent = [each.json() for each in server.requests if b"parameters" in each.body]
    assert set(names) <= set(sent[0]["parameters"])


def test_a_network_error_mentions_h2o_chat_doctor(capsys: pytest.CaptureFixture[str]) -> None:
    with refusing_port() as port:
        assert run(["--url", f"http://127.0.0.1:{port}", "Hi"]) == 4
        said = capsys.readouterr().err
        assert said.endswith(" Run h2o-chat doctor to find the cause.\n")
        assert run(["--url", f"http://127.0.0.1:{port}", "--json", "Hi"]) == 4
    shown = capsys.readouterr()
    assert (shown.err, "doctor" in shown.out) == ("", False)


def test_a_missing_folder_is_reported_before_anything_is_sent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "nowhere" / "cookies.txt"
    with FakeChatUi("0.9.4") as server:
        assert run(["--url", server.url, "--save-cookies", str(path), "Hi"]) == 2
        assert server.requests == []
    assert "Does its folder exist?" in capsys.readouterr().err


@pytest.mark.parametrize("command", [[], ["chat"]])
def test_a_kept_conversation_is_found_again(
    command: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pipe(monkeypatch, "Hello\n")
    cookies = tmp_path / "cookies.txt"
    with FakeChatUi("0.9.4") as server:
        words = [*command, "--url", server.url, "--keep", "--save-cookies", str(cookies)]
        assert run(words) == 0
        assert "h2o-chat -c continues it" in capsys.readouterr().err
        assert stat.S_IMODE(cookies.stat().st_mode) == 0o600
        (id,) = server.conversations
        assert run(["conversations", "--url", server.url, "--cookie", str(cookies), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["id"] == id


@pytest.mark.parametrize("command", [[], ["chat"]])
def test_without_a_record_the_id_of_a_kept_conversation_is_shown(
    command: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pipe(monkeypatch, "Hello\n")
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "file"))  # nothing can be noted
    with FakeChatUi("0.9.4") as server:
        assert run([*command, "--url", server.url, "--keep"]) == 0
        (id,) = server.conversations
        said = capsys.readouterr().err
        assert id in said
        assert "--save-cookies FILE" in said
        pipe(monkeypatch, "Hello\n")
        words = ["--url", server.url, "--keep", "--cookie", server.browser()]
        assert run([*command, *words]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("words", [["caf\udce9"], ["-s", "caf\udce9", "Hi"], ["a", "caf\udce9"]])
def test_an_argument_that_is_not_text_is_refused(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["--url", "http://localhost:1", *words]) == 2
    said = "caf\ufffd is not UTF-8 text: it has the byte 0xe9. Does the terminal use UTF-8?"
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("data", [b"caf\xe9", b"h\x00i\x00"])
def test_binary_input_from_a_pipe_is_refused(
    data: bytes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
    with FakeChatUi("0.9.4") as server:
        assert run(["--url", server.url, "Summarise"]) == 2
        assert server.requests == []
    assert "The input " in capsys.readouterr().err


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_input_from_a_pipe_is_decoded_by_its_byte_order_mark(
    encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = "caf\xe9".encode(encoding)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
    with FakeChatUi("0.9.4") as server:
        assert run(["--url", server.url]) == 0
        assert server.prompts[0].last == "caf\xe9"
