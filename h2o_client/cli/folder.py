"""The command's own folder, with files that only their user can read."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import IO

import click

_PRIVATE = 0o600


def own_folder() -> Path:
    """The folder, made if it is not there. Raises OSError."""
    folder = Path(click.get_app_dir("h2o-chat"))
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def private_file(name: str) -> Path:
    """A file in it that is there, and that only its user can read. Raises OSError."""
    path = own_folder() / name
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, _PRIVATE))
    path.chmod(_PRIVATE)
    return path


def replace_held(path: Path, data: bytes) -> IO[bytes]:
    """Writes such a file whole or not at all; it is held until what is given is closed.

    Raises OSError.
    """
    handle, written = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    file = open(handle, "wb")  # noqa: SIM115
    try:
        file.write(data)
        file.flush()
        hold(file)
        Path(written).replace(path)
    except BaseException:
        file.close()
        Path(written).unlink()
        raise
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
