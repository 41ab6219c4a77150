"""Continuing kept conversations: ``-c``, ``--conversation``, ``chat ID`` and ``/open``."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fake_chatui import FakeChatUi
from h2o_client.cli import run
from h2o_client.cli.kept_conversations import KeptConversation, last_kept

Piped = Callable[[str], None]
VERSIONS = ("0.4", "0.9.4", "head")


@pytest.fixture
def piped(monkeypatch: pytest.MonkeyPatch) -> Piped:
    def set_stdin(text: str) -> None:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))

    set_stdin("")
    return set_stdin


@pytest.fixture(params=VERSIONS)
def server(request: pytest.FixtureRequest, piped: Piped) -> Iterator[FakeChatUi]:
    with FakeChatUi(request.param) as server:
        yield server


def turns(server: FakeChatUi) -> list[str]:
    """The last prompt that the server received, and its history."""
    return [text for _, text in server.prompts[-1].turns]


def the_only_id(server: FakeChatUi) -> str:
    (id,) = server.conversations
    return id


def test_continue_uses_the_last_kept_conversation(
    server: FakeChatUi, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["--url", server.url, "--keep", "One"]) == 0
    kept = f"(Kept conversation {the_only_id(server)}. h2o-chat -c continues it.)\n"
    assert capsys.readouterr().err == kept
    assert run(["-c", "Two"]) == 0
    assert run(["--url", server.url, "--continue", "Three"]) == 0
    assert capsys.readouterr().err == ""
    assert [each.last for each in server.prompts] == ["One", "Two", "Three"]
    assert len(turns(server)) == 5
    assert len(server.conversations) == 1


def test_the_last_conversation_is_the_one_with_the_latest_message(server: FakeChatUi) -> None:
    run(["--url", server.url, "--keep", "One"])
    first = the_only_id(server)
    run(["--url", server.url, "--keep", "Two"])
    run(["--conversation", first, "Three"])
    run(["-c", "Four"])
    assert "One" in turns(server)
    assert server.prompts[-1].last == "Four"


def test_kept_conversations_of_a_server_share_a_session(
    server: FakeChatUi, capsys: pytest.CaptureFixture[str]
) -> None:
    run(["--url", server.url, "--keep", "One"])
    run(["--url", server.url, "--keep", "Two"])
    capsys.readouterr()
    assert run(["conversations", "--url", server.url]) == 0
    assert {line.split("\t")[0] for line in capsys.readouterr().out.splitlines()} == {
        *server.conversations
    }


def test_prompts_without_keep_use_new_sessions(server: FakeChatUi) -> None:
    run(["--url", server.url, "--keep", "One"])
    run(["--url", server.url, "Two"])
    sessions = {each.cookies.get("hf-chat") for each in server.requests} - {None}
    assert len(sessions) == 2
    assert len(server.conversations) == 1


@pytest.mark.parametrize("words", [["chat"], ["chat", "ID"], ["chat", "-c"], ["-c"]])
def test_a_chat_continues_a_kept_conversation(
    server: FakeChatUi, piped: Piped, words: list[str]
) -> None:
    run(["--url", server.url, "--keep", "One"])
    id = the_only_id(server)
    piped("Two\n")
    if words == ["chat"]:
        words = ["chat", "--conversation", id]
    assert run([id if word == "ID" else word for word in words]) == 0
    assert [each.last.rstrip() for each in server.prompts] == ["One", "Two"]
    assert len(turns(server)) == 3
    assert list(server.conversations) == [id]


def test_a_kept_chat_is_recorded_while_it_runs(server: FakeChatUi, piped: Piped) -> None:
    class Lines(io.BytesIO):
        def readline(self, size: int | None = -1, /) -> bytes:
            line = super().readline(size)
            if line == b"":
                found.append(last_kept(server.url))
            return line

    found: list[KeptConversation | None] = []
    piped("")
    sys.stdin = io.TextIOWrapper(Lines(b"One\n"))
    assert run(["chat", "--url", server.url, "--keep"]) == 0
    assert [each.id for each in found if each] == [the_only_id(server)]


def test_an_opened_conversation_can_be_retried_and_stays(server: FakeChatUi, piped: Piped) -> None:
    run(["--url", server.url, "--keep", "One"])
    id = the_only_id(server)
    piped(f"Zero\n/open {id}\n/retry\nTwo\n")
    assert run(["chat", "--url", server.url, "--keep"]) == 0
    assert [each.last for each in server.prompts] == ["One", "Zero", "One", "Two"]
    assert len(server.conversations) == 2


def test_open_lists_them_by_number(
    server: FakeChatUi, piped: Piped, capsys: pytest.CaptureFixture[str]
) -> None:
    run(["--url", server.url, "--keep", "One"])
    id = the_only_id(server)
    piped("/open\n/open 1\nTwo\n")
    assert run(["chat", "--url", server.url, "--keep"]) == 0
    assert f"   1  {id}  " in capsys.readouterr().out
    assert len(turns(server)) == 3


def test_the_chat_stays_in_its_conversation_if_another_cannot_be_opened(
    server: FakeChatUi, piped: Piped, capsys: pytest.CaptureFixture[str]
) -> None:
    piped(f"One\n/open {'0' * 24}\nTwo\n")
    assert run(["chat", "--url", server.url]) == 3
    assert capsys.readouterr().err.startswith("Error: ")
    assert len(turns(server)) == 3
    assert server.conversations == {}


@pytest.mark.parametrize("name", ["show", "share", "delete"])
def test_commands_find_the_server_and_session_of_a_kept_conversation(
    server: FakeChatUi, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run(["--url", server.url, "--keep", "One"])
    assert run(["conversations", name, the_only_id(server)]) == 0
    assert run(["-c", "Two"]) == (2 if name == "delete" else 0)


def test_a_browsers_cookie_is_not_saved(server: FakeChatUi, own_home: Path) -> None:
    cookie = server.browser()
    run(["--url", server.url, "--cookie", cookie, "--keep", "One"])
    (note,) = own_home.rglob("conversation-*.json")
    assert cookie.partition("=")[2] not in note.read_text()
    assert note.stat().st_mode & 0o777 == 0o600
    assert run(["--cookie", cookie, "-c", "Two"]) == 0
    assert len(turns(server)) == 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-c", "Hi"], "No conversation was kept. Keep one with --keep"),
        (["--url", "http://localhost:1", "-c", "Hi"], "No conversation at http://localhost:1 was"),
        (["-c", "--conversation", "a1", "Hi"], "Only one of --continue"),
        (["-c", "-s", "Be brief.", "Hi"], "--model and --system are for a new conversation"),
        (["--local", "-c", "Hi"], "which has no conversations yet"),
        (["chat", "0" * 24, "-c"], "given twice"),
        (["chat", "hello"], "send it as a prompt: h2o-chat ask hello"),
    ],
)
def test_contradicting_options_are_refused(
    piped: Piped, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words) == 2
    assert said in capsys.readouterr().err
