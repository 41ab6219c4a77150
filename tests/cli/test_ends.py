"""How the command ends: signals, streams that are closed or full, and input without an end."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fake_chatui import FakeChatUi
from fake_model import Says
from h2o_client.cli import run
from h2o_client.cli.command import command as whole
from h2o_client.cli.exit import Terminated, signals_as_exceptions
from local_service import PATIENCE
from programs import start
from scripted import refusing_port

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "h2o_client"]
HELD = Says(("Hello", " there"), holds=True, rest=(" rest",))


@pytest.fixture
def held() -> Iterator[FakeChatUi]:
    """A server whose answers do not end."""
    with FakeChatUi("head", answer=lambda prompt: HELD) as server:
        yield server
        server.released.set()


def shell(line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The result of a line of bash, in which H2O is replaced with the command."""
    return subprocess.run(
        ["bash", "-c", line.replace("H2O", " ".join(COMMAND))],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        cwd=ROOT,
        env={**os.environ, **environment},
    )


def signalled(server: FakeChatUi, number: int, *arguments: str, piped: str = "") -> tuple[int, str]:
    """The status and stderr of a command that gets a signal in the middle of a response."""
    program = start(
        [*COMMAND, *arguments, "--url", server.url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert program.stdin is not None
    program.stdin.write(piped)
    program.stdin.flush()
    if "chat" not in arguments:
        program.stdin.close()
        program.stdin = None
    end, pause = time.monotonic() + PATIENCE, threading.Event()
    while not server.prompts:
        assert time.monotonic() < end
        pause.wait(0.02)
    program.send_signal(number)
    # stdin has no end before that: only the signal ends a chat.
    _, err = program.communicate(timeout=PATIENCE)
    return program.returncode, err.strip()


@pytest.mark.parametrize("arguments", [["Hi"], ["--json", "Hi"], ["--markdown", "Hi"], ["doctor"]])
@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_after_a_signal_no_conversation_is_left(
    held: FakeChatUi, arguments: list[str], number: int, status: int
) -> None:
    assert signalled(held, number, *arguments) == (status, "")
    assert held.conversations == {}
    assert held.stops


@pytest.mark.parametrize(
    ("number", "status", "kind"),
    [(signal.SIGINT, 130, "KeyboardInterrupt"), (signal.SIGTERM, 143, "Terminated")],
)
def test_with_json_the_last_line_reports_a_signal(
    held: FakeChatUi, number: int, status: int, kind: str
) -> None:
    program = start(
        [*COMMAND, "--json", "--url", held.url, "Hi"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert program.stdout is not None
    with program.stdout as stdout:
        while '" there"' not in stdout.readline():
            assert program.poll() is None
        program.send_signal(number)
        last = json.loads(stdout.read().splitlines()[-1])
    assert program.wait(PATIENCE) == status
    said = {"message": "Interrupted", "hint": "", "partial": "Hello there"}
    assert last == {"type": "error", "kind": kind, **said}


def test_a_server_that_cannot_start_has_the_documented_status(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        words = ["serve", "--port", port, "--upstream", "http://127.0.0.1:1", "--model", "x"]
        assert run(words) == 1
    assert capsys.readouterr().err.startswith("Error: ")
    assert run(["serve", "--help"]) == 0
    assert "1 it could not start" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_ends_a_chat_with_piped_lines(held: FakeChatUi, number: int, status: int) -> None:
    assert signalled(held, number, "chat", piped="One\nTwo\n") == (status, "")
    assert [prompt.last for prompt in held.prompts] == ["One"]
    assert held.conversations == {}


def test_ctrl_c_while_a_chat_waits_for_lines_ends_it() -> None:
    with FakeChatUi("head") as server:
        program = start(
            [*COMMAND, "chat", "--url", server.url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )
        assert program.stdin is not None
        assert program.stdout is not None
        program.stdin.write(b"One\n")
        program.stdin.flush()
        assert program.stdout.readline() == b"1 turns, the last: One\n"
        program.send_signal(signal.SIGINT)
        assert program.wait(PATIENCE) == 130
        program.communicate()
        assert server.conversations == {}


@pytest.mark.parametrize(
    "arguments", [["export", "--all"], ["conversations", "delete", "--all", "--yes"], ["models"]]
)
def test_every_command_ends_quietly_at_sigterm(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def ends(*given: object, **named: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(20)  # the signal interrupts it

    with FakeChatUi("0.9.4") as server:
        for name in ("conversations", "delete_conversations", "models"):
            monkeypatch.setattr(f"h2o_client.session.H2oSession.{name}", ends)
        assert run([*arguments, "--url", server.url]) == 143
    assert capsys.readouterr() == ("", "")


def test_the_signal_handlers_of_a_program_are_restored() -> None:
    former = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Terminated) as caught, signals_as_exceptions():
        try:
            os.kill(os.getpid(), signal.SIGHUP)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)  # another signal does not interrupt the cleanup
    assert caught.value.code == 129
    assert signal.getsignal(signal.SIGTERM) is former


def test_signals_ignored_by_nohup_stay_ignored() -> None:
    former = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals_as_exceptions():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, former)


def test_another_thread_can_run_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(run(["--version"])))
    thread.start()
    thread.join()
    assert found == [0]


@pytest.mark.parametrize(
    ("line", "status", "out", "err"),
    [
        ("H2O Hi > /dev/full", 1, "", "Error: Cannot write to stdout: No space left on"),
        (
            "H2O models > /dev/full",
            1,
            "",
            "Error: Cannot write to stdout: No space left on",
        ),
        (
            "H2O doctor > /dev/full",
            1,
            "",
            "Error: Cannot write to stdout: No space left on",
        ),
        (
            "H2O --help > /dev/full",
            1,
            "",
            "Error: Cannot write to stdout: No space left on",
        ),
        ("H2O Hi >&-", 1, "", "Error: Cannot write to stdout: Bad file descriptor."),
        (
            "H2O --version >&-",
            1,
            "",
            "Error: Cannot write to stdout: Bad file descriptor.",
        ),
        ("H2O --help >&-", 1, "", "Error: Cannot write to stdout: Bad file descriptor."),
        ("H2O Hi <&-", 0, "1 turns, the last: Hi\n", ""),
        ("H2O chat <&-", 0, "", ""),
        ("H2O Hi 2>&-", 0, "1 turns, the last: Hi\n", ""),
        ("H2O Hi <&- >&- 2>&-", 1, "", ""),
        ("H2O --nonsense 2> /dev/full", 2, "", ""),
        ("H2O --nonsense 2>&-", 2, "", ""),
        ("H2O --help | head -c0; exit ${PIPESTATUS[0]}", 141, "", ""),
        ("H2O Hi | head -c0; exit ${PIPESTATUS[0]}", 141, "", ""),
    ],
)
def test_a_closed_or_full_output_stream(line: str, status: int, out: str, err: str) -> None:
    with FakeChatUi("0.9.4") as server:
        done = shell(line, H2O_CLIENT_URL=server.url)
        assert server.conversations == {}
    assert (done.returncode, done.stdout) == (status, out)
    assert done.stderr.startswith(err)
    assert done.stderr.count("\n") == bool(err)


@pytest.mark.parametrize(
    "where", ["2>&1 | head -c0; exit ${PIPESTATUS[0]}", "2> /dev/full", "2>&-"]
)
def test_the_exit_status_is_right_even_if_stderr_is_closed(where: str) -> None:
    with refusing_port() as port:
        done = shell(f"H2O --url http://127.0.0.1:{port} Hi {where}")
    assert (done.returncode, done.stdout, done.stderr) == (4, "", "")


def test_endless_input_is_refused() -> None:
    done = shell("H2O --url http://127.0.0.1:1 Hi < /dev/zero")
    assert done.returncode == 2
    assert (
        "stdin has more than 16 MiB, which is too long for one message. Use --file" in done.stderr
    )


@pytest.mark.parametrize("word", ["Hi", "chat"])
def test_unreadable_input_is_status_2(
    word: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Broken(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, buffer: object) -> int:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(Broken())))
    assert run([word, "--url", "http://127.0.0.1:1"]) == 2
    assert "Cannot read stdin: Input/output error." in capsys.readouterr().err


def test_ctrl_c_while_it_starts_is_130_without_a_traceback() -> None:
    code = (
        "import sys\n"
        "class Interrupts:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'click': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupts())\n"
        "from h2o_client.__main__ import main\n"
        "main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=PATIENCE
    )
    assert (done.returncode, done.stderr) == (130, "")


def test_the_terminal_may_close_while_help_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    def leaves(*given: object, **named: object) -> None:
        raise SystemExit(1)  # as rich does if its pipe is closed

    monkeypatch.setattr(whole, "main", leaves)
    assert run(["--help"]) == 141


@pytest.mark.parametrize("value", ["[" * 5000, '{"a":' * 5000])
def test_a_deeply_nested_parameter_is_a_text(value: str) -> None:
    with FakeChatUi("0.4") as server:
        done = subprocess.run(
            [*COMMAND, "--url", server.url, "-p", f"a={value}", "Hi"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd=ROOT,
            timeout=PATIENCE,
        )
        assert server.prompts[0].parameters["a"] == value
    assert (done.returncode, done.stderr) == (0, "")


def test_ctrl_c_is_130_even_if_its_line_cannot_be_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*given: object, **named: object) -> None:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            raise OSError("the terminal is gone")  # noqa: B904 - as click has it

    monkeypatch.setattr(whole, "main", interrupted)
    assert run(["--help"]) == 130


def test_an_interrupt_while_the_package_is_imported_has_no_traceback() -> None:
    # The script of the command calls main() after this import.
    code = (
        "import sys, h2o_client.__main__\n"
        "print(sorted(name for name in sys.modules if name.startswith('h2o_client')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "['h2o_client', 'h2o_client.__main__', 'h2o_client.version']\n"
