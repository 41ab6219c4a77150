"""curl, with the lines of the documentation."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest
from behind import MODEL, Behind

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="no curl here")


def curl(*words: str) -> str:
    done = subprocess.run(
        ["curl", "--silent", "--show-error", "--fail-with-body", *words],
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.stdout + done.stderr


def test_models_and_a_completion(behind: Behind) -> None:
    assert json.loads(curl(f"{behind.url}/models"))["data"][0]["id"] == MODEL
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}]}
    sent = ("--json", json.dumps(body))
    document = json.loads(curl(f"{behind.url}/chat/completions", *sent))
    assert document["choices"][0]["message"]["content"] == "I heard Hello"
    streamed = curl(
        "--no-buffer",
        f"{behind.url}/chat/completions",
        "--json",
        json.dumps({**body, "stream": True}),
    )
    assert streamed.endswith("data: [DONE]\n\n")


def test_a_form_is_refused(behind: Behind) -> None:
    assert "unsupported_media_type" in curl(f"{behind.url}/chat/completions", "--data", "{}")
