"""Displays and ``%h2o`` in an IPython of this process; in a kernel: test_notebook_kernel.py."""

from __future__ import annotations

import asyncio
import io
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from IPython.core.displaypub import CapturingDisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

import h2o_client
from fake_checks import talking, versions
from fake_model import Says
from h2o_client import Answer, AsyncH2oSession, H2oSession, Reply, Source
from h2o_client.errors import Hint, spelled
from h2o_client.notebook import live, of_answer, unload_ipython_extension
from h2o_client.notebook.display import of_reply
from h2o_client.notebook.live import interrupts_noted
from h2o_client.notebook.magic_args import MagicCall
from h2o_client.notebook.magics import PromptLine
from h2o_client.notebook.plain_text import as_one_line, in_options
from h2o_client.plugins.pytest import H2oServer
from h2o_client.server import ScriptedAnswer
from h2o_client.wire.events import Final, Token
from local_service import PATIENCE


class Shell(InteractiveShell):
    """An IPython that records displays. With a ``kernel`` it can update them."""

    kernel: object

    @property
    def displays(self) -> list[dict[str, Any]]:
        assert isinstance(self.display_pub, CapturingDisplayPublisher)
        return self.display_pub.outputs

    @property
    def last(self) -> dict[str, str]:
        return dict(self.displays[-1]["data"])

    def run(self, code: str) -> Any:
        return self.run_cell(code, store_history=True)  # type: ignore[no-untyped-call]


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    """A shell without a kernel: it can print, but not update displays."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    # A shell replaces the program's main module.
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    config = Config()
    config.HistoryManager.enabled = False
    shell = Shell.instance(config=config, display_pub_class=CapturingDisplayPublisher)
    shell.colors = "nocolor"
    yield shell
    unload_ipython_extension(shell)
    shell.user_ns.clear()
    Shell.clear_instance()


@pytest.fixture
def shell(terminal: Shell) -> Shell:
    """A shell that looks like a kernel's."""
    terminal.kernel = object()
    return terminal


@pytest.fixture
def client(h2o_server: H2oServer, terminal: Shell) -> Iterator[H2oSession]:
    with H2oSession(h2o_server.url) as session:
        terminal.user_ns.update(client=session, url=h2o_server.url)
        yield session


@dataclass
class Paced:
    """An engine that sends a word, and the next one when the test allows it."""

    said: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)
    stopped: threading.Event = field(default_factory=threading.Event)

    def __call__(
        self, turns: object, parameters: object, stopped: Callable[[], bool]
    ) -> Iterator[Token | Final]:
        yield Token("One ")
        self.said.set()
        while not self.go_on.wait(0.01):
            if stopped():
                self.stopped.set()
                return
        yield Token("two.")
        yield Final()


def deleted(server: H2oServer) -> list[str]:
    return [each.path for each in server.requests if each.method == "DELETE"]


def when(true: Callable[[], object], then: Callable[[], object]) -> threading.Thread:
    """Call ``then`` in a thread as soon as ``true()``."""

    def run() -> None:
        end, waiter = time.monotonic() + PATIENCE, threading.Event()
        while time.monotonic() < end:
            if true():
                then()
                return
            waiter.wait(0.01)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def interrupt() -> None:
    # To the thread that runs the cell, like in Jupyter. It may be waiting for a socket.
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


def test_a_stream_grows_in_one_display(
    shell: Shell, client: H2oSession, h2o_server: H2oServer
) -> None:
    paced = Paced()
    h2o_server.answers(paced)
    telling = when(
        lambda: shell.displays and "One" in shell.last["text/plain"], lambda: paced.go_on.set()
    )
    assert shell.run("client.stream('Count')").success
    telling.join()
    ids = {each["transient"]["display_id"] for each in shell.displays}
    updates = [bool(each["update"]) for each in shell.displays]
    assert len(ids) == 1
    assert updates == [False] + [True] * (len(updates) - 1)
    texts = [each["data"]["text/plain"] for each in shell.displays]
    assert texts[-2:] == ["One \n\n[answering …]", "One two."]
    assert "<p>One two.</p>" in shell.last["text/html"]
    assert shell.user_ns["_"].answer.text == "One two."


def test_the_html_of_a_stream_is_escaped(
    shell: Shell, client: H2oSession, h2o_server: H2oServer
) -> None:
    h2o_server.answers("<script>alert(1)</script>")
    shell.run("client.stream('x')")
    assert all("<script" not in each["data"]["text/html"] for each in shell.displays)


def test_a_reply_that_has_ended_is_shown_as_it_is(shell: Shell, client: H2oSession) -> None:
    shell.user_ns["reply"] = reply = client.stream("x")
    reply.read()
    assert shell.run("reply").success
    assert [each["data"]["text/plain"] for each in shell.displays] == ["Hello from h2o_server."]


@versions((0, 11))
def test_after_an_elicitation_the_answer_continues_in_the_next_display(
    version: str, shell: Shell
) -> None:
    says = [Says(("Let me look. ",), asks=True), Says(("Done", "."))]
    with talking(version, answer=says) as (_, client):
        shell.user_ns["reply"] = reply = client.stream("delete all")
        assert shell.run("reply").success
        assert shell.last["text/plain"].startswith("Let me look. \n\n[Really?")
        reply.answer_elicitation("accept", {"confirm": "DELETE"})
        assert shell.run("reply").success
        assert shell.last["text/plain"].endswith("Done.")


def test_an_error_during_the_stream_fails_the_cell_with_one_sentence(
    shell: Shell,
    client: H2oSession,
    h2o_server: H2oServer,
    capsys: pytest.CaptureFixture[str],
) -> None:
    h2o_server.fails(after="Half of it", error="It fell \x1b[2J over")
    result = shell.run("client.stream('x')")
    assert not result.success
    assert result.error_in_exec.partial == "Half of it"
    assert shell.last["text/plain"] == "Half of it\n\n[broken off by an error]"
    out = capsys.readouterr().out
    assert "It fell \ufffd[2J over" in out
    assert "Traceback" not in out
    assert "<Reply" not in out


def test_a_display_outside_of_a_shell_raises(
    h2o_server: H2oServer, capsys: pytest.CaptureFixture[str]
) -> None:
    h2o_server.fails(after="Half")
    with H2oSession(h2o_server.url) as session, pytest.raises(h2o_client.GenerationError):
        session.stream("x")._ipython_display_()
    assert capsys.readouterr().out == "Half\n"


@pytest.mark.usefixtures("client")
def test_an_interrupt_stops_the_answer_and_keeps_its_text(
    shell: Shell, h2o_server: H2oServer, capsys: pytest.CaptureFixture[str]
) -> None:
    paced = Paced()
    h2o_server.answers(paced)
    interrupting = when(
        lambda: shell.displays and "One" in shell.last["text/plain"],
        interrupt,
    )
    result = shell.run("client.stream('Count')")
    interrupting.join()
    assert isinstance(result.error_in_exec, KeyboardInterrupt)
    assert shell.last["text/plain"] == "One \n\n[stopped]"
    assert capsys.readouterr().out == f"Out[1]: KeyboardInterrupt: {live.STOPPED}\n"
    assert paced.stopped.wait(PATIENCE)
    assert len(deleted(h2o_server)) == 1
    assert [each.path[-16:] for each in h2o_server.requests].count("/stop-generating") == 1


@pytest.mark.parametrize("code", ["client.stream('Count')", "%h2o --into answer Count"])
def test_a_second_interrupt_during_the_first_is_also_one_sentence(
    magic: Shell,
    h2o_server: H2oServer,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    code: str,
) -> None:
    h2o_server.answers(Paced())
    handler = signal.getsignal(signal.SIGINT)
    stop = Reply.stop

    def interrupted_stop(reply: Reply) -> None:
        stop(reply)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Reply, "stop", interrupted_stop)
    capsys.readouterr()
    first = when(lambda: magic.displays and "One" in magic.last["text/plain"], interrupt)
    result = magic.run(code)
    first.join()
    assert isinstance(result.error_in_exec, KeyboardInterrupt)
    out = capsys.readouterr().out.removeprefix("Out[3]: ")
    assert out == f"KeyboardInterrupt: {live.STOPPED}\n"
    assert magic.last["text/plain"] == "One \n\n[stopped]"
    assert signal.getsignal(signal.SIGINT) is handler
    magic.run("%unload_ext h2o_client")
    assert len(deleted(h2o_server)) == 1


@pytest.mark.usefixtures("client")
def test_an_interrupt_while_the_display_ends_is_ignored(
    shell: Shell, h2o_server: H2oServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    h2o_server.answers(Paced())
    finished = []

    def finish() -> None:
        signal.raise_signal(signal.SIGINT)
        finished.append(True)

    monkeypatch.setattr(shell.displayhook, "msg", {}, raising=False)
    monkeypatch.setattr(shell.displayhook, "finish_displayhook", finish)
    first = when(lambda: shell.displays and "One" in shell.last["text/plain"], interrupt)
    result = shell.run("client.stream('Count')")
    first.join()
    assert str(result.error_in_exec) == live.STOPPED
    assert finished == [True]


def test_outside_the_main_thread_there_are_no_interrupts() -> None:
    noted = []

    def run() -> None:
        with interrupts_noted() as again:
            noted.append(again.is_set())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert noted == [False]


@pytest.mark.usefixtures("client")
def test_a_terminal_prints_tokens_and_stops_at_an_interrupt(
    terminal: Shell, h2o_server: H2oServer
) -> None:
    h2o_server.answers(Paced())
    out = io.StringIO()
    interrupting = when(lambda: "One" in out.getvalue(), interrupt)
    with redirect_stdout(out):
        assert not terminal.run("client.stream('Count')").success
    interrupting.join()
    assert out.getvalue().endswith(f"One \nKeyboardInterrupt: {live.STOPPED}\n")
    assert len(deleted(h2o_server)) == 1
    assert terminal.displays == []


@pytest.mark.usefixtures("client")
def test_a_terminal_gets_no_control_characters(
    terminal: Shell, h2o_server: H2oServer, capsys: pytest.CaptureFixture[str]
) -> None:
    h2o_server.answers("a\x1b]0;title\x07")
    terminal.run("client.stream('x')")
    assert capsys.readouterr().out.endswith("a\ufffd]0;title\ufffd\n")


def test_an_error_while_drawing_ends_the_answer(
    shell: Shell,
    client: H2oSession,
    h2o_server: H2oServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    paced = Paced()
    h2o_server.answers(paced)

    def broken(*_: object) -> None:
        raise SystemExit

    monkeypatch.setattr(live.Drawing, "draw", broken)
    with pytest.raises(SystemExit):
        live.show(client.stream("Count"))
    assert paced.stopped.wait(PATIENCE)
    assert len(deleted(h2o_server)) == 1


def test_long_answers_are_drawn_less_often(shell: Shell, client: H2oSession) -> None:
    drawing = live.Drawing()
    reply = client.stream("x")
    reply.read()
    drawing.draw(reply)
    assert drawing.pause == 0.1
    long = client.stream("x")
    long.read()
    assert long.answer is not None
    long._steps.answer = Answer(
        text="x" * 150_000, finish_reason="stop", model="m", conversation_id="0" * 24
    )
    drawing.draw(long)
    assert drawing.pause > 0.9


@pytest.mark.usefixtures("shell")
def test_drawing_takes_at_most_a_tenth_of_the_time(
    client: H2oSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0

    def of_reply(reply: Reply, *, note: str = "") -> dict[str, str]:
        nonlocal now
        now += 2.0
        return {"text/html": note, "text/plain": note}

    drawing = live.Drawing()
    reply = client.stream("x")
    with monkeypatch.context() as patch:
        patch.setattr("h2o_client.notebook.display.of_reply", of_reply)
        clock = SimpleNamespace(monotonic=lambda: now)
        patch.setattr("h2o_client.notebook.live.time", clock)
        drawing.draw(reply, "drawn")
    assert drawing.pause == 18
    reply.close()


def test_an_async_reply_is_read_by_a_task(shell: Shell, h2o_server: H2oServer) -> None:
    async def main() -> None:
        async with AsyncH2oSession(h2o_server.url) as client:
            client.stream("x")._ipython_display_()
            (task,) = live._tasks
            await asyncio.wait_for(task, PATIENCE)

    asyncio.run(main())
    assert shell.last["text/plain"] == "Hello from h2o_server."
    assert len(deleted(h2o_server)) == 1


def test_an_async_error_is_shown_in_the_display(shell: Shell, h2o_server: H2oServer) -> None:
    h2o_server.fails(after="Half", error="It fell over")

    async def main() -> None:
        async with AsyncH2oSession(h2o_server.url) as client:
            reply = client.stream("x")
            reply._ipython_display_()
            await asyncio.wait_for(next(iter(live._tasks)), PATIENCE)
            reply._ipython_display_()

    asyncio.run(main())
    assert "It fell over" in shell.displays[-2]["data"]["text/html"]
    assert shell.last["text/plain"] == "Half\n\n[broken off by an error]"


def test_a_cancelled_task_leaves_no_conversation(shell: Shell, h2o_server: H2oServer) -> None:
    paced = Paced()
    h2o_server.answers(paced)

    async def main() -> None:
        async with AsyncH2oSession(h2o_server.url) as client:
            client.stream("x")._ipython_display_()
            (task,) = live._tasks
            await asyncio.to_thread(paced.said.wait, 5)
            task.cancel()
            await asyncio.wait([task], timeout=PATIENCE)

    asyncio.run(main())
    assert paced.stopped.wait(PATIENCE)
    assert len(deleted(h2o_server)) == 1


def test_without_a_loop_an_async_reply_says_how_to_read_it(
    shell: Shell, h2o_server: H2oServer, capsys: pytest.CaptureFixture[str]
) -> None:
    reply = AsyncH2oSession(h2o_server.url).stream("x")
    reply._ipython_display_()
    assert "async for token in reply" in shell.last["text/plain"]
    assert h2o_server.requests == []


@pytest.mark.usefixtures("client")
def test_an_answer_is_shown_with_its_sources(shell: Shell) -> None:
    answer = Answer(
        text="*Yes*",
        finish_reason="length",
        model="m<1>",
        conversation_id="0" * 24,
        title="A <title>",
        sources=(Source("T<", "https://a.example/"), Source("", "javascript:alert(1)")),
    )
    bundle = of_answer(answer)
    assert answer._repr_mimebundle_(include=None, exclude=None) == bundle
    html = bundle["text/html"]
    assert "<em>Yes</em>" in html
    assert "A &lt;title&gt; · m&lt;1&gt; · cut off at the maximum length" in html
    assert 'href="https://a.example/"' in html
    assert ">T&lt;</a>" in html
    assert "<li>javascript:alert(1)</li>" in html
    assert bundle["text/plain"] == "*Yes*\n\n[cut off at the maximum length]"


def test_a_conversation_is_shown_without_a_request(
    shell: Shell, client: H2oSession, h2o_server: H2oServer
) -> None:
    with client.conversation() as chat:
        assert "no messages yet" in chat._repr_mimebundle_()["text/html"]
        chat.chat("Hello")
        chat.title = "<b>T</b>"
        asked = len(h2o_server.requests)
        bundle = chat._repr_mimebundle_()
        assert "&lt;b&gt;T&lt;/b&gt;" in bundle["text/html"]
        assert str(chat.id) in bundle["text/html"]
        assert bundle["text/plain"] == repr(chat)
        assert len(h2o_server.requests) == asked


@pytest.mark.usefixtures("shell")
def test_an_async_conversation_is_also_shown(h2o_server: H2oServer) -> None:
    async def main() -> None:
        async with AsyncH2oSession(h2o_server.url) as client:
            chat = client.conversation()
            assert "no messages yet" in chat._repr_mimebundle_()["text/html"]
            await chat.chat("Hello")
            bundle = chat._repr_mimebundle_(include=None, exclude=None)
            assert f"at {h2o_server.url} · {chat.id}" in bundle["text/html"]
            assert bundle["text/plain"] == repr(chat)
            await chat.aclose()

    asyncio.run(main())


class Typeset(HTMLParser):
    """The text that a typesetter would treat as formulas."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.taken = ""
        self._ignored = [False]
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        classes = (dict(attrs).get("class") or "").split()
        ignored = self._ignored[-1] or {"tex2jax_ignore", "mathjax_ignore"} <= set(classes)
        self._ignored.append(ignored and "mathjax_process" not in classes)

    def handle_endtag(self, tag: str) -> None:
        self._ignored.pop()

    def handle_data(self, data: str) -> None:
        if not self._ignored[-1]:
            self.taken += data


@pytest.mark.usefixtures("shell")
def test_only_checked_formulas_are_typeset(client: H2oSession) -> None:
    evil = r"$\href{javascript:alert(1)}{click}$"
    source = Source(evil, "https://a.example/")
    answer = Answer(
        text=f"{evil} $x$",
        finish_reason="stop",
        model=evil,
        conversation_id="0" * 24,
        title=evil,
        sources=(source, Source(evil, evil)),
    )
    assert Typeset(of_answer(answer)["text/html"]).taken == r"\(x\)"
    reply = client.stream("x")
    assert Typeset(of_reply(reply, note=evil)["text/html"]).taken == ""
    reply.close()
    with client.conversation() as chat:
        chat.chat("Hello")
        chat.title = evil
        assert "click" in chat._repr_mimebundle_()["text/html"]
        assert Typeset(chat._repr_mimebundle_()["text/html"]).taken == ""


def test_titles_and_sources_do_not_change_the_text_direction() -> None:
    answer = Answer(
        text="",
        finish_reason="stop",
        model="m",
        conversation_id="0" * 24,
        title="a\u202eb",
        sources=(Source("c\u2067d", "https://a.example/"),),
    )
    html = of_answer(answer)["text/html"]
    assert "a\ufffdb" in html
    assert "c\ufffdd" in html


@pytest.fixture
def magic(shell: Shell, client: H2oSession) -> Iterator[Shell]:
    """A shell with the extension, and the server named."""
    shell.run("%load_ext h2o_client")
    assert shell.run("%h2o --url $url").success
    shell.displays.clear()
    yield shell
    unload_ipython_extension(shell)  # while the server is there


def test_cells_share_a_conversation_until_new(magic: Shell, h2o_server: H2oServer) -> None:
    magic.run("%%h2o\nMy name is Ada,\nand that's {that}?\n")
    magic.run("%h2o What's my name?")
    assert h2o_server.prompts == ["My name is Ada,\nand that's {that}?", "What's my name?"]
    assert len(h2o_server.asked[1].turns) == 3
    magic.run("%h2o --new Who am I?")
    assert len(h2o_server.asked[2].turns) == 1
    assert len(deleted(h2o_server)) == 1
    magic.run("%unload_ext h2o_client")
    assert len(deleted(h2o_server)) == 2
    assert not magic.run("%h2o Hello").success


def test_an_answer_goes_into_a_variable(magic: Shell) -> None:
    magic.run("%%h2o --into answer\nHello\n")
    assert magic.user_ns["answer"].text == "Hello from h2o_server."
    assert magic.displays[-1]["data"]["text/plain"] == "Hello from h2o_server."


def test_a_stopped_answer_is_also_stored_in_the_variable(
    magic: Shell, h2o_server: H2oServer
) -> None:
    h2o_server.answers(Paced())
    interrupting = when(
        lambda: magic.displays and "One" in magic.last["text/plain"],
        interrupt,
    )
    assert not magic.run("%h2o --into answer Count").success
    interrupting.join()
    assert magic.user_ns["answer"].text == "One "
    h2o_server.answers("Still here.")
    assert magic.run("%h2o Go on").success
    assert len(h2o_server.asked[-1].turns) == 3


def test_an_interrupt_before_the_first_token_is_one_sentence(
    magic: Shell, h2o_server: H2oServer, capsys: pytest.CaptureFixture[str]
) -> None:
    h2o_server.answers(ScriptedAnswer("Late", delay=20))
    interrupting = when(lambda: h2o_server.asked, interrupt)
    assert not magic.run("%h2o Hello").success
    interrupting.join()
    assert capsys.readouterr().out.endswith(f"KeyboardInterrupt: {live.STOPPED}\n")


@pytest.mark.h2o_server(chat_ui="0.4")
def test_options_reach_the_server(magic: Shell, h2o_server: H2oServer) -> None:
    magic.run("%h2o --system 'Be brief' -p temperature=0.5 -p max_new_tokens=7 -p x=y Hello")
    asked = h2o_server.asked[-1]
    assert asked.parameters["temperature"] == 0.5
    assert asked.parameters["max_new_tokens"] == 7
    assert "Be brief" in asked.prompt
    magic.run("%h2o Again")
    assert h2o_server.asked[-1].parameters.get("temperature") != 0.5
    assert len(h2o_server.asked[-1].turns) == 3
    magic.run("%h2o --system '' Without")
    assert h2o_server.asked[-1].prompt == "Without"
    assert len(h2o_server.asked[-1].turns) == 1


def test_a_kept_conversation_is_not_deleted(magic: Shell, h2o_server: H2oServer) -> None:
    magic.run("%h2o --keep Hello")
    assert magic.run("%h2o --keep Again").success
    magic.run("%h2o --new Other")
    assert not magic.run("%h2o --keep Late").success
    magic.run("%unload_ext h2o_client")
    assert len(deleted(h2o_server)) == 1


def test_another_server_starts_another_conversation(magic: Shell, h2o_server: H2oServer) -> None:
    magic.run("%h2o Hello")
    with H2oServer() as other:
        magic.user_ns["other"] = other.url
        magic.run("%h2o --url $other Hello")
        magic.run("%h2o --model h2o_server Hello")
        assert [len(each.turns) for each in other.asked] == [1, 1]
        assert len(deleted(h2o_server)) == 1
        magic.run("%unload_ext h2o_client")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("%h2o --frob x", "option --frob not recognized. Options: --url URL"),
        ("%h2o --url", "option --url requires argument"),
        ("%h2o -p x Hello", "Invalid parameter -p x. Use -p NAME=VALUE."),
        ("%h2o --into 1x Hello", "Invalid variable name --into 1x"),
        ("%h2o --into class Hello", "Invalid variable name --into class"),
        ("%h2o --url ftp://x Hello", "ftp"),
        ("%%h2o\n\n", "The last user message is blank"),
        ("%h2o --model nobody Hello", "nobody"),
        ("%h2o --url http://127.0.0.1:9 Hello", "Is the server running?"),
    ],
)
def test_errors_are_one_sentence(
    magic: Shell, line: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    result = magic.run(line)
    assert isinstance(result.error_in_exec, h2o_client.H2oError)
    out = capsys.readouterr().out
    assert says in out
    assert "Traceback" not in out
    assert len(out.splitlines()) == 1


@pytest.mark.parametrize(
    "failing",
    ["--model nosuch", "--url http://127.0.0.1:9", "--url http://[", "--system x --model nosuch"],
)
def test_options_of_a_failed_prompt_have_no_effect(
    magic: Shell, h2o_server: H2oServer, failing: str
) -> None:
    magic.run("%h2o Hello")
    assert not magic.run(f"%h2o {failing} q").success
    assert magic.run("%h2o plain").success
    assert [len(each.turns) for each in h2o_server.asked] == [1, 3]
    assert h2o_server.prompts[-1] == "plain"
    magic.run("%unload_ext h2o_client")
    said = [(each.path, each.status) for each in h2o_server.requests]
    assert said.count(("/conversation", 200)) == len(deleted(h2o_server))


@pytest.mark.h2o_server(chat_ui="0.4")
def test_an_interrupt_does_not_undo_the_changed_options(
    magic: Shell, h2o_server: H2oServer
) -> None:
    assert magic.run("%h2o --model nosuch --system 'Be brief'").success
    assert not magic.run("%h2o q").success
    assert magic.run('%h2o --model "" plain').success
    assert "Be brief" in h2o_server.asked[-1].prompt
    assert magic.run('%h2o --model "" --system "" plain').success
    assert h2o_server.asked[-1].prompt == "plain"


def test_an_empty_url_means_the_url_of_the_environment(
    magic: Shell, h2o_server: H2oServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with H2oServer() as other:
        monkeypatch.setenv("H2O_CLIENT_URL", other.url)
        assert magic.run("%h2o one").success
        assert magic.run('%h2o --url "" two').success
        assert (h2o_server.prompts, other.prompts) == (["one"], ["two"])
        magic.run("%unload_ext h2o_client")


@pytest.mark.usefixtures("client")
def test_the_first_url_is_kept_even_if_its_server_is_not_up_yet(
    shell: Shell, h2o_server: H2oServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("H2O_CLIENT_URL", h2o_server.url)
    shell.run("%load_ext h2o_client")
    assert not shell.run("%h2o --url http://127.0.0.1:9 Private").success
    assert not shell.run("%h2o Private").success
    assert h2o_server.requests == []
    assert shell.run('%h2o --url "" Public').success


def test_hints_name_options() -> None:
    hint = Hint('Pass {base_url:"http://localhost:3000"} and {model}, or call {models()}.')
    said = spelled(hint, in_options)
    assert said == "Pass --url http://localhost:3000 and --model, or call models()."


def test_an_error_during_the_stream_names_no_python_attributes(
    magic: Shell, h2o_server: H2oServer, capsys: pytest.CaptureFixture[str]
) -> None:
    h2o_server.fails(after="Half of it", error="It fell over")
    capsys.readouterr()
    assert not magic.run("%h2o x").success
    out = capsys.readouterr().out
    assert "It fell over" in out
    assert ".partial" not in out


@pytest.mark.parametrize("options", ["--new", "--model nosuch"])
def test_without_an_answer_the_variable_is_none(
    magic: Shell, h2o_server: H2oServer, options: str
) -> None:
    magic.run("%h2o --into answer Hello")
    assert magic.user_ns["answer"].text
    h2o_server.fails(after="Half of it", error="It fell over")
    assert not magic.run(f"%h2o {options} --into answer Hello").success
    assert magic.user_ns["answer"] is None


LINES = {
    "%h2o What's the (matter?": "What's the (matter?",
    'if True:\n    %h2o say """ or {x}?\nx = 5': 'say """ or 5?',
    "%h2o one \\\ntwo": "one  two",
    "x = [\n  1,\n]\n%h2o Hello  # there?": "Hello  # there?",
}


@pytest.mark.parametrize(("cell", "prompt"), LINES.items())
def test_lines_are_prompts(magic: Shell, h2o_server: H2oServer, cell: str, prompt: str) -> None:
    magic.user_ns["x"] = 5
    assert magic.run(cell).success
    assert h2o_server.prompts == [prompt]


def test_lines_in_strings_and_expressions_are_not_prompts(
    magic: Shell, h2o_server: H2oServer
) -> None:
    code = "h2o = 2\ndoc = \"\"\"\n%h2o hello\n\"\"\"\nx = (5\n  %h2o )\nf = f'''\n  %h2o {x}'''"
    assert magic.run(code).success
    assert magic.user_ns["doc"] == "\n%h2o hello\n"
    assert magic.user_ns["x"] == 1
    assert magic.user_ns["f"] == "\n  %h2o 1"
    assert h2o_server.prompts == []


def test_several_lines_are_several_prompts(magic: Shell, h2o_server: H2oServer) -> None:
    assert magic.run("%h2o what's (one?\n\n%h2o two \"?\ny = 1").success
    assert h2o_server.prompts == ["what's (one?", 'two "?']
    assert magic.user_ns["y"] == 1


def test_the_extension_can_be_loaded_twice(magic: Shell) -> None:
    assert magic.run("%reload_ext h2o_client").success
    transformers = magic.input_transformer_manager.token_transformers
    assert transformers.count(PromptLine) == 1
    assert magic.run("%h2o?").success
    magic.run("%unload_ext h2o_client")
    assert PromptLine not in transformers


def test_a_prompt_is_sent_as_typed() -> None:
    call = MagicCall.parse("""--model "a b" --new  What's "this"  --keep?""", None)
    assert (call.prompt, call.model, call.new, call.keep) == (
        """What's "this"  --keep?""",
        "a b",
        True,
        False,
    )
    assert MagicCall.parse("", None).prompt is None
    assert MagicCall.parse("", "").prompt == ""


def test_an_error_shown_on_one_line_can_be_pickled() -> None:
    error = as_one_line(h2o_client.RateLimitError(429, "http://a.example"))
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
