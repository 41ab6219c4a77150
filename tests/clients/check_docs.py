"""The sections on clients in docs/gateway.rst, run unchanged."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest
from behind import MODEL, Behind

PAGE = (Path(__file__).parents[2] / "docs" / "gateway.rst").read_text(encoding="utf-8")
BLOCKS = re.findall(
    r"^([^\n]+)\n~+\n\n\.\. code-block:: py\n\n((?:    .*\n|\n)+)", PAGE, re.MULTILINE
)


@pytest.mark.parametrize(("client", "block"), BLOCKS, ids=[client for client, _ in BLOCKS])
def test_the_lines_of_a_client_work(
    client: str, block: str, behind: Behind, capsys: pytest.CaptureFixture[str]
) -> None:
    snippet = textwrap.dedent(block).replace("http://localhost:8000/v1", behind.url)
    exec(compile(snippet, client, "exec"), {"MODEL": MODEL, "__name__": "__main__"})
    assert "Hello" in capsys.readouterr().out


def test_all_sections_are_run() -> None:
    assert len(BLOCKS) == 6
