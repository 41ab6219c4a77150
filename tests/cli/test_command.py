"""The command: its output, its exit status, pipes, and signals."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest

from fake_chatui import FakeChatUi
from fake_model import Says
from h2o_client import __version__
from h2o_client.cli import run
from local_service import PATIENCE
from programs import start
from scripted import Exchange, ScriptedServer, refusing_port
from scripted_chatui import ID, ScriptedChatUi, refuses, streams, tokens

ROOT = Path(__file__).parents[2]
MESSAGE = f"/conversation/{ID}"
COMMAND = [sys.executable, "-m", "h2o_client"]


def command(
    *arguments: str, piped: str | None = None, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """The command as run by a shell."""
    return subprocess.run(
        [*COMMAND, *arguments],
        input=piped or "",
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        cwd=ROOT,
        env={**os.environ, **(env or {})},
    )


@pytest.fixture
def no_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal:
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal())


def asked(server: ScriptedServer) -> dict[str, object]:
    (message,) = [each for each in server.requests if b'"inputs"' in each.body]
    value: dict[str, object] = json.loads(message.body)
    return value


def test_only_the_answer_goes_to_stdout() -> None:
    with ScriptedChatUi() as server:
        done = command("--url", server.url, "Why", "is", "it", "so?")
        assert (done.returncode, done.stdout, done.stderr) == (0, "Hello there\n", "")
        assert asked(server)["inputs"] == "Why is it so?"
        assert server.count("DELETE") == 1


@pytest.mark.parametrize(
    ("arguments", "piped", "prompt"),
    [
        (["Summarise"], "the text\n", "Summarise\n\nthe text\n"),
        ([], "only the text", "only the text"),
        (["Summarise"], "", "Summarise"),
    ],
)
def test_input_from_a_pipe_follows_the_prompt(
    arguments: list[str], piped: str, prompt: str
) -> None:
    with ScriptedChatUi() as server:
        done = command(*arguments, piped=piped, env={"H2O_CLIENT_URL": server.url})
        assert done.returncode == 0
        assert asked(server)["inputs"] == prompt


@pytest.mark.parametrize(
    ("arguments", "piped", "prompt"),
    [
        (["-"], "only the text", "only the text"),
        (["Summarise", "-", "in", "one line"], "the text", "Summarise\n\nthe text\n\nin one line"),
        (["-", "Summarise"], "the text", "the text\n\nSummarise"),
    ],
)
def test_input_from_a_pipe_replaces_a_hyphen_in_the_prompt(
    arguments: list[str], piped: str, prompt: str
) -> None:
    with ScriptedChatUi() as server:
        done = command("--url", server.url, *arguments, piped=piped)
        assert (done.returncode, done.stderr) == (0, "")
        assert asked(server)["inputs"] == prompt


def test_words_after_two_hyphens_are_a_prompt(no_stdin: None) -> None:
    with ScriptedChatUi() as server:
        assert run(["--url", server.url, "--", "models", "--json"]) == 0
        assert asked(server)["inputs"] == "models --json"


@pytest.mark.parametrize("word", ["ask", "--"])
def test_words_after_ask_are_a_prompt(no_stdin: None, word: str) -> None:
    with ScriptedChatUi() as server:
        assert run(["--url", server.url, word, "models"]) == 0
        assert asked(server)["inputs"] == "models"


@pytest.mark.parametrize(
    "before",
    [
        ["--url", "URL"],
        ["--url=URL"],
        ["--timeout", "20", "--url", "URL"],
        ["--json", "--url", "URL"],
    ],
)
def test_a_sub_command_may_follow_options(
    no_stdin: None, capsys: pytest.CaptureFixture[str], before: list[str]
) -> None:
    with ScriptedChatUi() as server:
        assert run([*(each.replace("URL", server.url) for each in before), "models"]) == 0
        assert "falcon" in capsys.readouterr().out
        assert server.count("POST", "/conversation") == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-p", "x=1", "doctor"], "No such option"),
        (["-mfalcon", "serve"], "No such option"),
        (["--url", "http://localhost:1", "docter"], "Did you mean h2o-chat doctor?"),
        (["--json", "model"], "Did you mean h2o-chat models?"),
        (["docter", "http://localhost:1"], "Did you mean h2o-chat doctor?"),
        (["--url", "http://localhost:1", "serve"], "No such option"),
    ],
)
def test_a_sub_command_that_is_called_wrongly_is_not_a_prompt(
    no_stdin: None, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert run(arguments) == 2
    assert said in capsys.readouterr().err


def test_options_of_a_sub_command_may_stand_before_it(
    no_stdin: None, capsys: pytest.CaptureFixture[str]
) -> None:
    # Without a model: llama.cpp may hang if its model is closed immediately after it is opened.
    words = ["--port", "70000", "--upstream", "http://127.0.0.1:1", "--model", "x", "serve"]
    assert run(words) == 1
    assert "70000" in capsys.readouterr().err


def test_files_go_with_the_prompt(no_stdin: None, tmp_path: Path) -> None:
    picture, text = tmp_path / "cat.png", tmp_path / "cat.txt"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n")
    text.write_text("A cat.")
    with FakeChatUi("0.9.4") as server:
        given = ["--file", str(picture), "--file", str(text)]
        assert run(["--url", server.url, *given, "What is this?"]) == 0
        assert server.prompts[0].files == (picture.read_bytes(), b"A cat.")


def test_files_that_the_server_does_not_support_are_status_2(
    no_stdin: None, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "cat.txt"
    path.write_text("A cat.")
    with FakeChatUi("0.4") as server:
        assert run(["--url", server.url, "--file", str(path), "What is this?"]) == 2
        assert server.prompts == []
    assert "chat-ui v0.3 to v0.6 cannot " in capsys.readouterr().err


def test_the_servers_version_can_be_given(no_stdin: None) -> None:
    with ScriptedChatUi() as server:
        assert run(["--url", server.url, "--chat-ui", "0.4", "Hi"]) == 0
        assert "GET /api/models" not in server.paths()


def test_events_are_lines_of_json(no_stdin: None, capsys: pytest.CaptureFixture[str]) -> None:
    says = Says(("Hel", "lo\x1b[2J"), title="Greetings")
    with FakeChatUi("0.9.4", answer=[says]) as server:
        assert run(["--url", server.url, "--json", "Hi"]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    events = [json.loads(line) for line in out.splitlines()]
    texts = [event["text"] for event in events if event["type"] == "token"]
    assert "".join(texts) == "Hello\x1b[2J"
    assert {"type": "title", "title": "Greetings"} in events
    assert events[-1]["type"] == "answer"
    assert events[-1]["text"] == "Hello\x1b[2J"
    assert events[-1]["finish_reason"] == "stop"


@pytest.mark.parametrize(
    ("message", "status", "kind", "partial"),
    [
        (refuses(429, {"message": "Too many"}), 3, "RateLimitError", ""),
        (streams(tokens("Hel", end=False)), 5, "IncompleteAnswerError", "Hel"),
    ],
)
def test_with_json_the_last_line_is_the_error(
    no_stdin: None,
    capsys: pytest.CaptureFixture[str],
    message: Callable[[Exchange], None],
    status: int,
    kind: str,
    partial: str,
) -> None:
    with ScriptedChatUi(message) as server:
        assert run(["--url", server.url, "--json", "Hi"]) == status
    shown = capsys.readouterr()
    assert shown.err == ""
    last = json.loads(shown.out.splitlines()[-1])
    assert (last["type"], last["kind"], last["partial"]) == ("error", kind, partial)
    assert ".partial" not in last["message"]


def test_a_raw_answer_is_byte_for_byte(no_stdin: None, capsys: pytest.CaptureFixture[str]) -> None:
    with ScriptedChatUi(streams(tokens("a\x1b[1m", "b"))) as server:
        assert run(["--url", server.url, "--raw", "Hi"]) == 0
    assert capsys.readouterr().out == "a\x1b[1mb"


def test_markdown_to_a_file_is_the_plain_text(
    no_stdin: None, capsys: pytest.CaptureFixture[str]
) -> None:
    with ScriptedChatUi(streams(tokens("# A", "\n*b*"))) as server:
        assert run(["--url", server.url, "--markdown", "Hi"]) == 0
    assert capsys.readouterr().out == "# A\n*b*\n"


@pytest.mark.parametrize("manner", ["--raw", "--json", "--markdown"])
def test_an_elicitation_is_declined_and_the_answer_continues(
    no_stdin: None, capsys: pytest.CaptureFixture[str], manner: str
) -> None:
    says = Says(("one",), asks=True, rest=(" two",))
    with FakeChatUi("head", answer=[says]) as server:
        assert run(["--url", server.url, manner, "Hi"]) == 0
        posted = [each.json() for each in server.requests if "/elicitation" in each.path]
    assert [document["action"] for document in posted] == ["cancel"]
    shown = capsys.readouterr()
    assert shown.err.startswith("(A tool asks: Really? This command cannot answer")
    assert "two" in shown.out


def test_a_tool_that_asks_endlessly_is_declined_ten_times(
    no_stdin: None, capsys: pytest.CaptureFixture[str]
) -> None:
    # It asks again after any answer: 97 rounds were measured in 20 seconds.
    with FakeChatUi("head", answer=lambda prompt: Says(("one ",), asks=True)) as server:
        assert run(["--url", server.url, "Hi"]) == 5
        posted = [each.json() for each in server.requests if "/elicitation" in each.path]
        assert server.conversations == {}
    assert [document["action"] for document in posted] == ["cancel"] * 10
    shown = capsys.readouterr()
    assert shown.out == "one " * 11 + "\n"
    assert "a tool keeps asking questions, and 10 were declined" in shown.err


def test_an_encoding_without_a_character_loses_no_answer() -> None:
    with ScriptedChatUi(streams(tokens("caf\xe9", " noir"))) as server:
        done = command("--url", server.url, "Hi", env={"PYTHONIOENCODING": "ascii"})
        assert (done.returncode, done.stdout, done.stderr) == (0, "caf? noir\n", "")


def test_output_to_a_file_is_unchanged() -> None:
    with ScriptedChatUi(streams(tokens("a\x1b[1m", "b\n"))) as server:
        assert command("--url", server.url, "Hi").stdout == "a\x1b[1mb\n"


def test_a_warning_is_a_sentence(no_stdin: None, capsys: pytest.CaptureFixture[str]) -> None:
    with FakeChatUi("0.9.4") as server:
        done = command("--url", server.url, "-p", "temperature=0.7", "Hi")
    assert done.returncode == 0
    assert done.stderr.startswith("Warning: chat-ui v0.9.2 to v0.9.5 ignores sampling")
    assert done.stderr.count("\n") == 1


def test_options_control_the_answer(no_stdin: None, capsys: pytest.CaptureFixture[str]) -> None:
    with ScriptedChatUi() as server:
        arguments = ["--url", server.url, "-m", "other", "-s", "Be brief", "--keep"]
        parameters = ["-p", "temperature=0.7", "-p", "stop=END", "-p", "watermark=true"]
        assert run([*arguments, *parameters, "--cookie", "hf-chat=mine", "Hi"]) == 0
        message = asked(server)
        assert message["inputs"] == "System: Be brief\nUser: Hi\nAssistant:"
        sent = message["parameters"]
        assert isinstance(sent, dict)
        assert (sent["temperature"], sent["stop"], sent["watermark"]) == (0.7, ["END"], True)
        assert server.requests[0].cookies["hf-chat"] == "mine"
        assert server.count("DELETE") == 0
    assert capsys.readouterr().out == "Hello there\n"


@pytest.mark.parametrize("name", ["chat", "models", "doctor", "conversations", "gateway", "batch"])
def test_a_command_without_an_address_says_so_before_it_starts(
    no_stdin: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    name: str,
) -> None:
    monkeypatch.delenv("H2O_CLIENT_URL", raising=False)
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("Hello\n")
    more = [str(prompts), "-o", str(tmp_path / "answers.jsonl")] if name == "batch" else []
    assert run([name, *more]) == 2
    told = "".join(capsys.readouterr())
    assert "No server address was given" in told
    assert "gpt-gm.h2o.ai. /help" not in told
    assert [path.name for path in tmp_path.iterdir()] == ["prompts.txt"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "The prompt is empty"),
        (
            ["--url", "localhost", "Hi"],
            "Invalid server address 'localhost'. Did you mean http://localhost?",
        ),
        (["--url", "http://localhost", "--local", "Hi"], "Only one of --url and --local"),
        (["-p", "temperature", "Hi"], "NAME=VALUE"),
        (["--temperature", "1", "Hi"], "No such option"),
        (
            ["--timeout", "-1", "--url", "http://localhost:1", "Hi"],
            "Invalid timeout -1.0. Pass",
        ),
        (["Hi"], "No server address was given"),
        (["--json", "--raw", "Hi"], "Only one of --markdown, --json and --raw"),
        (["--json"], "The prompt is empty"),
        (["--file", "/nowhere/at/all", "Hi"], "does not exist"),
        (["--url", "http://localhost", "--chat-ui", "0.9", "Hi"], "for example --chat-ui 0.9.4."),
        (["--url", "http://chat.example", "--cookie", "a=b", "Hi"], "--insecure-cookies"),
    ],
)
def test_an_invalid_call_is_explained_and_is_status_2(
    no_stdin: None, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert run(arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert said in shown.err


@pytest.mark.parametrize(
    ("message", "status", "out"),
    [
        (refuses(429, {"message": "Too many"}), 3, ""),
        (streams(tokens("Hel", end=False)), 5, "Hel\n"),
        (streams([b'data:{"error":"out of memory"}\n\n']), 5, ""),
        (lambda exchange: exchange.reset(), 4, ""),
    ],
)
def test_the_exit_status_shows_the_kind_of_error(
    no_stdin: None,
    capsys: pytest.CaptureFixture[str],
    message: Callable[[Exchange], None],
    status: int,
    out: str,
) -> None:
    with ScriptedChatUi(message) as server:
        assert run(["--url", server.url, "Hi"]) == status
    shown = capsys.readouterr()
    assert shown.out == out
    assert shown.err.startswith("Error: ")
    assert shown.err.count("\n") == 1


def test_an_unreachable_server_is_status_4(
    no_stdin: None, capsys: pytest.CaptureFixture[str]
) -> None:
    with refusing_port() as port:
        assert run(["--url", f"http://127.0.0.1:{port}", "Hi"]) == 4
    assert "Is the server running" in capsys.readouterr().err


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert __version__ in capsys.readouterr().out
    assert run(["--help"]) == 0
    shown = capsys.readouterr().out
    assert "--local" in shown
    assert "Exit status" in shown
    assert run(["serve", "--help"]) == 0
    assert "--port" in capsys.readouterr().out


def unending(exchange: Exchange) -> None:
    exchange.head(200)
    while not exchange.gone(0.02):
        exchange.write(tokens("word ", end=False)[0])


def started(
    server: ScriptedServer, stdout: int = subprocess.PIPE, stderr: int = subprocess.PIPE
) -> subprocess.Popen[str]:
    return start(
        [*COMMAND, "--url", server.url, "Hi"],
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        text=True,
        cwd=ROOT,
    )


def read_some(stream: IO[str] | None) -> str:
    assert stream is not None
    return stream.read(10)


def test_tokens_are_written_at_once_and_ctrl_c_is_status_130() -> None:
    with ScriptedChatUi(unending) as server:
        program = started(server)
        assert read_some(program.stdout) == "word word "
        program.send_signal(signal.SIGINT)
        out, err = program.communicate(timeout=PATIENCE)
        assert program.returncode == 130
        assert out.endswith("\n")
        assert err.strip() == ""
        assert server.paths()[-2:] == [f"POST {MESSAGE}/stop-generating", f"DELETE {MESSAGE}"]


def test_a_closed_pipe_ends_it_quietly() -> None:
    with ScriptedChatUi(unending) as server:
        program = started(server)
        assert read_some(program.stdout) == "word word "
        assert program.stdout is not None
        program.stdout.close()
        assert program.stderr is not None
        assert program.stderr.read() == ""
        program.stderr.close()
        assert program.wait(PATIENCE) == 141
        assert server.paths()[-2:] == [f"POST {MESSAGE}/stop-generating", f"DELETE {MESSAGE}"]


def test_on_a_terminal_the_answer_is_sanitized() -> None:
    parent, child = pty.openpty()
    with ScriptedChatUi(streams(tokens("a\x1b]0;title\x07", "b\x9b2J\n"))) as server:
        program = started(server, stdout=child)
        program.communicate(timeout=PATIENCE)
        os.close(child)
        shown = os.read(parent, 1000).decode()
        os.close(parent)
    assert shown == "a\ufffd]0;title\ufffdb\ufffd2J\r\n"


def test_on_a_terminal_an_error_is_sanitized() -> None:
    parent, child = pty.openpty()
    refusal = refuses(500, {"message": "no \x1b]0;title\x07\x1b[2Jgone"})
    with ScriptedChatUi(refusal) as server:
        program = started(server, stderr=child)
        program.communicate(timeout=PATIENCE)
        os.close(child)
        shown = os.read(parent, 1000).decode()
        os.close(parent)
    assert "no \ufffd]0;title\ufffd\ufffd[2Jgone" in shown
    assert "\x1b" not in shown


def test_without_click_one_line_explains_what_to_install() -> None:
    code = "import sys; sys.modules['click'] = None; from h2o_client.__main__ import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=PATIENCE
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "The command needs the extra 'cli'. "
        "In the clone of h2o-chat, run: python -m pip install '.[cli]'\n"
    )


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """``h2o-chat serve`` with scripted answers, ended by SIGTERM."""
    answers = tmp_path_factory.mktemp("cli") / "answers.jsonl"
    answers.write_text('"scripted answer"\n')
    program = subprocess.Popen(
        [
            *COMMAND,
            "serve",
            "--port",
            "0",
            "--answers",
            str(answers),
            "--chat-ui",
            "0.4",
            "--terms",
        ],
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert program.stderr is not None
    yield program.stderr.readline().split()[-1]
    program.terminate()
    _, err = program.communicate(timeout=PATIENCE)
    assert program.returncode == 0
    assert "Traceback" not in err


def test_the_command_works_with_the_server_of_another_process(served: str) -> None:
    done = command("--url", served, "Hello")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip()


def test_local_uses_a_model_on_this_machine(
    no_stdin: None, capsys: pytest.CaptureFixture[str]
) -> None:
    threads = threading.active_count()
    assert run(["--local", "-p", "max_new_tokens=8", "-p", "do_sample=false", "Say hello"]) == 0
    assert capsys.readouterr().out.strip()
    assert threading.active_count() <= threads + 1
