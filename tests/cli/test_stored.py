"""``models``, ``conversations``, ``export``: lists for users and programs, and documents."""

from __future__ import annotations

import json
import os
import pty
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fake_chatui import FakeChatUi
from fake_store import MODELS, Conversation
from h2o_client import H2oSession, Message
from h2o_client.cli import run
from h2o_client.cli.conversation_file import branch, write_file
from local_service import PATIENCE
from programs import start

ROOT = Path(__file__).parents[2]


class Stored:
    """A server with two conversations of a browser's session."""

    def __init__(self, server: FakeChatUi) -> None:
        self.server = server
        self.cookie = server.browser()
        self.first = self.add("On [bold]skies[/]", ("user", "Why blue?"), ("assistant", "*So.*"))
        self.second = self.add("On\tseas\x1b[2J", ("user", "Why wet?"), ("assistant", "Because."))

    def add(self, title: str, *turns: tuple[str, str]) -> Conversation:
        return self.server.seed(self.cookie, title, *turns)

    def run(self, *arguments: str) -> int:
        return run([*arguments, "--url", self.server.url, "--cookie", self.cookie])

    def on_terminal(self, *arguments: str, typed: bytes = b"") -> tuple[int, str]:
        """The exit status, and the output on a terminal."""
        parent, child = pty.openpty()
        program = start(
            [sys.executable, "-m", "h2o_client", *arguments],
            stdin=child,
            stdout=child,
            stderr=child,
            cwd=ROOT,
            env={
                **os.environ,
                "H2O_CLIENT_URL": self.server.url,
                "H2O_CLIENT_COOKIE": self.cookie,
                "COLUMNS": "100",
                "TERM": "xterm",
            },
        )
        os.write(parent, typed)
        status = program.wait(PATIENCE)
        os.close(child)
        shown = b""
        try:
            while data := os.read(parent, 10_000):
                shown += data
        except OSError:
            pass  # how Linux signals the end of a terminal
        os.close(parent)
        return status, shown.decode()


@pytest.fixture(params=["0.4", "0.9.4", "0.10.0", "head"])
def stored(request: pytest.FixtureRequest) -> Iterator[Stored]:
    with FakeChatUi(request.param) as server:
        yield Stored(server)


@pytest.fixture
def one() -> Iterator[Stored]:
    with FakeChatUi("0.9.4") as server:
        yield Stored(server)


def test_models_are_names_a_line(stored: Stored, capsys: pytest.CaptureFixture[str]) -> None:
    assert stored.run("models") == 0
    assert capsys.readouterr().out.splitlines() == list(MODELS)


def test_models_as_json(stored: Stored, capsys: pytest.CaptureFixture[str]) -> None:
    assert stored.run("models", "--json") == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(each["type"], each["id"]) for each in found] == [("model", name) for name in MODELS]


def test_models_are_a_table_on_a_terminal(one: Stored) -> None:
    status, shown = one.on_terminal("models")
    assert status == 0
    assert "NAME" in shown
    assert all(name in shown for name in MODELS)


def test_conversations_are_lines(stored: Stored, capsys: pytest.CaptureFixture[str]) -> None:
    assert stored.run("conversations") == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        [stored.second.id, "On seas\ufffd[2J"],
        [stored.first.id, "On [bold]skies[/]"],
    ]


def test_conversations_as_json(one: Stored, capsys: pytest.CaptureFixture[str]) -> None:
    assert one.run("conversations", "--json") == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert found[1] == {"id": one.first.id, "title": "On [bold]skies[/]"}


def test_on_a_terminal_titles_are_neither_markup_nor_escapes(one: Stored) -> None:
    status, shown = one.on_terminal("conversations")
    assert status == 0
    assert "On [bold]skies[/]" in shown
    assert "On seas\ufffd[2J" in shown
    assert "\x1b[2J" not in shown


@pytest.mark.parametrize("words", [["list", "--json"], ["--json", "list"]])
def test_list_is_the_default_command(
    one: Stored, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert one.run("conversations", "--json") == 0
    shown = capsys.readouterr().out
    assert one.run("conversations", *words) == 0
    assert capsys.readouterr().out == shown


def test_a_session_without_conversations_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    with FakeChatUi("0.9.4") as server:
        assert run(["conversations", "--url", server.url]) == 0
    assert capsys.readouterr().out == ""


def test_options_of_the_group_apply_to_its_commands(
    one: Stored, capsys: pytest.CaptureFixture[str]
) -> None:
    said = ["--url", one.server.url, "--cookie", one.cookie]
    assert run(["conversations", *said, "show", one.first.id]) == 0
    assert "Why blue?" in capsys.readouterr().out


def test_a_conversation_is_shown(stored: Stored, capsys: pytest.CaptureFixture[str]) -> None:
    assert stored.run("conversations", "show", stored.first.id) == 0
    assert capsys.readouterr().out == (
        "# On [bold]skies[/]\n\n## User\n\nWhy blue?\n\n## Assistant\n\n*So.*\n"
    )


def test_a_conversation_as_json(stored: Stored, capsys: pytest.CaptureFixture[str]) -> None:
    assert stored.run("conversations", "show", "--json", stored.first.id) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["id"], found["title"]) == (stored.first.id, "On [bold]skies[/]")
    said = [each["content"] for each in found["messages"] if each["role"] != "system"]
    assert said == ["Why blue?", "*So.*"]


def test_a_conversation_is_renamed(stored: Stored) -> None:
    assert stored.run("conversations", "rename", stored.first.id, "Skies") == 0
    assert stored.first.title == "Skies"


def test_a_conversation_is_shared(stored: Stored, capsys: pytest.CaptureFixture[str]) -> None:
    assert stored.run("conversations", "share", stored.first.id) == 0
    assert capsys.readouterr().out.startswith(f"{stored.server.url}/r/")


def test_conversations_are_deleted(stored: Stored) -> None:
    assert stored.run("conversations", "delete", stored.first.id, stored.second.id) == 0
    assert stored.server.conversations == {}


def test_a_missing_conversation_does_not_prevent_other_deletions(
    one: Stored, capsys: pytest.CaptureFixture[str]
) -> None:
    assert one.run("conversations", "delete", "0" * 24, one.second.id) == 3
    assert list(one.server.conversations) == [one.first.id]
    assert capsys.readouterr().err.startswith(f"Error: {'0' * 24}: The server answered 404")


def test_an_invalid_id_does_not_prevent_other_deletions(
    one: Stored, capsys: pytest.CaptureFixture[str]
) -> None:
    assert one.run("conversations", "delete", "no/id", one.first.id, "0" * 24) == 2
    assert list(one.server.conversations) == [one.second.id]
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[:2] for line in lines] == [["Error", "no/id"], ["Error", "0" * 24]]


def test_all_are_deleted_with_confirmation(stored: Stored) -> None:
    assert stored.run("conversations", "delete", "--all", "--yes") == 0
    assert stored.server.conversations == {}


def test_all_are_not_deleted_without_a_terminal(
    one: Stored, capsys: pytest.CaptureFixture[str]
) -> None:
    assert one.run("conversations", "delete", "--all") == 2
    assert len(one.server.conversations) == 2
    assert "--yes" in capsys.readouterr().err


@pytest.mark.parametrize(("typed", "left"), [(b"n\n", 2), (b"\n", 2), (b"y\n", 0)])
def test_on_a_terminal_the_user_is_asked_for_confirmation(
    one: Stored, typed: bytes, left: int
) -> None:
    status, shown = one.on_terminal("conversations", "delete", "--all", typed=typed)
    assert status == 0
    assert f"Delete all 2 conversations at {one.server.url}?" in shown
    assert ("Nothing was deleted." in shown) == (left == 2)
    assert len(one.server.conversations) == left


@pytest.mark.parametrize(
    "arguments",
    [
        ["conversations", "delete"],
        ["conversations", "delete", "--all", "0" * 24],
        ["export"],
        ["export", "--all", "0" * 24],
        ["conversations", "show", "no/id"],
        ["conversations", "rename", "0" * 24, ""],
    ],
)
def test_an_invalid_call_is_status_2(
    one: Stored, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert one.run(*arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "system=" not in shown.err
    assert len(one.server.conversations) == 2


def test_an_export_goes_to_stdout(one: Stored, capsys: pytest.CaptureFixture[str]) -> None:
    assert one.run("export", one.first.id, one.second.id) == 0
    out = capsys.readouterr().out
    assert out.startswith("# On [bold]skies[/]\n\n## User\n\nWhy blue?")
    assert "*So.*\n\n---\n\n# On seas\ufffd[2J\n\n## User" in out
    assert out.endswith("Because.\n")


@pytest.mark.parametrize("form", ["markdown", "json"])
def test_on_a_terminal_an_export_is_sanitized(one: Stored, form: str) -> None:
    words = "\u202eb\u2066\x1b]0;t\x07\rc\r\nd"
    added = one.add("T", ("user", "q\x1b[31m\x9b2J"), ("assistant", words))
    for arguments in ((), ("-o", "/dev/stdout")):
        status, shown = one.on_terminal("export", added.id, "--format", form, *arguments)
        assert status == 0
        assert "q" in shown
        assert not re.search("[\x07\x1b\x9b\u202e\u2066]|\r(?!\n)", shown)
        if form == "json":
            assert json.loads(shown)["messages"][-1]["content"] == words


def test_all_are_exported_as_lines_of_json(
    stored: Stored, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stored.run("export", "--all", "--format", "json") == 0
    shown = capsys.readouterr()
    found = [json.loads(line)["id"] for line in shown.out.splitlines()]
    assert found == [stored.second.id, stored.first.id]
    assert shown.err == ""


def test_a_file_gets_the_format_of_its_name(one: Stored, tmp_path: Path) -> None:
    assert one.run("export", one.first.id, "-o", str(tmp_path / "a.json")) == 0
    assert one.run("export", one.first.id, "-o", str(tmp_path / "a.md")) == 0
    assert json.loads((tmp_path / "a.json").read_text())["id"] == one.first.id
    assert (tmp_path / "a.md").read_text().startswith("# On [bold]skies[/]")


def test_a_folder_gets_a_file_each(one: Stored, tmp_path: Path) -> None:
    assert one.run("export", "--all", "-o", str(tmp_path)) == 0
    assert {path.name for path in tmp_path.iterdir()} == {
        f"{one.first.id}.md",
        f"{one.second.id}.md",
    }


def test_a_file_that_cannot_be_written_is_status_2(
    one: Stored, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "no" / "such" / "a.md"
    assert one.run("export", one.first.id, "-o", str(path)) == 2
    assert f"Cannot write {path}: No such file or directory." in capsys.readouterr().err


def test_an_export_shows_its_progress_on_a_terminal_only(
    one: Stored, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, shown = one.on_terminal("export", "--all", "-o", str(tmp_path / "all.md"))
    assert status == 0
    assert "Exporting" in shown
    assert one.run("export", "--all", "-o", str(tmp_path / "all.md")) == 0
    assert capsys.readouterr().err == ""


def test_a_branch_ends_with_the_last_message() -> None:
    tree = [
        Message("system", "", "s"),
        Message("user", "one", "u1", parent="s"),
        Message("assistant", "first", "a1", parent="u1"),
        Message("assistant", "second", "a2", parent="u1"),
        Message("user", "two", "u2", parent="a2"),
    ]
    assert [message.id for message in branch(tree)] == ["s", "u1", "a2", "u2"]
    assert branch([]) == []
    line = [Message("user", "one", "u1"), Message("assistant", "first", "a1")]
    assert branch(line) == line


def test_a_file_is_written_atomically(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.md"
    write_file(str(path), "before")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600

    def breaks(name: str, target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", breaks)
    with pytest.raises(KeyboardInterrupt):
        write_file(str(path), "after")
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_an_existing_file_becomes_private_and_links_to_it_stay(tmp_path: Path) -> None:
    path, link, dangling = tmp_path / "a.md", tmp_path / "link", tmp_path / "dangling"
    path.write_text("before")
    path.chmod(0o640)
    link.symlink_to("a.md")
    dangling.symlink_to("b.md")
    write_file(str(link), "after")
    write_file(str(dangling), "new")
    assert link.is_symlink()
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("after", 0o600)
    assert dangling.is_symlink()
    assert (tmp_path / "b.md").read_text() == "new"
    assert len(list(tmp_path.iterdir())) == 4


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_file(str(path), "words")
        assert os.read(reader, 100) == b"words"
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(path.stat().st_mode)


def test_earlier_output_to_stdout_stays(one: Stored, tmp_path: Path) -> None:
    path = tmp_path / "all.md"
    path.write_text("before\n")
    with path.open("ab") as file:
        words = ["export", one.first.id, "-o", "/dev/stdout", "--url", one.server.url]
        subprocess.run(
            [sys.executable, "-m", "h2o_client", *words, "--cookie", one.cookie],
            stdin=subprocess.DEVNULL,
            stdout=file,
            check=True,
            cwd=ROOT,
        )
    assert path.read_text().startswith("before\n# On [bold]skies[/]")


def test_a_file_name_of_the_maximum_length(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 250)
    write_file(str(path), "words")
    assert path.read_text() == "words"


def test_a_missing_folder_is_created(
    one: Stored, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert one.run("export", "--all", "-o", f"{tmp_path}/new/one/") == 0
    assert len(list((tmp_path / "new" / "one").iterdir())) == 2
    (tmp_path / "file").write_text("")
    assert one.run("export", "--all", "-o", f"{tmp_path}/file/") == 2
    assert f"Cannot create {tmp_path}/file/: " in capsys.readouterr().err


@pytest.mark.parametrize("to_file", [True, False])
def test_a_deleted_conversation_does_not_prevent_other_exports(
    to_file: bool,
    one: Stored,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    listed = H2oSession.conversations

    def deleting(self: H2oSession) -> list[object]:
        found: list[object] = list(listed(self))
        del one.server.conversations[one.second.id]
        return found

    monkeypatch.setattr(H2oSession, "conversations", deleting)
    where = ["-o", str(tmp_path / "all.md")] if to_file else []
    assert one.run("export", "--all", *where) == 0
    shown = capsys.readouterr()
    assert shown.err == f"Not exported, because the server no longer has them: {one.second.id}.\n"
    text = (tmp_path / "all.md").read_text() if to_file else shown.out
    assert text.startswith("# On [bold]skies[/]")
    assert one.run("export", one.second.id, one.first.id) == 3
    assert capsys.readouterr().out == text
