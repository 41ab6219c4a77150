"""simonw/llm: the command with a model in extra-openai-models.yaml, and its conversations."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from behind import MODEL, Behind


@pytest.fixture
def home(tmp_path: Path, behind: Behind) -> Path:
    entry = f"- model_id: gateway\n  model_name: {MODEL}\n  api_base: {behind.url}\n"
    (tmp_path / "extra-openai-models.yaml").write_text(entry)
    return tmp_path


def llm(home: Path, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "llm", *words],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "LLM_USER_PATH": str(home)},
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_prompt_and_a_continuation(home: Path, behind: Behind) -> None:
    assert llm(home, "-m", "gateway", "one") == "I heard one"
    assert llm(home, "-c", "two") == "I heard two"
    assert behind.turns[1] == (("user", "one"), ("assistant", "I heard one"), ("user", "two"))
    assert "three" in llm(home, "-m", "gateway", "-s", "Be brief", "three")
    assert "Be brief" in str(behind.turns[2])
