"""The command's own folder, with files that only their user can read."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

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


def write_private(name: str, text: str) -> None:
    """Writes such a file whole or not at all. Raises OSError."""
    folder = own_folder()
    handle, written = tempfile.mkstemp(dir=folder, prefix=f".{name}.")
    try:
        with open(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(written).replace(folder / name)
    except BaseException:
        Path(written).unlink()
        raise
