"""``h2o-chat resume``: an answer whose program was killed, or whose connection broke."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fake_chatui import FakeChatUi
from fake_model import Says
from h2o_client.cli import run
from h2o_client.cli.last import load
from h2o_client.cli.resume import command
from scripted import refusing_port

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
ANSWER = Says(("one", " two", " three"), holds=True, rest=(" four", " five"))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path / "h2o-chat"


@pytest.fixture
def server() -> Iterator[FakeChatUi]:
    """A server on which an answer goes on whose reader was killed."""
    with FakeChatUi("head", answer=[ANSWER]) as server:
        program = subprocess.Popen(
            [sys.executable, "-m", "h2o_client", "--url", server.url, "Count"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )
        assert program.stdout is not None
        with program.stdout:
            assert program.stdout.read(13) == b"one two three"
            program.kill()
            program.wait()
        server.released.set()
        yield server


def examples() -> list[str]:
    _, _, lines = (command.help or "").partition("Examples:\n")
    return [line.strip() for line in lines.splitlines() if line.strip()]


@pytest.mark.parametrize("example", examples())
def test_an_example_works(server: FakeChatUi, example: str, tmp_path: Path) -> None:
    done = subprocess.run(
        ["bash", "-c", example],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"},
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_whole_answer_is_printed_and_nothing_is_left(
    server: FakeChatUi, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = load()
    assert found is not None
    assert found.url == server.url
    assert run(["resume"]) == 0
    assert capsys.readouterr().out == "one two three four five\n"
    assert list(folder.iterdir()) == []
    assert server.conversations == {}


def test_the_rest_is_what_was_not_printed(
    server: FakeChatUi, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = (folder / "last.json").read_text().partition('"printed":')[0]
    (folder / "last.json").write_text(f'{kept}"printed":7}}')
    assert run(["resume", "--rest"]) == 0
    assert capsys.readouterr().out == " three four five\n"


def test_in_a_chat_it_is_a_slash_command(server: FakeChatUi) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "h2o_client", "chat", "--url", server.url],
        input="/resume\n",
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "one two three four five\n", "")


def test_an_answer_that_is_gone_is_forgotten(
    server: FakeChatUi, capsys: pytest.CaptureFixture[str]
) -> None:
    server.conversations.clear()
    assert run(["resume"]) == 3
    assert capsys.readouterr().err.startswith("Error: The server answered 404")
    assert run(["resume"]) == 2
    assert "There is no answer that could be gone on with." in capsys.readouterr().err


def test_a_server_that_cannot_be_reached_just_now_leaves_it_for_later(
    server: FakeChatUi, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with refusing_port() as port:
        assert run(["resume", "--proxy", f"http://127.0.0.1:{port}"]) == 4
    assert run(["resume"]) == 0
    assert capsys.readouterr().out == "one two three four five\n"


def test_without_an_answer_there_is_nothing_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["resume"]) == 2
    assert "There is no answer that could be gone on with." in capsys.readouterr().err


def test_nothing_is_kept_of_an_answer_that_ended(folder: Path) -> None:
    with FakeChatUi("head") as server:
        done = subprocess.run(
            [sys.executable, "-m", "h2o_client", "--url", server.url, "Count"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            cwd=ROOT,
            timeout=60,
        )
    assert done.returncode == 0
    assert list(folder.iterdir()) == []


def test_a_server_that_keeps_no_answers_leaves_no_trace(folder: Path) -> None:
    with FakeChatUi("0.9.4") as server:
        subprocess.run(
            [sys.executable, "-m", "h2o_client", "--url", server.url, "Count"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
            cwd=ROOT,
            timeout=60,
        )
    assert not folder.exists()
