"""The plugin for ``llm``, through its command and its Python API."""

from __future__ import annotations

import asyncio
import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from fake_chatui import FakeChatUi
from fake_model import Prompt, Says
from fake_store import MODELS

# llm loads all installed plugins, and the bundled model's needs llama_cpp.
os.environ["LLM_LOAD_PLUGINS"] = "h2o-chat"
import llm
from llm.cli import cli

ERAS = ["0.4", "0.8.4", "0.10.0", "head"]


def echoed(prompt: Prompt) -> Says:
    return Says(("You said: ", prompt.last))


@pytest.fixture(params=ERAS)
def server(request: pytest.FixtureRequest) -> Iterator[FakeChatUi]:
    with FakeChatUi(request.param, answer=echoed) as server:
        yield server


@pytest.fixture
def newest() -> Iterator[FakeChatUi]:
    with FakeChatUi("head", answer=echoed) as server:
        yield server


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LLM_USER_PATH", str(tmp_path))
    return tmp_path


def run(*words: str, status: int = 0) -> Result:
    result = CliRunner().invoke(cli, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == status, result.output
    return result


def chat_ui(url: str) -> Any:
    return llm.get_model("chat-ui"), {"url": url}


def test_the_second_turn_reaches_the_server_as_a_turn(server: FakeChatUi) -> None:
    asked = "-o", "url", server.url
    assert run("-m", "chat-ui", "one", *asked).stdout == "You said: one\n"
    assert run("-c", "two", *asked).stdout == "You said: two\n"
    assert len(server.conversations) == 1
    turns = [("user", "one"), ("assistant", "You said: one"), ("user", "two")]
    assert [turn for turn in server.prompts[-1].turns if turn[1]] == turns


def test_a_warning_in_the_command_is_one_line(newest: FakeChatUi) -> None:
    warned = run("-m", "chat-ui", "one", "-o", "url", newest.url, "-o", "temperature", "0.5")
    told = "Warning: chat-ui since July 2026 ignores sampling parameters: temperature.\n"
    assert (warned.stdout, warned.stderr) == ("You said: one\n", told)


def test_the_log_has_the_conversation_and_the_model_of_the_server(newest: FakeChatUi) -> None:
    run("-m", "chat-ui", "one", "-o", "url", newest.url)
    (logged,) = json.loads(run("logs", "--json").stdout)
    assert logged["response_json"]["conversation_id"] in newest.conversations
    assert logged["response_json"]["finish_reason"] == "stop"
    assert logged["resolved_model"] == MODELS[0]


def test_without_a_log_no_conversation_is_kept(server: FakeChatUi) -> None:
    result = run("-m", "chat-ui", "one", "-o", "url", server.url, "--no-log")
    assert result.stdout == "You said: one\n"
    server.wait_for(lambda fake: not fake.conversations)
    run("logs", "off")
    run("-m", "chat-ui", "one", "-o", "url", server.url)
    server.wait_for(lambda fake: not fake.conversations)


def test_a_named_server_has_its_address_and_model(newest: FakeChatUi, home: Path) -> None:
    run("chat-ui", "add", "work", newest.url, "--model", MODELS[1])
    assert run("chat-ui", "list").stdout == f"work\t{newest.url}\t{MODELS[1]}\n"
    assert run("-m", "chat-ui/work", "one").stdout == "You said: one\n"
    (conversation,) = newest.conversations.values()
    assert conversation.model == MODELS[1]
    run("chat-ui", "remove", "work")
    assert run("chat-ui", "list").stdout == ""
    assert "Unknown server 'work'" in run("chat-ui", "remove", "work", status=1).output


def test_clean_deletes_kept_conversations_and_llm_continues_in_new_ones(newest: FakeChatUi) -> None:
    asked = "-o", "url", newest.url
    run("-m", "chat-ui", "one", *asked)
    run("chat-ui", "clean", "--older-than", "1")
    assert len(newest.conversations) == 1
    assert "Deleted 1 of 1" in run("chat-ui", "clean").stderr
    assert not newest.conversations
    continued = run("-c", "two", *asked).stdout
    assert "one" in continued  # the history is part of the prompt
    assert "two" in continued


def test_a_deleted_conversation_is_replaced_by_a_new_one(server: FakeChatUi) -> None:
    asked = "-o", "url", server.url
    run("-m", "chat-ui", "one", *asked)
    with server.changed:
        server.conversations.clear()
    assert "one" in run("-c", "two", *asked).stdout
    assert len(server.conversations) == 1


def test_an_expired_session_is_replaced(server: FakeChatUi, home: Path) -> None:
    asked = "-o", "url", server.url
    run("-m", "chat-ui", "one", *asked)
    (file,) = home.glob("*.cookies")
    file.write_text(re.sub(r"\t\d{9,}\t", "\t86400\t", file.read_text()))
    assert run("-m", "chat-ui", "other", *asked).stdout == "You said: other\n"
    file.write_text(re.sub(r"\t\d{9,}\t", "\t86400\t", file.read_text()))
    assert "other" in run("-c", "two", *asked).stdout
    assert "\t86400\t" not in file.read_text()


def test_two_turns_of_a_program_are_one_conversation(server: FakeChatUi) -> None:
    model, options = chat_ui(server.url)
    conversation = model.conversation()
    conversation.prompt("one", options=options).text()
    answer = conversation.prompt("two", options=options)
    assert answer.text() == "You said: two"
    assert len(server.conversations) == 1


def test_another_history_is_another_conversation(newest: FakeChatUi) -> None:
    model, options = chat_ui(newest.url)
    conversation = model.conversation()
    first = conversation.prompt("one", options=options)
    first.text()
    conversation.prompt("two", options=options).text()
    conversation.responses = [first]  # back to the first answer
    conversation.prompt("other two", options=options).text()
    assert len(newest.conversations) == 2


def test_a_single_prompt_leaves_no_conversation(server: FakeChatUi) -> None:
    model, options = chat_ui(server.url)
    assert model.prompt("one", options=options).text() == "You said: one"
    server.wait_for(lambda fake: not fake.conversations)


def test_a_system_prompt_is_sent_to_the_server(newest: FakeChatUi) -> None:
    run("-m", "chat-ui", "-s", "Be brief.", "one", "-o", "url", newest.url)
    (conversation,) = newest.conversations.values()
    assert conversation.preprompt == "Be brief."


def test_the_async_model_does_the_same(server: FakeChatUi) -> None:
    async def talk() -> list[str]:
        model = llm.get_async_model("chat-ui")
        conversation = model.conversation()
        options = {"url": server.url}
        return [await conversation.prompt(text, options=options).text() for text in ("one", "two")]

    assert asyncio.run(talk()) == ["You said: one", "You said: two"]
    assert len(server.conversations) == 1


def test_leaving_an_answer_stops_the_model() -> None:
    with FakeChatUi("head", answer=lambda prompt: Says(("a", "b"), holds=True)) as server:
        model, options = chat_ui(server.url)
        answer = iter(model.prompt("one", options=options))
        assert next(answer) == "a"
        answer.close()
        server.wait_for(lambda fake: not fake.conversations)


def test_errors_are_those_of_llm(newest: FakeChatUi) -> None:
    model, _ = chat_ui(newest.url)
    with pytest.raises(llm.ModelError, match="No server"):
        model.prompt("one").text()
    failed = run("-m", "chat-ui", "one", "-o", "url", "http://127.0.0.1:1", status=1)
    assert "127.0.0.1" in failed.output
    assert "Traceback" not in failed.output
    refused = run("-m", "chat-ui", "one", "-o", "url", newest.url, "-o", "model", "nope", status=1)
    assert "nope" in refused.output


def test_an_attachment_is_a_file(newest: FakeChatUi, tmp_path: Path) -> None:
    file = tmp_path / "note.txt"
    file.write_text("All is well.")
    run("-m", "chat-ui", "Read", "--at", str(file), "text/plain", "-o", "url", newest.url)
    (conversation,) = newest.conversations.values()
    assert any(each.files for each in conversation.messages)


def test_the_cookie_of_llm_keys_is_sent_to_its_server_alone(
    newest: FakeChatUi, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("keys", "set", "chat-ui", "--value", "hf-chat=mine")
    run("-m", "chat-ui", "one", "-o", "url", newest.url)
    assert "mine" not in newest.sessions
    monkeypatch.setenv("H2O_CLIENT_URL", newest.url)
    run("-m", "chat-ui", "one")
    assert "mine" in newest.sessions


def test_clean_sends_the_cookie_of_llm_keys_to_its_server_alone(newest: FakeChatUi) -> None:
    run("keys", "set", "chat-ui", "--value", "hf-chat=mine")
    run("-m", "chat-ui", "one", "-o", "url", newest.url)
    run("chat-ui", "clean")
    assert "mine" not in newest.sessions
    assert not newest.conversations


def test_a_damaged_database_breaks_no_other_model(home: Path) -> None:
    (home / "chat-ui.db").write_bytes(b"no database" * 100)
    listed = run("models", "list")
    assert "chat-ui" in listed.stdout
    assert "chat-ui.db: file is not a database" in listed.stderr
    assert "move it away" in run("chat-ui", "list", status=1).stderr


def test_clean_does_not_count_missing_conversations(newest: FakeChatUi) -> None:
    run("-m", "chat-ui", "one", "-o", "url", newest.url)
    run("-m", "chat-ui", "two", "-o", "url", newest.url)
    del newest.conversations[next(iter(newest.conversations))]
    said = run("chat-ui", "clean").stderr
    assert "Deleted 1 of 2" in said
    assert "1 not found" in said
    assert "Deleted 0 of 0" in run("chat-ui", "clean").stderr


def test_clean_sends_a_given_key_to_one_server_only(newest: FakeChatUi) -> None:
    mine = newest.browser()
    with FakeChatUi("head", answer=echoed) as other:
        run("-m", "chat-ui", "one", "-o", "url", newest.url, "--key", mine)
        run("-m", "chat-ui", "one", "-o", "url", other.url, "--key", other.browser())
        before = len(other.requests)
        said = run("chat-ui", "clean", "--key", mine, status=1).stderr
        assert newest.url in said
        assert other.url in said
        run("chat-ui", "clean", "--key", mine, "--url", newest.url)
        assert len(other.requests) == before
    assert not newest.conversations


def test_the_files_are_readable_by_the_user_only(newest: FakeChatUi, home: Path) -> None:
    run("-m", "chat-ui", "one", "-o", "url", newest.url)
    files = list(home.glob("chat-ui*"))
    assert len(files) == 2
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_registering_loads_no_client_and_sends_no_request() -> None:
    code = (
        "import sys, llm; models = {model.model_id for model in llm.get_models()};"
        "print('chat-ui' in models, {'requests', 'urllib3', 'anyio'} & sys.modules.keys())"
    )
    before = "import sys, llm.cli; print({'requests', 'urllib3', 'anyio'} & sys.modules.keys())"
    shown = [
        subprocess.run([sys.executable, "-c", each], capture_output=True, text=True, check=True)
        for each in (code, before)
    ]
    assert shown[0].stdout == f"True {shown[1].stdout}"
