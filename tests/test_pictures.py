"""The pictures in docs/ match the current output of the command and a notebook."""

from __future__ import annotations

import html
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
STALE = "the pictures are stale: run python docs/pictures.py"


def words(drawn: str) -> list[str]:
    """The text of a picture."""
    drawn = re.sub(r"<style>.*?</style>", "", drawn, flags=re.DOTALL)
    return html.unescape(re.sub(r"<[^>]*>", " ", drawn)).split()


def test_the_picture_of_a_cell_shows_the_output_of_a_notebook() -> None:
    code = """
import pictures
from h2o_client.server import serve
with serve(pictures.ANSWER, model="acme/large") as server:
    print(pictures.notebook(server.url), end="")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT / "docs"
    )
    drawn = (ROOT / "docs" / "notebook.svg").read_text(encoding="utf-8")
    assert words(done.stdout) == words(drawn), STALE


def test_the_picture_of_a_terminal_shows_a_chat() -> None:
    drawn = " ".join(words((ROOT / "docs" / "terminal.svg").read_text(encoding="utf-8")))
    assert "$ h2o-chat --url http://localhost:3000" in drawn
    assert "There are two ways : way what happens" in drawn
    assert "You are welcome." in drawn
