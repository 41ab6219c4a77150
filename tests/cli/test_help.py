"""The command's help: its examples work, its chapter is up to date, and completion works."""

from __future__ import annotations

import io
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from fake_chatui import FakeChatUi
from h2o_client.cli import run
from h2o_client.cli.command import command
from local_service import PATIENCE
from programs import start

ROOT = Path(__file__).parents[2]
ID = "6b02c9d11306e1473508e3f3"
BIN = Path(sys.executable).parent


def commands(group: click.Group = command, name: str = "h2o-chat") -> Iterator[click.Command]:
    context = click.Context(group, info_name=name)
    for each in group.list_commands(context):
        found = group.get_command(context, each)
        assert found is not None
        yield found
        if isinstance(found, click.Group):
            yield from commands(found, each)


def examples() -> Iterator[str]:
    for each in commands():
        _, _, lines = (each.help or "").partition("Examples:\n")
        yield from filter(None, map(str.strip, lines.splitlines()))


def test_every_command_has_examples() -> None:
    for each in commands():
        assert "Examples:\n" in (each.help or ""), each.name
    assert len(list(examples())) >= 15


def test_the_list_of_commands_shows_whole_sentences(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    shown = capsys.readouterr().out
    listed = shown.partition("Commands:\n")[2].partition("\n\n")[0].splitlines()
    assert len(listed) == len(command.list_commands(click.Context(command)))
    assert [line for line in listed if line.endswith("...") or not line.endswith(".")] == []


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with the files of the examples."""
    for folder in (
        ".local/share/bash-completion/completions",
        ".zfunc",
        ".config/fish/completions",
    ):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "report.txt").write_text("Nothing happened.")
    (tmp_path / "questions.txt").write_text("Why is the sky blue?\n")
    (tmp_path / "prompts.txt").write_text("Why is the sky blue?\n")
    (tmp_path / "prompts.jsonl").write_text('"Why is the sky blue?"\n')
    (tmp_path / "questions.csv").write_text("question\nWhy is the sky blue?\n")
    return tmp_path


# test_resume.py runs those of resume: they need an answer that was cut short.
PLAIN = [each for each in examples() if not re.match("h2o-chat (serve|gateway|resume)", each)]


@pytest.mark.parametrize("example", PLAIN)
def test_an_example_works(example: str, home: Path) -> None:
    with FakeChatUi("0.4") as server:
        cookie = server.browser()
        stored = server.seed(cookie, "Skies", ("user", "Why?"), ("assistant", "So."))
        line = example.replace("http://localhost:3000", server.url).replace(ID, stored.id)
        where = {"H2O_CLIENT_URL": server.url, "H2O_CLIENT_COOKIE": cookie}
        if "--local" in line:
            where = {}
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", line],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            cwd=home,
            env={**os.environ, **where, "HOME": str(home), "PATH": f"{BIN}:{os.environ['PATH']}"},
        )
    summary = "1 of 1 answered, in .*" if example.startswith("h2o-chat batch") else ""
    assert done.returncode == 0
    assert re.fullmatch(summary, done.stderr.strip()), done.stderr


@pytest.mark.parametrize(
    "example", [each for each in examples() if re.match("h2o-chat (serve|gateway)", each)]
)
def test_an_example_that_starts_a_server_works(example: str, tmp_path: Path) -> None:
    answers = tmp_path / "answers.jsonl"
    answers.write_text('"scripted answer"\n')
    # The last port counts: another one may be in use.
    words = [*example.split(), "--port", "0"]
    if "serve" in words:
        words += ["--answers", str(answers)]
    program = start([str(BIN / words[0]), *words[1:]], stderr=subprocess.PIPE, text=True, cwd=ROOT)
    assert program.stderr is not None
    assert program.stderr.readline().startswith("Listening on http://127.0.0.1:")
    program.terminate()
    program.communicate(timeout=PATIENCE)
    assert program.returncode == 0


def test_the_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    shown = capsys.readouterr().out
    context = click.Context(command, info_name="h2o-chat")
    for name in command.list_commands(context):
        assert re.search(rf"^  {name} ", shown, re.MULTILINE), name


@pytest.mark.parametrize("arguments", [["-h"], ["models", "-h"], ["conversations", "show", "-h"]])
def test_a_short_option_also_shows_the_help(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 0
    assert capsys.readouterr().out.startswith("Usage: h2o-chat ")


def test_the_usage_shows_the_real_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("Usage: h2o-chat [OPTIONS] PROMPT...\n")
    assert re.search("^  --version ", shown, re.MULTILINE)
    assert run(["--bogus", "Hi"]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("Usage: h2o-chat [OPTIONS] PROMPT...\nTry 'h2o-chat ")
    assert " ask " not in shown


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("help", "--help"),
        ("conversation", "conversations"),
        ("model", "models"),
        ("exports", "export"),
    ],
)
def test_a_misspelt_command_is_not_sent_as_a_prompt(
    word: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([word]) == 2
    said = (
        f"Error: Unknown command {word!r}. Did you mean h2o-chat {meant}? "
        f"To send it as a prompt: h2o-chat ask {word}\n"
    )
    assert capsys.readouterr().err == said


@pytest.mark.parametrize("words", [["--", "model"], ["model", "trains"], ["hello"]])
def test_other_words_are_a_prompt(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    with FakeChatUi("0.9.4") as server:
        monkeypatch.setenv("H2O_CLIENT_URL", server.url)
        assert run(words) == 0
        assert [prompt.last for prompt in server.prompts] == [" ".join(words).removeprefix("-- ")]


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that is in use."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield other.getsockname()[1]


def test_a_port_in_use(taken: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["serve", "--port", str(taken)]) == 1
    said = f"Error: Port {taken} of 127.0.0.1 is in use. Is another server"
    assert capsys.readouterr().err.startswith(said)


def test_a_port_in_use_stops_the_gateway(taken: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["gateway", "--port", str(taken), "--url", "http://localhost:1"]) == 1
    said = f"Error: Port {taken} of 127.0.0.1 is in use. Is another server running? --port 0"
    assert " ".join(capsys.readouterr().err.split()).startswith(said)


def test_an_invalid_model_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "model.gguf"
    assert run(["serve", "--port", "0", "--model-file", str(path)]) == 2
    assert "No such file" in capsys.readouterr().err
    path.write_bytes(b"GG")
    assert run(["serve", "--port", "0", "--model-file", str(path)]) == 2
    assert f"Invalid --model-file {path}. Use a GGUF file." in capsys.readouterr().err


def test_the_chapter_in_the_documentation_equals_the_help() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import command; print(command.chapter(), end='')"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT / "docs",
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    stale = "docs/command.rst is stale: run python docs/command.py"
    assert done.stdout == (ROOT / "docs" / "command.rst").read_text(encoding="utf-8"), stale


def completed(*words: str) -> list[str]:
    """The completions that bash gets after these words."""
    done = subprocess.run(
        [str(BIN / "h2o-chat")],
        capture_output=True,
        text=True,
        check=True,
        env={
            **os.environ,
            "_H2O_CHAT_COMPLETE": "bash_complete",
            "COMP_WORDS": " ".join(["h2o-chat", *words]),
            "COMP_CWORD": str(len(words)),
        },
    )
    assert done.stderr == ""
    return [line.partition(",")[2] for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["con"], ["conversations"]),
        (["conversations", "re"], ["rename"]),
        (["--mark"], ["--markdown"]),
        (["export", "--form"], ["--format"]),
        (["export", "--format", "m"], ["markdown"]),
        (["completion", ""], ["bash", "zsh", "fish"]),
    ],
)
def test_a_shell_completes(words: list[str], offered: list[str]) -> None:
    assert completed(*words) == offered


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_the_shells_own(shell: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [str(BIN / "h2o-chat"), "completion", shell], capture_output=True, text=True, check=True
    )
    assert f"_H2O_CHAT_COMPLETE={shell}_complete" in done.stdout
    if shutil.which(shell):
        script = tmp_path / "script"
        script.write_text(done.stdout)
        subprocess.run([shell, "-n", str(script)], check=True)


def test_a_prompt_loads_no_more_than_it_needs() -> None:
    code = (
        "import sys; from h2o_client.cli import run; run(sys.argv[1:]); "
        "heavy = ('rich', 'prompt_toolkit', 'pygments', 'asyncio', 'anyio', 'starlette', "
        "'h2o_client.server', 'h2o_client.doctor.checks', 'h2o_client.cli.chat_command'); "
        "print([name for name in heavy if name in sys.modules])"
    )
    with FakeChatUi("0.9.4") as server:
        done = subprocess.run(
            [sys.executable, "-c", code, "--url", server.url, "Hi"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
        )
    assert done.stdout.splitlines()[-1] == "[]"
