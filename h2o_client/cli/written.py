"""A document on its way into a file: whole or not at all, and nobody else's to read."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

import click

from h2o_client.cli.output import harmless
from h2o_client.private_file import write_private


def write_file(path: str, text: str) -> None:
    """Writes the file, for its user only. Raises a click error if that cannot be.

    What is not a regular file, as a pipe, is written into.
    """
    try:
        target = Path(path).expanduser()
        write_private(target, _shown(text, target).encode("utf-8", "replace"))
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


def _shown(text: str, target: Path) -> str:
    with suppress(OSError):
        if stat.S_ISCHR(os.stat(target).st_mode):  # it may be a terminal
            return harmless(text)
    return text
