"""The command's own folder, with files that only their user can read."""

from __future__ import annotations

import errno
import functools
import os
from pathlib import Path
from typing import IO

import click

from h2o_client.cli.output import say
from h2o_client.private_file import Unsafe, is_writable_by_others, replacing

_PRIVATE = 0o600


def own_folder() -> Path:
    """The folder, made if it is not there. Raises OSError.

    A folder that others can write to is refused, and stderr says so: they could read what is kept
    there, or replace it.
    """
    folder = Path(click.get_app_dir("h2o-chat"))
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if is_writable_by_others(folder):
        raise _refusal(f"Others can write to the folder {folder}. Run: chmod 700 {folder}")
    return folder


def private_file(name: str) -> Path:
    """A file in it that is there, and that only its user can read. Raises OSError.

    A link, or what is not a file at all, is refused, and stderr says so.
    """
    path = own_folder() / name
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise _refusal(f"{path} is a link, or not a file. Remove it")
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0), _PRIVATE))
    path.chmod(_PRIVATE)
    return path


def _refusal(sentence: str) -> Unsafe:
    _say_once(f"{sentence}; until then nothing is kept there.")
    return Unsafe(errno.EPERM, sentence)


_say_once = functools.cache(say)


def replace_held(path: Path, data: bytes) -> IO[bytes]:
    """Writes such a file whole or not at all; it is held until what is given is closed.

    Raises OSError.
    """
    with replacing(path) as file:
        file.write(data)
        file.flush()
        hold(file)
    return file


def rewrite(file: IO[bytes], data: bytes) -> None:
    """Writes JSON that is as long as what is there, or longer, or has spaces at its end instead.

    In one go, and with no other file: a program that is killed leaves the one or the other text.
    Raises OSError.
    """
    length = file.seek(0, os.SEEK_END)
    file.seek(0)
    file.write(data.ljust(length))
    file.flush()


def open_held(path: Path) -> IO[bytes] | None:
    """A file that no living process holds, and that is held from now on. Raises OSError."""
    file = open(path, "rb")  # noqa: SIM115
    try:
        # It may have been replaced before it could be held.
        if hold(file) and os.path.samestat(os.fstat(file.fileno()), path.stat()):
            return file
    except OSError:
        file.close()
        raise
    file.close()
    return None


def hold(file: IO[bytes]) -> bool:
    """Holds a file for as long as it is open, and this process lives; False if another one does."""
    try:
        import fcntl
    except ImportError:
        return True  # Windows: two programs at once are not told apart
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
