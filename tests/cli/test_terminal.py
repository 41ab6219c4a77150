"""The chat in a real terminal: tmux sends the keys and reads the screen."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from fake_chatui import FakeChatUi
from fake_model import Says
from local_service import PATIENCE
from programs import start
from scripted import Exchange
from scripted_chatui import ID, ScriptedChatUi, refuses, streams, tokens

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")

ROOT = Path(__file__).parents[2]
PROMPT = "\n>"


def _own_size(environment: Mapping[str, str]) -> dict[str, str]:
    """Remove the size of another terminal, which pytest's workers have."""
    return {name: value for name, value in environment.items() if name not in ("COLUMNS", "LINES")}


class Terminal:
    """A window of tmux in which a command runs."""

    def __init__(self, folder: Path, *command: str, **environment: str) -> None:
        self._server = ["tmux", "-L", f"h2o-chat-{uuid.uuid4().hex}"]
        self._home = folder
        words = " ".join(map(shlex.quote, command))
        given = {"XDG_CONFIG_HOME": str(folder), "HOME": str(folder), **environment}
        said = " ".join(f"{name}={shlex.quote(value)}" for name, value in given.items())
        # Keep it alive until the screen has been read.
        line = f"cd {shlex.quote(str(ROOT))}; {said} {words}; echo status $?; sleep 1000"
        start = ["new-session", "-d", "-x", "80", "-y", "24", line]
        subprocess.run(
            [*self._server, "-f", "/dev/null", *start],
            check=True,
            env={**_own_size(os.environ), "LC_ALL": "C.UTF-8", "TERM": "xterm-256color"},
        )

    def type(self, *keys: str) -> None:
        """Type texts, and keys by the names of tmux, such as "Enter" or "C-c"."""
        for key in keys:
            is_name = re.fullmatch(r"Enter|Escape|Tab|Up|C-\w", key) is not None
            self._tmux("send-keys", *(() if is_name else ("-l",)), key)

    def resize(self, width: int, height: int) -> None:
        self._tmux("resize-window", "-x", str(width), "-y", str(height))
        # The program's terminal is notified a little later.
        place = self._tmux("display-message", "-p", "#{pane_tty}").strip()
        end = time.monotonic() + PATIENCE
        with open(place, "rb", buffering=0) as terminal:
            while os.get_terminal_size(terminal.fileno()).columns != width:
                assert time.monotonic() < end, "the window has another size"
                time.sleep(0.01)

    def screen(self, *, styles: bool = False) -> str:
        """The screen with its scrollback."""
        more = ["-e"] if styles else []
        return self._tmux("capture-pane", "-p", "-J", "-S", "-1000", *more)

    def until(self, *texts: str, gone: str | None = None) -> str:
        """Wait until these texts are on the screen, in that order, and return the screen."""
        pattern = re.compile(".*".join(map(re.escape, texts)), re.DOTALL)
        end = time.monotonic() + PATIENCE
        pause = threading.Event()
        while True:
            shown = self.screen()
            if pattern.search(shown) and (gone is None or gone not in shown):
                return shown
            assert time.monotonic() < end, f"{texts} not on the screen:\n{shown}"
            pause.wait(0.05)

    def close(self) -> None:
        self._tmux("kill-server")

    def _tmux(self, *words: str) -> str:
        done = subprocess.run([*self._server, *words], capture_output=True, text=True, check=True)
        return done.stdout


Open = Callable[..., Terminal]


@pytest.fixture
def chat(tmp_path: Path) -> Iterator[Open]:
    """Open terminals with a chat."""
    opened: list[Terminal] = []

    def open_chat(url: str, *arguments: str, **environment: str) -> Terminal:
        command = [sys.executable, "-m", "h2o_client", *(arguments or ("chat",)), "--url", url]
        opened.append(Terminal(tmp_path, *command, **environment))
        opened[-1].until("Ctrl-D leaves.", PROMPT)
        return opened[-1]

    yield open_chat
    for terminal in opened:
        terminal.close()


class Held:
    """An answer that pauses until the test continues it or a stop is requested."""

    def __init__(self, *rest: str) -> None:
        self.go_on = threading.Event()
        self.stopped = threading.Event()
        self.begin = "Some **words**"
        self._rest = rest

    def __call__(self, exchange: Exchange) -> None:
        exchange.head(200)
        exchange.write(tokens(self.begin, end=False)[0])
        end = time.monotonic() + PATIENCE
        while not self.go_on.is_set() and not exchange.gone(0.02):
            assert time.monotonic() < end
            if self.stopped.is_set():
                exchange.cut()
                return
        if not exchange.gone(0):
            for token in tokens(*self._rest):
                exchange.write(token)
            exchange.end()

    def stop(self, exchange: Exchange) -> None:
        exchange.answer(200)
        self.stopped.set()


def test_an_answer_is_shown_while_it_arrives(chat: Open) -> None:
    held = Held(" and *more*\n\n- one\n- two\n")
    with ScriptedChatUi(held) as server:
        terminal = chat(server.url)
        terminal.type("Hello", "Enter")
        shown = terminal.until("> Hello", "Some words")
        assert "more" not in shown
        held.go_on.set()
        shown = terminal.until("Some words and more", " • one", " • two", PROMPT)
        assert shown.count("Some words") == 1
        assert "**" not in shown
        terminal.type("C-d")
        terminal.until("status 0")


def test_without_a_prompt_on_a_terminal_a_chat_starts(chat: Open) -> None:
    with FakeChatUi("0.9.4") as server:
        terminal = chat(server.url, "--keep")
        terminal.type("One", "Enter")
        terminal.until("1 turns, the last: One", PROMPT)
        terminal.type("Two", "Enter")
        terminal.until("3 turns, the last: Two", PROMPT)
        terminal.type("/quit", "Enter")
        terminal.until("status 0")
        assert len(server.conversations) == 1


def test_ctrl_c_stops_the_answer_and_keeps_its_text(chat: Open) -> None:
    held = Held()
    with ScriptedChatUi([held, streams(tokens("The next"))], stop=held.stop) as server:
        terminal = chat(server.url)
        terminal.type("Hello", "Enter")
        terminal.until("Some words")
        terminal.type("C-c")
        terminal.until("Some words", "(Stopped. /retry requests another answer.)", PROMPT)
        assert server.count("POST", f"/conversation/{ID}/stop-generating") == 1
        terminal.type("Go on", "Enter")
        terminal.until("Some words", "Go on", "The next", PROMPT)
        terminal.type("C-d")
        terminal.until("status 0")
        assert server.paths()[-1] == f"DELETE /conversation/{ID}"


def test_ctrl_c_before_the_first_token_stops_the_answer(chat: Open) -> None:
    begun, stopped = threading.Event(), threading.Event()

    def silent(exchange: Exchange) -> None:
        begun.set()
        exchange.until(stopped, PATIENCE)
        exchange.cut()

    def stop(exchange: Exchange) -> None:
        exchange.answer(200)
        stopped.set()

    with ScriptedChatUi([silent, streams(tokens("The next"))], stop=stop) as server:
        terminal = chat(server.url)
        terminal.type("Hello", "Enter")
        assert begun.wait(PATIENCE)
        terminal.type("C-c")
        terminal.until("(Stopped.", PROMPT)
        terminal.type("Go on", "Enter")
        terminal.until("The next", PROMPT)


def test_a_message_that_waits_for_a_stopped_answer_says_so(chat: Open) -> None:
    slow = Says(("Some", " words"), holds=True, rest=(" more",))
    with FakeChatUi("0.4", answer=[slow, Says(("The", " next"))]) as server:
        server.deaf = True
        terminal = chat(server.url)
        terminal.type("Hello", "Enter")
        terminal.until("Some words")
        terminal.type("C-c")
        terminal.until("(Stopped. /retry requests another answer.)", PROMPT)
        terminal.type("Go on", "Enter")
        terminal.until("(Waiting for the server to end the earlier answer.")
        assert len(server.prompts) == 1
        server.released.set()
        terminal.until("The next", PROMPT)
        server.wait_for(lambda server: server.stored)
        (conversation,) = server.conversations.values()
        stored = [each.content for each in conversation.messages]
        assert stored == ["Hello", "Some words more", "Go on", "The next"]


def test_a_repeatedly_stopped_prompt_can_be_edited(chat: Open) -> None:
    slow = Says(("Some", " words"), holds=True, rest=(" more",))
    with FakeChatUi("0.4", answer=[Says(("Fine",)), slow, slow, Says(("The", " end"))]) as server:
        terminal = chat(server.url)
        terminal.type("Zero", "Enter")
        terminal.until("Fine", PROMPT)
        terminal.type("One", "Enter")
        terminal.until("Some words")
        terminal.type("C-c")
        terminal.until("(Stopped. /retry requests another answer.)", PROMPT)
        terminal.type("/retry", "Enter")
        terminal.until("/retry", "Some words")
        terminal.type("C-c")  # ignored, because the mark of the first one has not expired
        terminal.until("/retry", "(Stopped. /retry requests another answer.)", PROMPT)
        terminal.type("/edit Uno", "Enter")
        terminal.until("/edit", "(Waiting for the server to end the earlier answer.")
        server.released.set()
        terminal.until("The end", PROMPT)
        server.wait_for(lambda server: server.stored)
        (conversation,) = server.conversations.values()
        stored = [each.content for each in conversation.messages]
        assert stored == ["Zero", "Fine", "Uno", "The end"]


def test_ctrl_c_at_the_prompt_clears_the_line(chat: Open) -> None:
    with FakeChatUi("0.9.4") as server:
        terminal = chat(server.url)
        terminal.type("wrong")
        terminal.until("> wrong")
        terminal.type("C-c", "right", "Enter")
        terminal.until("1 turns, the last: right", PROMPT)
        assert [prompt.last for prompt in server.prompts] == ["right"]


def test_ctrl_d_leaves(chat: Open) -> None:
    with FakeChatUi("0.9.4") as server:
        chat(server.url).type("C-d")
        assert server.requests == []


@pytest.mark.parametrize("keys", [("One", "Escape", "Enter"), ("One\\", "Enter")])
def test_a_message_may_have_several_lines(chat: Open, keys: tuple[str, ...]) -> None:
    with FakeChatUi("0.9.4") as server:
        terminal = chat(server.url)
        terminal.type(*keys)
        terminal.until("> One", gone="\\")
        terminal.type("Two", "Enter")
        terminal.until("> One", "Two", "turns, the last")
        assert [prompt.last for prompt in server.prompts] == ["One\nTwo"]


def test_a_history_is_kept_for_its_user_only(chat: Open, tmp_path: Path) -> None:
    with FakeChatUi("0.9.4") as server:
        terminal = chat(server.url)
        terminal.type("First", "Enter")
        terminal.until("the last: First", PROMPT)
        terminal.type("C-d")
        terminal.until("status 0")
        again = chat(server.url)
        again.type("Up")
        again.until("> First")
        again.type("Enter")
        again.until("the last: First", PROMPT)
    (history,) = tmp_path.rglob("history")
    assert stat.S_IMODE(history.stat().st_mode) == 0o600
    assert stat.S_IMODE(history.parent.stat().st_mode) == 0o700
    assert history.read_text().count("+First") == 1


def test_the_window_may_be_resized(chat: Open) -> None:
    held = Held(*(f" word{number}" for number in range(60)))
    with ScriptedChatUi([held, streams(tokens("The next"))]) as server:
        terminal = chat(server.url)
        terminal.type("Hello", "Enter")
        terminal.until("Some words")
        terminal.resize(40, 12)
        held.go_on.set()
        terminal.until("Some words", "word0 word1", "word59", PROMPT)
        terminal.resize(100, 30)
        terminal.type("Go on", "Enter")
        terminal.until("The next", PROMPT)


def test_tab_completes_a_slash_command(chat: Open) -> None:
    terminal = chat("http://localhost:1")
    terminal.type("/he", "Tab")
    terminal.until("> /help")
    terminal.type("Enter")
    terminal.until("/save [FILE]", "Ctrl-C stops an answer", PROMPT)


def test_edit_offers_the_last_message(chat: Open) -> None:
    with FakeChatUi("0.9.4") as server:
        terminal = chat(server.url)
        terminal.type("One", "Enter")
        terminal.until("the last: One", PROMPT)
        terminal.type("/edit", "Enter")
        terminal.until("/edit", "> One")
        terminal.type(" and two", "Enter")
        terminal.until("1 turns, the last: One and two", PROMPT)


def test_save_proposes_a_name_and_asks_before_it_replaces(chat: Open, tmp_path: Path) -> None:
    path = tmp_path / "chat.md"
    path.write_text("precious")
    with FakeChatUi("0.9.4") as server:
        terminal = chat(server.url)
        terminal.type("One", "Enter")
        terminal.until("the last: One", PROMPT)
        terminal.type("/save", "Enter")
        terminal.until("To which file?", ".md")
        terminal.type("C-c")
        terminal.until("To which file?", ".md", PROMPT)
        terminal.type(f"/save {path}", "Enter")
        terminal.until("exists already. Replace it? [y/N]:")
        terminal.type("n", "Enter")
        terminal.until("Not saved.", PROMPT)
        assert path.read_text() == "precious"
        terminal.type(f"/save {path}", "Enter")
        terminal.until("Not saved.", "Replace it? [y/N]:")
        terminal.type("y", "Enter")
        terminal.until("Saved to", PROMPT)
    assert "the last: One" in path.read_text()


def test_an_error_is_shown_and_the_chat_continues(chat: Open) -> None:
    says = {"message": "no \x1b]0;title\x07[red]markup[/red]"}
    with ScriptedChatUi([refuses(429, says), streams(tokens("Hello"))]) as server:
        terminal = chat(server.url)
        terminal.type("One", "Enter")
        terminal.until("Error: The server answered 429: no \ufffd]0;title\ufffd[red]markup", PROMPT)
        terminal.type("/retry", "Enter")
        terminal.until("Hello", PROMPT)


def test_a_plain_terminal_gets_plain_text(chat: Open) -> None:
    with ScriptedChatUi(streams(tokens("Some **words**", "\x1b[2J\n- one"))) as server:
        terminal = chat(server.url, "chat", TERM="dumb")
        terminal.type("Hello", "Enter")
        terminal.until("Some **words**\ufffd[2J\n- one", PROMPT)


def test_without_colour_the_layout_stays(chat: Open) -> None:
    answer = tokens("Some **words**\n\n```python\nx = 1\n```\n\n- one")
    with ScriptedChatUi(streams(answer)) as server:
        terminal = chat(server.url, "chat", NO_COLOR="1")
        terminal.type("Hello", "Enter")
        terminal.until("Some words", "x = 1", " • one", PROMPT)
        shown = terminal.screen(styles=True)
    assert "\x1b[1mwords" in shown
    assert re.search(r"\x1b\[(?:\d+;)*(?:3|4|9|10)[0-7]", shown) is None


def test_lines_wrap_at_words_and_a_blank_line_follows_an_error(chat: Open) -> None:
    with ScriptedChatUi(refuses(429, {"message": "Too many of them"})) as server:
        terminal = chat(server.url)
        terminal.resize(50, 40)
        terminal.type("/help", "Enter")
        terminal.until(
            "/resume", "\n" + " " * 19 + "answer. This conversation", "Ctrl-D leaves.", PROMPT
        )
        terminal.type("One", "Enter")
        shown = terminal.until("Error: The server answered 429", "\n\n>")
    said = shown[shown.index("Error:") :].split("\n\n")[0].splitlines()
    assert len(said) > 1
    assert all(len(line) <= 50 for line in said)


def test_ctrl_c_leaves_a_resumed_answer_for_another_resume(chat: Open, tmp_path: Path) -> None:
    slow = Says(("Some ", "**words**"), holds=True, rest=(" and more",))
    with FakeChatUi("head", answer=[slow]) as server:
        words = [sys.executable, "-m", "h2o_client", "--url", server.url, "Hi"]
        program = start(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, "XDG_CONFIG_HOME": str(tmp_path)},
        )
        assert program.stdout is not None
        with program.stdout:
            assert program.stdout.read(14) == b"Some **words**"
            program.kill()
            program.wait()
        terminal = chat(server.url)
        terminal.type("/resume", "Enter")
        terminal.until("Some words")
        terminal.type("C-c")
        terminal.until("Some words", "(Stopped. /resume", PROMPT)
        server.released.set()
        terminal.type("/resume", "Enter")
        terminal.until("(Stopped. /resume", "Some words and more", PROMPT)
        assert server.conversations == {}


def test_one_answer_can_be_shown_as_markdown(chat: Open, tmp_path: Path) -> None:
    with FakeChatUi("0.9.4", answer=[Says(("Some ", "**words**"))]) as server:
        words = [sys.executable, "-m", "h2o_client", "--markdown", "--url", server.url, "Hi"]
        terminal = Terminal(tmp_path, "sh", "-c", f"{shlex.join(words)} < /dev/null")
        try:
            shown = terminal.until("Some words", "status 0")
        finally:
            terminal.close()
    assert "**" not in shown


def test_keys_typed_ahead_are_kept_after_ctrl_c(chat: Open) -> None:
    held = Held()
    with ScriptedChatUi([held, streams(tokens("The next"))], stop=held.stop) as server:
        terminal = chat(server.url)
        terminal.type("Hello", "Enter")
        terminal.until("Some words")
        terminal.type("typed ahead", "C-c")
        terminal.until("(Stopped. /retry requests another answer.)", "> typed ahead")
        terminal.type("Enter")
        terminal.until("The next", PROMPT)


def test_no_frame_is_left_if_the_window_becomes_narrow_during_an_answer(chat: Open) -> None:
    held = Held(" the end")
    held.begin = "".join(f"word{number} " for number in range(40))
    with ScriptedChatUi(held) as server:
        terminal = chat(server.url)
        terminal.type("Hello", "Enter")
        terminal.until("word0", "word39")
        for width in (40, 60, 30):
            terminal.resize(width, 24)
        held.go_on.set()
        shown = terminal.until("word39", "the end", PROMPT)
        assert shown.count("word39") == 1


def test_a_terminal_shows_that_a_server_is_silent(chat: Open) -> None:
    held = Held(" more")
    with ScriptedChatUi(held) as server:
        terminal = chat(server.url)
        terminal.type("Hello", "Enter")
        terminal.until("Some words", "(Waiting for more: ", " s of 60 s at most)")
        held.go_on.set()
        terminal.until("Some words more", PROMPT, gone="Waiting for more")


def test_an_opened_conversation_shows_its_last_messages(chat: Open) -> None:
    with FakeChatUi("0.9.4") as server:
        terminal = chat(server.url, "--keep")
        terminal.type("One", "Enter")
        terminal.until("1 turns, the last: One", PROMPT)
        terminal.type("C-d")
        terminal.until("(Kept conversation", "h2o-chat -c continues it.)", "status 0")
        again = chat(server.url, "-c")
        again.until("2 messages.)", "> One", "1 turns, the last: One", PROMPT)
        again.type("Two", "Enter")
        again.until("3 turns, the last: Two", PROMPT)
