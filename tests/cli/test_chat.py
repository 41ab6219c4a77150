"""``h2o-chat chat`` with piped lines: prompts, slash commands, and errors."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from fake_chatui import FakeChatUi
from fake_model import Says
from fake_store import MODELS
from h2o_client.cli import run
from scripted_chatui import ScriptedChatUi, refuses, streams, tokens

Talk = Callable[..., "Talked"]


class Talked:
    """The result of a chat."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err


@pytest.fixture
def talk(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Talk:
    def talk(url: str, *lines: str, arguments: tuple[str, ...] = ()) -> Talked:
        typed = "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(typed)))
        status = run(["chat", "--url", url, *arguments])
        return Talked(status, *capsys.readouterr())

    return talk


def test_each_line_is_a_message_of_one_conversation(talk: Talk) -> None:
    with FakeChatUi("0.9.4") as server:
        talked = talk(server.url, "One", "", "Two")
        assert (talked.status, talked.err) == (0, "")
        assert talked.out == "1 turns, the last: One\n3 turns, the last: Two\n"
        assert server.conversations == {}


def test_a_conversation_can_be_kept(talk: Talk) -> None:
    with FakeChatUi("0.9.4") as server:
        talk(server.url, "One", arguments=("--keep", "-s", "Be brief."))
        assert len(server.conversations) == 1
        assert server.prompts[0].turns == (("system", "Be brief."), ("user", "One"))


def test_a_backslash_continues_the_line(talk: Talk) -> None:
    with FakeChatUi("0.9.4") as server:
        talk(server.url, "One\\", "two", "three\\")
        assert [prompt.last for prompt in server.prompts] == ["One\ntwo", "three"]


def test_an_error_is_one_sentence_and_the_chat_continues(talk: Talk) -> None:
    answers = [refuses(429, {"message": "Too many"}), streams(tokens("Hello"))]
    with ScriptedChatUi(answers) as server:
        talked = talk(server.url, "One", "Two")
    assert talked.status == 3
    assert talked.err.startswith("Error: The server answered 429: Too many")
    assert talked.err.count("\n") == 1
    assert talked.out == "Hello\n"


def test_text_before_an_error_stays(talk: Talk) -> None:
    with ScriptedChatUi(streams(tokens("Hel", end=False))) as server:
        talked = talk(server.url, "One")
    assert (talked.status, talked.out) == (5, "Hel\n")


def test_an_unknown_slash_command_sends_nothing(talk: Talk) -> None:
    with FakeChatUi("0.9.4") as server:
        talked = talk(server.url, "/foo bar", "/", "/etc/passwd")
        assert server.requests == []
    assert (talked.status, talked.out) == (0, "")
    assert "Unknown command /foo. Nothing was sent. /help lists the commands." in talked.err


def test_a_conversation_without_messages_is_not_saved(talk: Talk, tmp_path: Path) -> None:
    with FakeChatUi("0.9.4") as server:
        talked = talk(server.url, f"/save {tmp_path}/chat.md")
        assert server.requests == []
    assert talked.err.endswith("this conversation has no messages yet.\n")
    assert list(tmp_path.iterdir()) == []


def test_slash_resume_resumes_a_broken_answer(talk: Talk) -> None:
    with ScriptedChatUi(streams(tokens("Hel", end=False))) as server:
        talked = talk(server.url, "One")
    assert "Send the prompt again with /retry, or" in talked.err


def test_help_shows_every_command(talk: Talk) -> None:
    talked = talk("http://localhost:1", "/help")
    for name in ("/retry", "/edit [TEXT]", "/save [FILE]", "/quit"):
        assert re.search(rf"^  {re.escape(name)}  +[A-Za-z]", talked.err, re.MULTILINE), name


def test_quit_leaves(talk: Talk) -> None:
    with FakeChatUi("0.9.4") as server:
        assert talk(server.url, "/quit", "One").out == ""
        assert server.requests == []


@pytest.mark.parametrize("version", ["0.4", "0.9.4", "head"])
def test_retry_asks_again(talk: Talk, version: str) -> None:
    answers = [Says.words("first"), Says.words("second")]
    with FakeChatUi(version, answer=answers) as server:
        talked = talk(server.url, "One", "/retry")
        assert (talked.status, talked.out, talked.err) == (0, "first\nsecond\n", "")
        assert [prompt.last for prompt in server.prompts] == ["One", "One"]


def test_retry_sends_a_prompt_that_was_not_received(talk: Talk) -> None:
    answers = [refuses(429, {"message": "Too many"}), streams(tokens("Hello"))]
    with ScriptedChatUi(answers) as server:
        talked = talk(server.url, "One", "/retry")
        sent = [each.json() for each in server.requests if b'"inputs"' in each.body]
    assert talked.out == "Hello\n"
    assert [message["inputs"] for message in sent] == ["One", "One"]


@pytest.mark.parametrize("version", ["0.4", "0.9.4", "head"])
def test_edit_replaces_the_last_message(talk: Talk, version: str) -> None:
    with FakeChatUi(version) as server:
        talked = talk(server.url, "One", "Two", "/edit Three")
        assert (talked.status, talked.err) == (0, "")
        assert talked.out.endswith("3 turns, the last: Three\n")


@pytest.mark.parametrize(("line", "sent"), [("/retry", "Two"), ("/edit Zwei", "Zwei")])
def test_retry_sends_the_failed_message_and_not_the_one_before(
    talk: Talk, line: str, sent: str
) -> None:
    answers = [Says(("Fine",)), Says(("So",), end="error"), Says(("Good",))]
    with FakeChatUi("0.4", answer=answers) as server:
        talked = talk(server.url, "One", "Two", line, arguments=("--keep",))
        assert talked.out == "Fine\nSo\nGood\n"
        server.wait_for(lambda server: server.stored)
        (conversation,) = server.conversations.values()
        assert [each.content for each in conversation.messages] == ["One", "Fine", sent, "Good"]


def test_edit_without_a_text_takes_the_next_line(talk: Talk) -> None:
    with FakeChatUi("0.9.4") as server:
        talked = talk(server.url, "One", "/edit", "Two")
        assert talked.out.endswith("1 turns, the last: Two\n")


@pytest.mark.parametrize("line", ["/retry", "/edit", "/edit Two"])
def test_retry_and_edit_need_a_message(talk: Talk, line: str) -> None:
    with FakeChatUi("0.9.4") as server:
        assert talk(server.url, line).err == "There is no message yet.\n"
        assert server.requests == []


def test_another_system_prompt_begins_a_new_conversation(talk: Talk) -> None:
    with FakeChatUi("0.9.4") as server:
        talked = talk(server.url, "/system", "One", "/system Be brief.", "/system", "Two")
        assert server.prompts[1].turns == (("system", "Be brief."), ("user", "Two"))
        assert server.conversations == {}
    assert talked.err == ("There is no system prompt.\n(A new conversation.)\nBe brief.\n")


def test_a_new_conversation_does_not_contain_the_last_one(talk: Talk) -> None:
    with FakeChatUi("0.9.4") as server:
        talked = talk(server.url, "One", "/new", "Two", "/new", "/retry")
    assert talked.out == "1 turns, the last: One\n1 turns, the last: Two\n"
    assert talked.err.endswith("There is no message yet.\n")


def test_another_model_is_used(talk: Talk) -> None:
    with FakeChatUi("0.9.4") as server:
        talked = talk(
            server.url,
            "/model",
            f"/model {MODELS[1]}",
            "One",
            "/model nobody",
            arguments=("--keep",),
        )
        (conversation,) = server.conversations.values()
        assert conversation.model == MODELS[1]
    assert talked.out.splitlines()[: len(MODELS)] == list(MODELS)
    assert "Unknown model nobody. /model lists the models." in talked.err


def test_a_title_is_shown_and_changed(talk: Talk) -> None:
    with FakeChatUi("0.9.4", answer=[Says(title="Greetings")]) as server:
        talked = talk(server.url, "One", "/title", "/title Other", "/title")
    assert talked.out == "Hello there\nGreetings\nOther\n"


def test_a_conversation_is_shared(talk: Talk) -> None:
    with FakeChatUi("0.9.4") as server:
        talked = talk(server.url, "One", "/share")
        assert talked.out.splitlines()[1].startswith(f"{server.url}/r/")


def test_commands_that_need_a_conversation_say_so(talk: Talk) -> None:
    talked = talk("http://localhost:1", "/share", "/title x")
    assert talked.status == 2
    assert talked.err.count("This conversation has no messages yet. Send a message first.") == 2


def test_a_conversation_is_saved(talk: Talk, tmp_path: Path) -> None:
    text, data = tmp_path / "a.md", tmp_path / "a.json"
    with FakeChatUi("0.9.4", answer=[Says(title="Greetings")]) as server:
        talked = talk(server.url, "One", f"/save {text}", f"/save {data}", "/save")
    assert text.read_text() == "# Greetings\n\n## User\n\nOne\n\n## Assistant\n\nHello there\n"
    assert json.loads(data.read_text())["title"] == "Greetings"
    assert talked.err.startswith(f"Saved to {text}.\nSaved to {data}.\nTo which file?")


def test_a_write_error_does_not_end_the_chat(talk: Talk, tmp_path: Path) -> None:
    with FakeChatUi("0.9.4") as server:
        talked = talk(server.url, "One", f"/save {tmp_path}/no/such/a.md", "Two")
    assert talked.status == 2
    assert ": No such file or directory." in talked.err
    assert talked.out.endswith("3 turns, the last: Two\n")


def test_an_answer_that_was_cut_off_says_so(talk: Talk) -> None:
    with FakeChatUi("0.4", answer=[Says(end="length")]) as server:
        talked = talk(server.url, "One")
    assert talked.err == "(The answer reached the maximum length.)\n"


def test_binary_input_does_not_end_the_chat(talk: Talk) -> None:
    with FakeChatUi("0.9.4") as server:
        talked = talk(server.url, "caf\udce9", "a\0b", "Two\r")
        assert [prompt.last for prompt in server.prompts] == ["Two"]
    assert talked.status == 2
    assert "is not UTF-8 text: byte 4 is 0xe9" in talked.err
    assert "has NUL characters" in talked.err


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_lines_are_decoded_by_their_byte_order_mark(
    encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = "caf\xe9\r\nTwo\n".encode(encoding)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
    with FakeChatUi("0.9.4") as server:
        assert run(["chat", "--url", server.url]) == 0
        assert [prompt.last for prompt in server.prompts] == ["caf\xe9", "Two"]


@pytest.mark.parametrize("name", ["~nosuch/x", "/"])
def test_an_invalid_file_name_does_not_end_the_chat(talk: Talk, name: str) -> None:
    with FakeChatUi("0.9.4") as server:
        talked = talk(server.url, "One", f"/save {name}", "Two")
    assert talked.status == 2
    assert "Cannot write " in talked.err
    assert talked.err.count("\n") == 1
    assert talked.out.endswith("3 turns, the last: Two\n")


def test_an_endless_line_is_refused(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("h2o_client.cli.input._MOST", 10)
    with FakeChatUi("0.9.4") as server:
        talked = talk(server.url, "One", "x" * 10)
        assert [prompt.last for prompt in server.prompts] == ["One"]
        assert server.conversations == {}
    assert talked.status == 2
    assert "MiB, which is too long for one message" in talked.err


def test_two_slashes_send_a_message_that_begins_with_a_slash(talk: Talk) -> None:
    with FakeChatUi("0.9.4") as server:
        talked = talk(server.url, "//etc/passwd", "/foo")
        assert [prompt.last for prompt in server.prompts] == ["/etc/passwd"]
    assert "begins with a slash, type two slashes: //foo" in talked.err


def test_set_changes_the_sampling_parameters(talk: Talk) -> None:
    with FakeChatUi("0.4") as server:
        lines = ("/set top_k=5", "One", "/set temperature=", "Two", "/set", "/set temprature=1")
        talked = talk(server.url, *lines, arguments=("-p", "temperature=0.25"))
        sent = [each.json()["parameters"] for each in server.requests if b"inputs" in each.body]
    assert [(each["temperature"], each["top_k"]) for each in sent] == [(0.25, 5), (0.3, 5)]
    assert talked.out.splitlines()[:2] == ["temperature=0.25", "top_k=5"]
    assert "Unexpected parameter /set temprature=. Did you mean /set temperature=?" in talked.err
    assert talked.status == 2


def test_attached_files_go_with_the_next_message(talk: Talk, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("some notes")
    attach = f"/attach {tmp_path / 'notes.txt'}"
    lines = (attach, "One", "Two", attach, "/attach off", "Three", "/attach nothing.txt")
    with FakeChatUi("head") as server:
        talked = talk(server.url, *lines)
        files = [len(prompt.files) for prompt in server.prompts]
    assert files == [1, 0, 0]
    assert f"With the next message: {tmp_path / 'notes.txt'}" in talked.err
    assert "The file nothing.txt does not exist. Nothing was attached." in talked.err
