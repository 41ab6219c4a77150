"""``h2o-chat batch``: it reads prompts and writes lines of answers."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fake_chatui import FakeChatUi
from fake_model import Prompt, Says
from h2o_client.cli import batch_progress, run
from h2o_client.cli.batch_progress import duration
from local_service import PATIENCE
from programs import start

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "h2o_client", "batch"]


def answer(asked: Prompt) -> Says:
    if asked.last == "bad":
        return Says((), status=400)
    return Says.words(f"To {asked.last}")


@pytest.fixture
def server() -> Iterator[FakeChatUi]:
    with FakeChatUi("head", answer=answer) as server:
        yield server


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.txt"
    path.write_text("one\ntwo\nthree\n")
    return path


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_each_prompt_gets_a_line(
    server: FakeChatUi, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run(["batch", str(prompts), "-o", str(out), "--url", server.url, "--ordered"]) == 0
    assert [each["text"] for each in lines(out)] == ["To one", "To two", "To three"]
    assert (tmp_path / "out.journal").exists()
    assert "3 of 3 answered, in " in capsys.readouterr().err
    assert not server.conversations


def test_a_second_run_writes_only_missing_lines(
    server: FakeChatUi, prompts: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = ["batch", str(prompts), "-o", str(out), "--url", server.url, "--quiet"]
    assert run(words) == 0
    whole = sorted(out.read_bytes().splitlines())
    out.write_bytes(out.read_bytes()[:-5])
    assert run(words) == 0
    assert sorted(out.read_bytes().splitlines()) == whole
    out.unlink()
    assert run(words) == 0
    assert sorted(out.read_bytes().splitlines()) == whole
    assert len(server.prompts) == 3


def test_failures_are_lines_too_and_can_be_sent_again(
    server: FakeChatUi, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts.write_text("good\nbad\n")
    out = tmp_path / "out"
    words = ["batch", str(prompts), "-o", str(out), "--url", server.url]
    assert run(words) == 5
    assert "1 of 2 answered, 1 failed" in capsys.readouterr().err
    [failed] = [each for each in lines(out) if each["error"]]
    assert failed["text"] is None
    assert failed["error"]["type"] == "GenerationError"  # type: ignore[index]
    server._says = lambda asked: Says.words("Now")
    capsys.readouterr()
    assert run([*words, "--retry-failed", "--dry-run"]) == 0
    assert "1 have failed. 1 would be sent." in capsys.readouterr().out
    assert run([*words, "--retry-failed"]) == 0
    assert {each["text"] for each in lines(out)} == {"To good", "Now"}


def test_an_invalid_line_refuses_the_batch_with_its_number(
    server: FakeChatUi, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts, out = tmp_path / "prompts.jsonl", tmp_path / "out"
    prompts.write_text('"one"\n{"prompt": "two", "options": {"nope": 1}}\nthree\n')
    assert run(["batch", str(prompts), "-o", str(out), "--url", server.url]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "Line 2: Unknown option 'nope'." in said
    assert "Line 3: Not JSON" in said
    assert "Nothing was sent." in said
    assert not server.requests
    assert [path.name for path in tmp_path.iterdir()] == ["prompts.jsonl"]


def test_a_refused_batch_keeps_the_journal_of_an_earlier_run(
    server: FakeChatUi, prompts: Path, tmp_path: Path
) -> None:
    words = ["batch", str(prompts), "-o", str(tmp_path / "out"), "--url", server.url]
    assert run(words) == 0
    prompts.write_bytes(b"\xff\n")
    assert run(words) == 2
    assert (tmp_path / "out.journal").exists()


def test_the_file_of_prompts_is_refused_as_the_output(
    server: FakeChatUi, prompts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = prompts.read_bytes()
    assert run(["batch", str(prompts), "-o", str(prompts), "--url", server.url]) == 2
    assert "--output is the file of prompts. Use another file." in capsys.readouterr().err
    assert prompts.read_bytes() == before
    assert [path.name for path in prompts.parent.iterdir()] == ["prompts.txt"]


def test_an_output_in_a_missing_folder_is_refused(
    server: FakeChatUi, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "none" / "out")
    assert run(["batch", str(prompts), "-o", out, "--url", server.url]) == 2
    assert "Does its folder exist?" in capsys.readouterr().err


def test_a_dry_run_counts_and_sends_nothing(
    server: FakeChatUi, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ["batch", str(prompts), "-o", str(out), "--url", server.url]
    assert run([*words, "--dry-run"]) == 0
    assert capsys.readouterr().out == "3 prompts. 3 would be sent.\n"
    assert not server.requests
    assert not list(tmp_path.glob("out*"))
    assert run([*words, "--quiet"]) == 0
    prompts.write_text("one\ntwo\nthree\nfour\n")
    assert run([*words, "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert "4 prompts. In" in told
    assert "3 are answered and 0 have failed. 1 would be sent." in told


def test_answers_go_to_stdout_by_default(server: FakeChatUi, prompts: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "-", "--url", server.url, "--quiet"],
        input=prompts.read_bytes(),
        capture_output=True,
        check=True,
        cwd=ROOT,
    )
    assert {json.loads(line)["text"] for line in done.stdout.splitlines()} == {
        "To one",
        "To two",
        "To three",
    }
    assert done.stderr == b""


@pytest.mark.skipif(not os.path.exists("/dev/fd"), reason="a folder of POSIX systems")
def test_answers_go_to_an_open_file_such_as_that_of_a_process_substitution(
    server: FakeChatUi, prompts: Path
) -> None:
    reading, writing = os.pipe()
    try:
        words = ["batch", str(prompts), "-o", f"/dev/fd/{writing}", "--url", server.url, "--quiet"]
        assert run(words) == 0
        assert len(os.read(reading, 1 << 16).splitlines()) == 3
    finally:
        os.close(reading)
        os.close(writing)


def test_a_closed_stdout_ends_the_batch(server: FakeChatUi, prompts: Path) -> None:
    words = " ".join([*COMMAND, str(prompts), "--url", server.url, "--quiet"])
    done = subprocess.run(
        ["bash", "-c", f"{words} | true; echo ${{PIPESTATUS[0]}}"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    assert done.stdout.strip() in ("141", "0")
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
def test_a_full_disk_is_reported_and_loses_no_answer(
    server: FakeChatUi, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    journal = tmp_path / "j"
    words = ["batch", str(prompts), "--url", server.url, "--journal", str(journal), "--quiet"]
    assert run([*words, "-o", "/dev/full"]) == 1
    said = capsys.readouterr().err
    assert "Cannot write the answers to /dev/full: No space left on device." in said
    assert "To continue: h2o-chat" in said
    out = tmp_path / "out"
    assert run([*words, "-o", str(out)]) == 0
    assert len(lines(out)) == 3
    assert len(server.prompts) == 3


@pytest.mark.skipif(os.name != "posix", reason="open files can be removed on POSIX")
def test_a_removed_answers_file_is_reported_and_written_again(
    server: FakeChatUi, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"

    def removing(asked: Prompt) -> Says:
        out.unlink(missing_ok=True)
        return answer(asked)

    server._says = removing
    words = ["batch", str(prompts), "-o", str(out), "--url", server.url, "--quiet"]
    assert run(words) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "out: No such file or directory. The journal has them." in said
    assert run(words) == 0
    assert len(lines(out)) == 3
    assert len(server.prompts) == 3


def test_an_invalid_journal_is_reported(
    server: FakeChatUi, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["batch", str(prompts), "--journal", str(prompts), "--url", server.url]
    assert run([*words, "-o", str(tmp_path / "out")]) == 2
    assert "is not a journal" in capsys.readouterr().err
    assert prompts.read_text() == "one\ntwo\nthree\n"


def test_several_accounts_share_the_work(server: FakeChatUi, prompts: Path, tmp_path: Path) -> None:
    prompts.write_text("".join(f"p{number}\n" for number in range(20)))
    cookies = [server.browser(), server.browser()]
    words = ["batch", str(prompts), "-o", str(tmp_path / "out"), "--url", server.url, "--quiet"]
    for cookie in cookies:
        words += ["--cookie", cookie]
    assert run(words) == 0
    assert len(lines(tmp_path / "out")) == 20
    assert all(server.sessions[each.partition("=")[2]].sent for each in cookies)


def test_the_number_of_cookies_must_match_the_addresses(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["batch", "p", "--url", "http://a", "--url", "http://b", "--cookie", "a=b"]
    assert run(words) == 2
    assert "2 --url, but 1 --cookie. Use a cookie for each, or none." in capsys.readouterr().err


def test_a_missing_file_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["batch", "/no/such", "--url", "http://127.0.0.1:1"]) == 2
    assert "Cannot read /no/such: No such file or directory." in capsys.readouterr().err


def test_a_server_that_stays_down_is_reported(
    prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["batch", str(prompts), "-o", str(tmp_path / "out"), "--url", "http://127.0.0.1:1"]
    assert run([*words, "--give-up-after", "0"]) == 4
    said = capsys.readouterr().err
    assert "0 of 3 answered, 3 waiting" in said
    assert "To continue: h2o-chat" in said


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")
@pytest.mark.parametrize(
    ("version", "number", "status"),
    [
        ("head", signal.SIGINT, 130),
        ("head", signal.SIGTERM, 143),
        ("0.4", signal.SIGINT, 130),
        ("0.7", signal.SIGTERM, 143),
        ("0.9.4", signal.SIGINT, 130),
    ],
)
def test_a_signal_ends_the_batch_soon_and_the_next_run_continues(
    version: str, number: int, status: int, tmp_path: Path
) -> None:
    prompts, out = tmp_path / "prompts.txt", tmp_path / "out"
    prompts.write_text("".join(f"p{number}\n" for number in range(12)))
    held = threading.Event()

    def holding(asked: Prompt) -> Says:
        if held.is_set():
            return answer(asked)
        return Says(("To ",), holds=True, rest=(asked.last,))

    with FakeChatUi(version, answer=holding) as server:
        words = [*COMMAND, str(prompts), "-o", str(out), "--url", server.url]
        with start(words, stderr=subprocess.PIPE, cwd=ROOT) as program:
            server.wait_for(lambda fake: len(fake.prompts) == 8)
            began = time.monotonic()
            program.send_signal(number)
            assert program.stderr is not None
            said = program.stderr.read().decode()
            assert program.wait() == status
            assert time.monotonic() - began < PATIENCE / 4
        last = said.strip().splitlines()[-1]
        assert last.startswith(f"To continue: h2o-chat batch {prompts}"), said
        held.set()
        server.released.set()
        assert run([*words[3:], "--quiet"]) == 0
        assert sorted(str(each["text"]) for each in lines(out)) == sorted(
            f"To p{number}" for number in range(12)
        )
        assert not server.conversations
        if version == "head":
            assert len(server.prompts) == 12


def test_the_command_to_continue_shows_no_secret(
    monkeypatch: pytest.MonkeyPatch,
    prompts: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["batch", str(prompts), "--url", "http://127.0.0.1:1", "--cookie", "a=s3cr3t"]
    words += ["--header=X: s3cr3t", "--give-up-after", "0", "--quiet"]
    assert run(words) == 4
    assert "To continue instead, use --journal FILE." in capsys.readouterr().err
    words += ["--journal", str(tmp_path / "j")]
    monkeypatch.setattr(sys, "argv", ["h2o-chat", *words])
    assert run(words) == 4
    said = capsys.readouterr().err
    assert "--cookie ... --header=..." in said
    assert "s3cr3t" not in said


@pytest.mark.skipif(os.name != "posix", reason="terminals are POSIX's")
def test_a_terminal_is_shown_the_progress(
    server: FakeChatUi, prompts: Path, tmp_path: Path
) -> None:
    parent, child = pty.openpty()
    words = [*COMMAND, str(prompts), "-o", str(tmp_path / "out"), "--url", server.url]
    with start(words, stdin=child, stdout=child, stderr=child, cwd=ROOT) as program:
        os.close(child)
        shown = b""
        try:
            while piece := os.read(parent, 65536):
                shown += piece
        except OSError:
            pass
        assert program.wait() == 0
    os.close(parent)
    assert b"3 of 3 answered" in shown


def test_without_a_terminal_the_progress_is_a_line_at_intervals(
    server: FakeChatUi,
    prompts: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(batch_progress, "_EVERY", 0.0)
    assert run(["batch", str(prompts), "-o", str(tmp_path / "out"), "--url", server.url]) == 0
    assert re.search(r"of 3 answered(, \d waiting)?; \d+\.\d a second", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.4, "0.4 s"), (59.0, "59 s"), (61.0, "1 min 1 s"), (3600.0, "1 h 0 min")],
)
def test_a_duration_is_shown_in_words(seconds: float, said: str) -> None:
    assert duration(seconds) == said
