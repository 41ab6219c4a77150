"""The command's folder: its path, its private files, and their locks."""

from __future__ import annotations

import errno
import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from h2o_client.cli.terminal import say
from h2o_client.private_file import Unsafe, is_writable_by_others

if TYPE_CHECKING:
    from filelock import BaseFileLock

_NAME = "h2o-chat"
_PRIVATE = 0o600


def app_folder() -> Path:
    """Return the folder; create it if it does not exist. Raises OSError.

    Refuses a folder that other users can write to, because they could read or replace its files,
    and says so on stderr.
    """
    folder = _path()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if is_writable_by_others(folder):
        raise _refusal(f"Other users can write to the folder {folder}. Run: chmod 700 {folder}")
    return folder


def history_file() -> Path:
    """Return the history file of chats; create it if it does not exist. Raises OSError.

    Refuses a link and anything else that is not a regular file, and says so on stderr.
    """
    path = app_folder() / "history"
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise _refusal(f"{path} is a link, or not a file. Remove it")
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0), _PRIVATE))
    path.chmod(_PRIVATE)
    return path


def lock_file(path: Path) -> Path:
    """The lock file for ``path``. That file itself cannot be locked, because writes replace it."""
    return path.with_suffix(".lock")


def try_lock(path: Path) -> BaseFileLock | None:
    """Lock a file without waiting; None if another process has the lock. Raises OSError."""
    from filelock import FileLock, Timeout

    # Not thread-local, because another thread may release the lock.
    lock = FileLock(lock_file(path), timeout=0, mode=_PRIVATE, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        return None
    except NotImplementedError as exc:  # a file system without locks, in older versions
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK)) from exc
    return lock


def _path() -> Path:
    from platformdirs import user_config_dir

    path = Path(user_config_dir(_NAME, appauthor=False, roaming=True))
    # Version 0.1 used click's folder, which differs on macOS if XDG_CONFIG_HOME is set.
    former = Path(click.get_app_dir(_NAME))
    return former if former.is_absolute() and former.is_dir() and not path.exists() else path


def _refusal(sentence: str) -> Unsafe:
    _say_once(f"{sentence}; until then nothing is saved there.")
    return Unsafe(errno.EPERM, sentence)


_say_once = functools.cache(say)
