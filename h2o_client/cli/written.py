"""A document on its way into a file: whole or not at all, and nobody else's to read."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import click

from h2o_client.cli.output import shown

_PRIVATE = 0o600
_NOT_TO_BE_REPLACED = ("/dev/", "/proc/")  # names of what is open, as /dev/stdout


def write_file(path: str, text: str) -> None:
    """Writes the file. Raises a click error if that cannot be.

    One that is there keeps its mode, and where a link leads it stays. What is no file, as a pipe,
    is written into.
    """
    try:
        target = Path(path).expanduser()
        mode = _mode_of(target)
        if str(target).startswith(_NOT_TO_BE_REPLACED) or not stat.S_ISREG(mode):
            with open(target, "a", encoding="utf-8", errors="replace", newline="") as file:
                file.write(shown(text, file))
        else:
            _replace(Path(os.path.realpath(target)), text, stat.S_IMODE(mode))
    except (OSError, ValueError, RuntimeError) as exc:
        reason = getattr(exc, "strerror", None) or str(exc).rstrip(".")
        raise click.ClickException(f"{path} cannot be written: {reason}.") from exc


def make_folder(path: str) -> None:
    """Makes a folder, unless it is there. Raises a click error if that cannot be."""
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as exc:
        reason = getattr(exc, "strerror", None) or str(exc)
        raise click.ClickException(f"{path} cannot be made: {reason}.") from exc


def _mode_of(target: Path) -> int:
    try:
        return target.stat().st_mode
    except FileNotFoundError:
        return stat.S_IFREG | _PRIVATE


def _replace(target: Path, text: str, mode: int) -> None:
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:100]}.")
    try:
        with open(handle, "w", encoding="utf-8", errors="replace", newline="") as file:
            file.write(text)
        Path(name).chmod(mode)
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink()
        raise
