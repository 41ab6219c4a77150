"""A batch that is killed and run again: one line per prompt, nothing left, no wasted prompts.

The same at length is in tests/soak.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path

import pytest

from fake_chatui import FakeChatUi
from fake_model import Prompt, Says
from fake_store import VERSIONS
from killed import KilledBatch, stored_and_deleted

COUNT, KILLS = 24, 2

pytestmark = pytest.mark.skipif(os.name != "posix", reason="kills are POSIX's")


def says(asked: Prompt) -> Says:
    time.sleep(0.02)  # a model needs some time
    return Says.words(f"Answer to {asked.last}")


@pytest.mark.parametrize("version", ["head", "0.4", "0.9.6"])
def test_a_batch_that_is_killed_answers_each_prompt_once(version: str, tmp_path: Path) -> None:
    with FakeChatUi(version, answer=says) as server:
        whole = stored_and_deleted(server)
        batch = KilledBatch(tmp_path, server.url, COUNT, "--concurrency", "4")
        batch.kill_at_random(KILLS, lambda: len(server.prompts), seed=len(version))
        assert batch.finish() == 0, batch.errors
        assert batch.texts() == {
            number + 1: f"Answer to Question {number}" for number in range(COUNT)
        }
        assert not server.conversations
        assert not server.violations
        assert not [text for text, count in whole.items() if count > 1]
        if VERSIONS[version].is_latest:
            assert set(Counter(each.last for each in server.prompts).values()) == {1}
