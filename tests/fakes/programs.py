"""Programs that tests start: each ends with its test, also with one that fails."""

from __future__ import annotations

import subprocess
from typing import Any

_started: list[subprocess.Popen[Any]] = []


def start(words: list[Any], **options: Any) -> subprocess.Popen[Any]:
    """As `subprocess.Popen`."""
    program: subprocess.Popen[Any] = subprocess.Popen(words, **options)
    _started.append(program)
    return program


def end_all() -> None:
    """What is left of them would be a warning in whatever test comes later."""
    while _started:
        with _started.pop() as program:
            program.kill()
