"""Output only for terminals: tables, progress, a line editor."""

from __future__ import annotations

import io
import json
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal, cast

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.input import PipeInput, create_pipe_input
from prompt_toolkit.output import DummyOutput

from fake_chatui import FakeChatUi
from fake_store import MODELS
from h2o_client.answer.reply import Reply
from h2o_client.answer.steps import Answer
from h2o_client.cli import run
from h2o_client.cli.answer_output import write_answer
from h2o_client.cli.input import Editor, TerminalEditor, open_editor
from h2o_client.cli.terminal import Waiting, counted, now_waiting, put, put_json, put_line, say
from h2o_client.wire.events import Event, Token
from local_service import PATIENCE


class Screen(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


def replying(*batches: list[str]) -> Reply:
    """A reply whose tokens arrive in batches."""
    return cast(Reply, Scripted(batches))


class Scripted:
    def __init__(self, batches: tuple[list[str], ...]) -> None:
        self._batches = [[Token(text) for text in batch] for batch in batches]
        self._batch: list[Token] = []

    def events(self) -> Iterator[Event | Answer]:
        for batch in self._batches:
            self._batch = list(batch)
            while self._batch:
                yield self._batch.pop(0)

    def _has_event(self) -> bool:
        return bool(self._batch)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Screen]:
    """Make stdin, stdout and stderr one terminal. Call it in the test: pytest sets them before."""

    def made() -> Screen:
        for name, value in (("TERM", "xterm"), ("COLUMNS", "100")):
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("NO_COLOR", raising=False)
        screen = Screen()
        for stream in ("stdin", "stdout", "stderr"):
            monkeypatch.setattr(sys, stream, screen)
        return screen

    return made


def test_lists_are_tables_on_a_terminal(terminal: Callable[[], Screen]) -> None:
    screen = terminal()
    with FakeChatUi("0.9.4") as server:
        cookie = server.browser()
        stored = server.seed(cookie, "[bold]Skies\x1b[2J", ("user", "Hi"), ("assistant", "So"))
        assert run(["models", "--url", server.url]) == 0
        assert run(["conversations", "--url", server.url, "--cookie", cookie]) == 0
    shown = screen.getvalue()
    for words in ("NAME", *MODELS, "ID", stored.id, "[bold]Skies\ufffd[2J"):
        assert words in shown
    assert "\x1b[2J" not in shown


def test_an_empty_list_has_a_hint(terminal: Callable[[], Screen]) -> None:
    screen = terminal()
    with FakeChatUi("0.9.4") as server:
        assert run(["conversations", "--url", server.url]) == 0
        assert run(["conversations", "delete", "--all", "--url", server.url]) == 0
        assert run(["export", "--all", "--url", server.url]) == 0
    assert screen.getvalue().count("There are no conversations. To use those of a browser") == 3


def until(screen: Screen, text: str) -> None:
    """Wait until the screen contains the text."""
    end = time.monotonic() + PATIENCE
    while text not in screen.getvalue():
        assert time.monotonic() < end, screen.getvalue()


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Show the reason of a wait at once."""
    monkeypatch.setattr("h2o_client.cli.terminal._SHOWN_AFTER", 0.0)
    monkeypatch.setattr("h2o_client.cli.terminal._SHOWN_EVERY", 0.001)


def test_a_terminal_shows_what_the_command_waits_for(
    terminal: Callable[[], Screen], soon: None
) -> None:
    screen = terminal()
    with Waiting("Loading [bold]the model\x1b[2J", 300):
        until(screen, "(Loading [bold]the model\ufffd[2J: 0 s of 300 s at most)")
        now_waiting("Thinking")
        until(screen, "(Thinking: 0 s)")
    assert screen.getvalue().endswith("\x1b[J")
    assert list(counted([1, 2, 3], "Exporting", total=3)) == [1, 2, 3]
    assert "Exporting" in screen.getvalue()


def test_the_waiting_text_is_erased_before_other_output(
    terminal: Callable[[], Screen], monkeypatch: pytest.MonkeyPatch, soon: None
) -> None:
    screen = terminal()
    with Waiting("Waiting"):
        until(screen, "(Waiting: 0 s)")
        monkeypatch.setattr("h2o_client.cli.terminal._SHOWN_AFTER", 1000.0)
        put("one")
        say("two")
    assert screen.getvalue().endswith("\x1b[Jone" + "two\n")


def test_after_unfinished_output_the_waiting_text_is_in_the_line_below(
    terminal: Callable[[], Screen], soon: None
) -> None:
    screen = terminal()
    with Waiting("Waiting"):
        put("one")
        until(screen, "\x1bD\x1b[A\x1b7\x1b[B\r\x1b[?7l(Waiting: 0 s)\x1b[K\x1b[?7h\x1b8")
        put(" two")
        until(screen, "\x1b7\x1b[B\r\x1b[J\x1b8 two")


def test_of_two_nested_waits_the_inner_one_is_shown(
    terminal: Callable[[], Screen], soon: None
) -> None:
    screen = terminal()
    with Waiting("the outer"), Waiting("the inner"):
        until(screen, "the inner")
        at = len(screen.getvalue())
        until(screen, screen.getvalue() + "\x1b7")
        assert "the outer" not in screen.getvalue()[at:]


def test_a_short_wait_is_not_shown(terminal: Callable[[], Screen]) -> None:
    screen = terminal()
    with Waiting("Loading the model"):
        put("one")
    assert screen.getvalue() == "one"


def test_a_dumb_terminal_gets_a_line(
    terminal: Callable[[], Screen], monkeypatch: pytest.MonkeyPatch, soon: None
) -> None:
    screen = terminal()
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr("h2o_client.cli.terminal._SAID_AFTER", 0.001)
    with Waiting("Loading the model"):
        until(screen, "(Loading the model: 0 s)\n")
    assert "\x1b" not in screen.getvalue()
    before = screen.getvalue()
    assert list(counted([1, 2], "Exporting")) == [1, 2]
    assert screen.getvalue() == before


def test_nothing_about_waiting_is_written_to_a_file(
    capsys: pytest.CaptureFixture[str], soon: None
) -> None:
    with Waiting("Loading the model"):
        assert list(counted([1, 2], "Exporting")) == [1, 2]
    assert capsys.readouterr() == ("", "")


def test_json_is_one_line_without_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    document = {"text": "\x1b[2J\x9b2J\u2028\x7f\ud83d \xe9\n"}
    put_json(document)
    out = capsys.readouterr().out
    assert out.count("\n") == len(out.splitlines()) == 1
    assert "\xe9" in out
    assert not any(each in out for each in "\x1b\x9b\x7f")
    assert json.loads(out) == document


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_script_is_printed(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", shell]) == 0
    assert f"_H2O_CHAT_COMPLETE={shell}_complete" in capsys.readouterr().out


Typing = Callable[[str], Editor]


@pytest.fixture
def typing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Typing]:
    """Create editors that receive these keys."""
    monkeypatch.setattr("prompt_toolkit.output.create_output", lambda **given: DummyOutput())
    piped: AbstractContextManager[PipeInput] = create_pipe_input()
    with piped as keys, create_app_session(input=keys, output=DummyOutput()):

        def typed(text: str) -> Editor:
            monkeypatch.setattr(sys, "stdin", Screen())
            keys.send_text(text)
            return open_editor(["/help", "/quit"])

        yield typed


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("one\r", "one"),
        ("one\x1b\rtwo\r", "one\ntwo"),
        ("one\\\rtwo\r", "one\ntwo"),
        ("one\\\x1b[Dx\r", "onex\\"),
        ("wrong\x15right\r", "right"),
    ],
)
def test_a_typed_line_is_a_message(typing: Typing, keys: str, message: str) -> None:
    assert typing(keys).ask() == message


def test_the_editor_can_start_with_a_text(typing: Typing) -> None:
    assert typing(" and two\r").ask(default="one") == "one and two"


@pytest.mark.parametrize(("key", "error"), [("\x03", KeyboardInterrupt), ("\x04", EOFError)])
def test_keys_that_end_the_input(typing: Typing, key: str, error: type[BaseException]) -> None:
    with pytest.raises(error):
        typing(key).ask()


def test_without_a_folder_a_chat_works_without_a_history(
    typing: Typing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(in_the_way))
    assert typing("one\r").ask() == "one"
    assert TerminalEditor is type(typing("two\r"))


def test_a_history_that_cannot_be_written_is_kept_in_memory(
    typing: Typing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    asked = typing("one\rtwo\r")
    assert isinstance(asked, TerminalEditor)
    assert asked.ask() == "one"
    (history,) = tmp_path.rglob("history")
    history.unlink()
    history.mkdir()
    assert asked.ask() == "two"
    assert list(asked._session.history.load_history_strings()) == []
    assert asked._session.history.get_strings() == ["one", "two"]


def test_a_removed_history_file_is_created_again_with_private_mode(
    typing: Typing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    asked = typing("one\rtwo\r")
    assert asked.ask() == "one"
    (history,) = tmp_path.rglob("history")
    history.unlink()
    assert asked.ask() == "two"
    assert "+two" in history.read_text()
    assert stat.S_IMODE(history.stat().st_mode) == 0o600


def test_a_split_line_end_is_one_line_end_on_a_terminal(
    terminal: Callable[[], Screen],
) -> None:
    screen = terminal()
    noted: list[int] = []
    write_answer(replying(["one\r\ntwo\r", "\nthree\rfour", "\u202efive\r"]), "plain", noted.append)
    assert screen.getvalue() == "one\ntwo\nthree\ufffdfour\ufffdfive\ufffd\n"
    assert sum(noted) == len("one\r\ntwo\r\nthree\rfour\u202efive\r")


def test_line_ends_are_unchanged_in_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    write_answer(replying(["one\r\ntwo\r", "\nthree"]), "plain")
    assert capsys.readouterr().out == "one\r\ntwo\r\nthree\n"


class Pipe(io.StringIO):
    """A stream that records the text between two flushes."""

    def __init__(self) -> None:
        super().__init__()
        self.flushed: list[str] = []

    def flush(self) -> None:
        if text := self.getvalue():
            self.flushed.append(text)
            self.seek(0)
            self.truncate()


@pytest.mark.parametrize(
    ("form", "flushed"),
    [
        ("plain", ["one two", " three", "\n"]),
        ("raw", ["one two", " three"]),
    ],
)
def test_a_pipe_is_flushed_when_there_is_nothing_more_to_read(
    monkeypatch: pytest.MonkeyPatch, form: Literal["plain", "raw"], flushed: list[str]
) -> None:
    pipe = Pipe()
    monkeypatch.setattr(sys, "stdout", pipe)
    noted: list[int] = []
    write_answer(replying(["one", " two"], [" three"]), form, noted.append)
    assert pipe.flushed == flushed
    assert [each for each in noted if each] == [7, 6]


def test_with_json_a_pipe_is_flushed_when_there_is_nothing_more_to_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pipe = Pipe()
    monkeypatch.setattr(sys, "stdout", pipe)
    write_answer(replying(["one", " two"], [" three"]), "json")
    assert [len(text.splitlines()) for text in pipe.flushed] == [2, 1]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\v", "\f", "\x85", "\u2028", "\n \n"])
def test_a_servers_text_of_several_lines_is_shown_as_one_line(
    capsys: pytest.CaptureFixture[str], end: str
) -> None:
    put_line(f"one{end}two{end}")
    say(f"one{end}two{end}three")
    out, err = capsys.readouterr()
    assert (out.rstrip(), err) == ("one two", "one two three\n")
    assert out.count("\n") == 1
