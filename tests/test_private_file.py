from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from h2o_client import H2oSession
from h2o_client.cli.app_folder import _say_once, app_folder, history_file, try_lock
from h2o_client.cli.input import _history
from h2o_client.errors import ConfigurationError
from h2o_client.private_file import Unsafe, safe_target, write_private
from h2o_client.server import serve

pytestmark = pytest.mark.skipif(os.name != "posix", reason="modes and owners are POSIX's")
NOBODY = 65534
needs_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give files away"
)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def open_folder(tmp_path: Path) -> Path:
    """A folder that every user can write to."""
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    return folder


@pytest.mark.parametrize("before", [None, 0o666, 0o644, 0o600, 0o400])
def test_a_new_file_is_readable_by_its_user_only(tmp_path: Path, before: int | None) -> None:
    path = tmp_path / "file"
    if before is not None:
        path.write_text("old")
        path.chmod(before)
    reader = path.open() if before is not None else None
    write_private(path, b"new")
    assert (path.read_bytes(), mode(path)) == (b"new", 0o600)
    assert list(tmp_path.iterdir()) == [path]
    if reader is not None:
        assert reader.read() == "old"  # a process that opened it earlier cannot read the new text
        reader.close()


@needs_root
def test_a_file_that_another_user_made_is_replaced(open_folder: Path) -> None:
    path = open_folder / "chat.md"
    path.write_text("")
    path.chmod(0o666)
    os.chown(path, NOBODY, NOBODY)
    write_private(path, b"chat")
    assert (path.stat().st_uid, mode(path)) == (0, 0o600)


def test_writing_replaces_a_hard_link(tmp_path: Path) -> None:
    path, other = tmp_path / "file", tmp_path / "other"
    other.write_text("old")
    os.link(other, path)
    write_private(path, b"new")
    assert (path.read_text(), other.read_text()) == ("new", "old")


@pytest.mark.parametrize("folder_mode", [0o777, 0o1777, 0o757])
@pytest.mark.parametrize("where", ["chat.md", "link/chat.md", "own/chat.md", "../open/chat.md"])
def test_a_link_in_a_folder_writable_by_others_is_not_followed(
    tmp_path: Path, open_folder: Path, folder_mode: int, where: str
) -> None:
    open_folder.chmod(folder_mode)
    target = tmp_path / "target"
    target.mkdir()
    (target / "chat.md").write_text("precious")
    (open_folder / "link").symlink_to(target)
    (open_folder / "chat.md").symlink_to(target / "chat.md")
    own = tmp_path / "own"  # the user's own link to another user's link
    own.symlink_to(open_folder / "link")
    path = tmp_path / where if where.startswith("own") else open_folder / where
    with pytest.raises(Unsafe, match="link in a folder that others can write to"):
        write_private(path, b"chat")
    assert (target / "chat.md").read_text() == "precious"
    assert not [each for each in open_folder.iterdir() if not each.is_symlink()]


def test_another_users_link_in_a_group_writable_folder_is_not_followed(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "group"
    folder.mkdir()
    folder.chmod(0o775)
    link = folder / "chat.md"
    link.symlink_to(tmp_path / "target")
    write_private(link, b"one")
    assert (tmp_path / "target").read_bytes() == b"one"
    if os.geteuid() == 0:
        os.lchown(link, NOBODY, NOBODY)
        with pytest.raises(Unsafe):
            write_private(link, b"two")


def test_the_users_own_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "up").symlink_to("a/b")
    (tmp_path / "a" / "b" / "link").symlink_to("../../file")
    assert safe_target(tmp_path / "up" / "link") == (tmp_path / "file").resolve()
    assert safe_target(tmp_path / "up" / ".." / "x") == (tmp_path / "a" / "x").resolve()
    write_private(tmp_path / "up" / "link", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"
    assert (tmp_path / "a" / "b" / "link").is_symlink()


def test_circular_links_are_an_os_error(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="links"):
        write_private(tmp_path / "a", b"new")


def test_relative_names_are_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_private("file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"


@needs_root
def test_a_pipe_of_another_user_is_not_written_into(open_folder: Path) -> None:
    path = open_folder / "chat.md"
    os.mkfifo(path)
    os.chown(path, NOBODY, NOBODY)
    with pytest.raises(Unsafe, match="another user"):
        write_private(path, b"chat")


def test_a_device_is_written_to_directly_and_a_bad_name_below_dev_is_an_error() -> None:
    write_private("/dev/null", b"chat")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    with pytest.raises(OSError, match=r".+"):
        write_private("/dev/fd/nonsense", b"chat")


def test_a_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def fails(name: str, target: Path) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(OSError, match="disk is full"):
        write_private(path, b"new")
    assert [each.read_text() for each in tmp_path.iterdir()] == ["old"]


# Cookies


def test_cookies_are_not_saved_through_a_link_of_another_user(
    tmp_path: Path, open_folder: Path
) -> None:
    target = tmp_path / "precious"
    target.write_text("precious")
    link = open_folder / "cookies"
    link.symlink_to(target)
    with serve("Hello", chat_ui="latest") as server, H2oSession(server.url) as client:
        client.chat("Hi")
        with pytest.raises(ConfigurationError, match="link in a folder that others can write to"):
            client.save_cookies(link)
        assert target.read_text() == "precious"
        link.unlink()
        link.write_text("")
        link.chmod(0o666)
        client.save_cookies(link)
    assert "hf-chat" in link.read_text()
    assert mode(link) == 0o600
    assert list(open_folder.iterdir()) == [link]


# The command's folder


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    _say_once.cache_clear()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path / "h2o-chat"


@pytest.mark.parametrize("folder_mode", [0o777, 0o775, 0o702, 0o1777])
def test_the_command_refuses_a_folder_writable_by_others_with_one_warning(
    own: Path, folder_mode: int, capsys: pytest.CaptureFixture[str]
) -> None:
    own.mkdir()
    own.chmod(folder_mode)
    for _ in range(2):
        with pytest.raises(Unsafe, match="Other users can write"):
            app_folder()
    err = capsys.readouterr().err
    assert err == (
        f"Other users can write to the folder {own}. Run: chmod 700 {own}; until then nothing is "
        "saved there.\n"
    )


@needs_root
def test_the_command_refuses_a_folder_of_another_user(own: Path) -> None:
    own.mkdir(mode=0o700)
    os.chown(own, NOBODY, NOBODY)
    with pytest.raises(Unsafe):
        app_folder()


def test_a_history_that_is_a_link_is_refused_with_one_sentence(
    own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "target"
    own.mkdir(mode=0o700)
    (own / "history").symlink_to(target)
    history = _history()
    history.append_string("a secret")
    assert "history is a link, or not a file. Remove it" in capsys.readouterr().err
    assert not target.exists()


def test_a_history_that_is_a_pipe_is_refused_without_blocking(own: Path) -> None:
    own.mkdir(mode=0o700)
    os.mkfifo(own / "history")
    with pytest.raises(Unsafe):
        history_file()


def test_the_folder_is_that_of_version_0_1(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    former = tmp_path / "former"
    monkeypatch.setattr("click.get_app_dir", lambda name: str(former))
    former.mkdir(mode=0o700)
    assert app_folder() == former
    former.rmdir()
    assert app_folder() == own


def test_a_folder_of_that_name_in_the_working_folder_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", "")
    (tmp_path / "h2o-chat").mkdir(mode=0o700)
    assert app_folder() == tmp_path / "home" / ".config" / "h2o-chat"


def test_a_lock_is_held_until_it_is_released(own: Path) -> None:
    own.mkdir(mode=0o700)
    path = own / "answer-1.json"
    held = try_lock(path)
    assert held is not None
    assert mode(own / "answer-1.lock") == 0o600
    assert try_lock(path) is None
    held.release()
    assert try_lock(path) is not None
