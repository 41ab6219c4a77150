"""Programs started by tests. Each ends with its test, even if the test fails."""

from __future__ import annotations

import subprocess
from typing import Any

_started: list[subprocess.Popen[Any]] = []


def start(words: list[Any], **options: Any) -> subprocess.Popen[Any]:
    """Start a program, with the arguments of `subprocess.Popen`."""
    program: subprocess.Popen[Any] = subprocess.Popen(words, **options)
    _started.append(program)
    return program


def end_all() -> None:
    """Close their pipes, which would otherwise cause a warning in a later test."""
    while _started:
        with _started.pop() as program:
            program.kill()
