"""``h2o-chat resume``: answers whose program was killed or whose connection broke."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import fake_model
import fake_server
from fake_chatui import FakeChatUi
from fake_model import Says
from h2o_client.answer.server_run import ResumeToken
from h2o_client.cli import run
from h2o_client.cli.resume_command import resume
from h2o_client.cli.saved_answers import Record
from local_service import PATIENCE
from programs import start
from proxies import LoggingProxy
from scripted import refusing_port

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
ANSWER = Says(("one", " two", " three"), holds=True, rest=(" four", " five"))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path / "h2o-chat"


@pytest.fixture
def server() -> Iterator[FakeChatUi]:
    """A server with a running answer whose reader was killed."""
    with FakeChatUi("head", answer=[ANSWER]) as server:
        asking(server)
        server.released.set()
        yield server


def asking(
    server: FakeChatUi, *, killed: bool = True, into: Path | None = None
) -> subprocess.Popen[bytes]:
    """A program that has printed the beginning of an answer."""
    if into is not None:
        return _writing(server, into)
    program = start(
        [sys.executable, "-m", "h2o_client", "--url", server.url, "Count"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )
    assert program.stdout is not None
    assert program.stdout.read(13) == b"one two three"
    if killed:
        program.kill()
        program.wait()
        program.stdout.close()
    return program


def _writing(server: FakeChatUi, path: Path) -> subprocess.Popen[bytes]:
    """The same into a file. The program is killed once the text and its saved token exist."""
    with open(path, "wb") as file:
        program = start(
            [sys.executable, "-m", "h2o_client", "--url", server.url, "Count"],
            stdin=subprocess.DEVNULL,
            stdout=file,
            cwd=ROOT,
        )
    end = time.monotonic() + PATIENCE
    while path.read_bytes() != b"one two three" or not _is_noted(path.parent, 13):
        assert time.monotonic() < end
    program.kill()
    program.wait()
    return program


def _is_noted(home: Path, printed: int) -> bool:
    return any(
        msgspec.json.decode(path.read_bytes(), type=Record).printed == printed
        for path in (home / "h2o-chat").glob("answer-*.json")
    )


def change(folder: Path, **changes: Any) -> None:
    """Save another answer."""
    (path,) = folder.glob("*.json")
    found = msgspec.json.decode(path.read_bytes(), type=Record)
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(found, **changes)))


def examples() -> list[str]:
    _, _, lines = (resume.help or "").partition("Examples:\n")
    return [line.strip() for line in lines.splitlines() if line.strip()]


@pytest.mark.parametrize("example", examples())
def test_an_example_works(server: FakeChatUi, example: str, tmp_path: Path) -> None:
    done = subprocess.run(
        ["bash", "-c", example],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"},
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_whole_answer_is_printed_and_its_conversation_is_deleted(
    server: FakeChatUi, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["resume"]) == 0
    assert capsys.readouterr().out == "one two three four five\n"
    assert list(folder.iterdir()) == []
    assert server.conversations == {}


def test_rest_prints_only_the_unprinted_text(
    server: FakeChatUi, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(folder, printed=7)
    assert run(["resume", "--rest"]) == 0
    assert capsys.readouterr().out == " three four five\n"


def test_resuming_into_the_file_of_a_killed_program_repeats_nothing(
    folder: Path, tmp_path: Path
) -> None:
    written = tmp_path / "answer.txt"
    with FakeChatUi("head", answer=[ANSWER]) as server:
        program = asking(server, into=written)
        server.released.set()
        done = subprocess.run(
            [sys.executable, "-m", "h2o_client", "resume", "--rest"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
            cwd=ROOT,
            timeout=PATIENCE,
        )
    assert program.returncode == -9
    assert done.stdout == b" four five\n"
    assert written.read_bytes() + done.stdout == b"one two three four five\n"


def test_after_an_interrupt_the_model_continues(folder: Path) -> None:
    with FakeChatUi("head", answer=[ANSWER]) as server:
        asking(server)
        program = start(
            [sys.executable, "-m", "h2o_client", "resume"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )
        assert program.stdout is not None
        with program.stdout:
            assert program.stdout.read(13) == b"one two three"
            program.send_signal(signal.SIGINT)
            assert program.wait(PATIENCE) == 130
        assert len(server.conversations) == 1
        server.released.set()
        assert run(["resume"]) == 0
        assert server.conversations == {}
    assert list(folder.iterdir()) == []


def test_a_chat_has_a_slash_command_for_it(server: FakeChatUi) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "h2o_client", "chat", "--url", server.url],
        input="/resume\n",
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        cwd=ROOT,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "one two three four five\n", "")


def test_the_record_of_a_deleted_answer_is_removed(
    server: FakeChatUi, capsys: pytest.CaptureFixture[str]
) -> None:
    server.conversations.clear()
    assert run(["resume"]) == 3
    assert capsys.readouterr().err.startswith("Error: The server answered 404")
    assert run(["resume"]) == 2
    assert "Nothing to resume." in capsys.readouterr().err


def test_after_a_network_failure_the_answer_can_be_resumed_later(
    server: FakeChatUi, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with refusing_port() as port:
        assert run(["resume", "--proxy", f"http://127.0.0.1:{port}"]) == 4
    assert run(["resume"]) == 0
    assert capsys.readouterr().out == "one two three four five\n"


def test_without_a_saved_answer_there_is_nothing_to_resume(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["resume"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("Error: Nothing to resume. An answer can be resumed")
    assert "Usage" not in said


def test_no_record_is_kept_of_a_complete_answer(folder: Path) -> None:
    with FakeChatUi("head") as server:
        done = subprocess.run(
            [sys.executable, "-m", "h2o_client", "--url", server.url, "Count"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            cwd=ROOT,
            timeout=PATIENCE,
        )
    assert done.returncode == 0
    assert list(folder.iterdir()) == []


def test_a_server_without_runs_leaves_no_record(folder: Path) -> None:
    with FakeChatUi("0.9.4") as server:
        subprocess.run(
            [sys.executable, "-m", "h2o_client", "--url", server.url, "Count"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
            cwd=ROOT,
            timeout=PATIENCE,
        )
    assert not folder.exists()


def test_two_broken_answers_are_resumed_one_after_the_other(
    server: FakeChatUi, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with FakeChatUi("head", answer=[ANSWER]) as other:
        program = asking(other)
        other.released.set()
        assert run(["resume"]) == 0
        assert other.conversations == {}
        assert len(server.conversations) == 1
        assert run(["resume"]) == 0
        program.wait()
    assert capsys.readouterr().out == "one two three four five\n" * 2
    assert list(folder.iterdir()) == []
    assert server.conversations == {}


def test_an_answer_that_another_program_prints_is_not_resumed(
    server: FakeChatUi, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with FakeChatUi("head", answer=[ANSWER]) as other:
        program = asking(other, killed=False)
        assert run(["resume"]) == 0
        assert server.conversations == {}
        assert run(["resume"]) == 2
        assert "Another program is reading the only unfinished answer" in capsys.readouterr().err
        assert len(list(folder.glob("*.json"))) == 1
        other.released.set()
        assert program.stdout is not None
        with program.stdout:
            assert program.stdout.read() == b" four five\n"
        assert program.wait(PATIENCE) == 0
    assert list(folder.iterdir()) == []


def test_a_missing_cookie_is_reported(
    server: FakeChatUi, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (path,) = folder.glob("*.json")
    cookies = msgspec.json.decode(path.read_bytes(), type=Record).cookies
    change(folder, cookies=())
    assert run(["resume"]) == 2
    said = capsys.readouterr().err
    assert f"The answer at {server.url} needs its session's cookie, which was not saved." in said
    assert "--cookie NAME=VALUE" in said
    assert run(["resume", "--cookie", f"{cookies[0].name}={cookies[0].value}"]) == 0
    assert capsys.readouterr().out == "one two three four five\n"


def in_the_network(folder: Path, port: int, *, given: bool) -> None:
    """Make the answer one of a remote server that used http and set its cookie over http."""
    (path,) = folder.glob("*.json")
    found = msgspec.json.decode(path.read_bytes(), type=Record)
    url = f"http://chat.example:{port}"
    token = ResumeToken.read(found.token)
    cookies = tuple(
        msgspec.structs.replace(each, domain="chat.example", secure=False) for each in found.cookies
    )
    token = msgspec.structs.replace(token, base_url=url)
    change(folder, url=url, token=str(token), cookies=cookies, given=given)


@pytest.mark.parametrize("given", [False, True])
def test_only_a_browsers_cookie_needs_insecure_cookies(
    server: FakeChatUi,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    given: bool,
) -> None:
    lasts = fake_model.COOKIE_LASTS.replace("Secure; ", "")
    monkeypatch.setattr(fake_server, "COOKIE_LASTS", lasts)
    in_the_network(folder, server.port, given=given)
    with LoggingProxy(hosts={"chat.example": server.port}) as proxy:
        words = ["resume", "--proxy", proxy.url]
        if given:
            assert run(words) == 2
            assert "--insecure-cookies" in capsys.readouterr().err
            words.append("--insecure-cookies")
        assert run(words) == 0
    assert capsys.readouterr().out == "one two three four five\n"


def test_the_cookie_of_a_chat_is_not_for_another_server(
    server: FakeChatUi, capsys: pytest.CaptureFixture[str]
) -> None:
    with FakeChatUi("head") as other:
        done = subprocess.run(
            [sys.executable, "-m", "h2o_client", "chat", "--url", other.url, "--cookie", "a=mine"],
            input="/resume\n",
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            cwd=ROOT,
        )
    assert (done.returncode, done.stdout, done.stderr) == (0, "one two three four five\n", "")
    assert not any("mine" in str(each.cookies) for each in server.requests)
