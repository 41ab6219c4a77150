"""Batches of 2,000 prompts that are killed ten times, on every version, and on Dask.

`make soak` runs these. A small version is in tests/batch.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from fake_chatui import FakeChatUi
from fake_checks import every_version
from fake_model import Prompt, Says
from fake_store import VERSIONS
from h2o_client import H2oSession
from h2o_client.server import Access, serve
from killed import KilledBatch, stored_and_deleted

FULL = os.environ.get("SOAK") == "full"
COUNT, KILLS, RUNS = 2000, 10, 10

pytestmark = [
    pytest.mark.skipif(not FULL, reason="it takes an hour"),
    pytest.mark.skipif(os.name != "posix", reason="kills are POSIX's"),
    pytest.mark.timeout(3600),
]


def whole(count: int) -> dict[int, str]:
    return {number + 1: f"Answer to Question {number}" for number in range(count)}


@every_version
@pytest.mark.parametrize("is_given", [False, True], ids=["anonymous", "cookie"])
def test_a_batch_killed_ten_times_answers_each_prompt_once(
    version: str, is_given: bool, tmp_path: Path
) -> None:
    chance = random.Random(version)

    def says(asked: Prompt) -> Says:
        time.sleep(chance.uniform(0.0, 0.06))
        return Says.words(f"Answer to {asked.last}")

    with FakeChatUi(version, answer=says) as server:
        deleted = stored_and_deleted(server)
        options = ("--cookie", server.browser()) if is_given else ()
        batch = KilledBatch(tmp_path, server.url, COUNT, *options)
        batch.kill_at_random(KILLS, lambda: len(server.prompts), seed=len(version) + is_given)
        assert batch.finish() == 0, batch.errors
        assert batch.texts() == whole(COUNT)
        assert not server.conversations
        assert not server.violations
        assert not [text for text, count in deleted.items() if count > 1]
        if VERSIONS[version].is_latest:
            assert set(Counter(each.last for each in server.prompts).values()) == {1}


@pytest.mark.parametrize("chat_ui", ["0.4", "0.9.6", "latest"])
def test_a_batch_on_the_bundled_server_killed_ten_times_does_too(
    chat_ui: str, tmp_path: Path
) -> None:
    asked: Counter[str] = Counter()
    lock = threading.Lock()
    accesses: list[Access] = []
    chance = random.Random(chat_ui)

    def engine(prompt: str) -> Iterator[str]:
        with lock:
            asked[prompt] += 1
        for word in ("Answer", " to ", prompt):
            time.sleep(chance.uniform(0.0, 0.03))
            yield word

    with serve(
        engine, chat_ui=chat_ui, quiet=True, on_access=accesses.append, max_generations=16
    ) as server:
        batch = KilledBatch(tmp_path, server.url, COUNT)
        batch.kill_at_random(KILLS, lambda: sum(asked.values()), seed=3)
        assert batch.finish() == 0, batch.errors
        assert batch.texts() == whole(COUNT)
        good = [(each.method, each.path) for each in accesses if each.status == 200]
        made = good.count(("POST", "/conversation"))
        assert sum(method == "DELETE" for method, _ in good) == made
    if chat_ui == "latest":
        assert set(asked.values()) == {1}


@pytest.mark.filterwarnings("ignore")  # created by Dask
@pytest.mark.parametrize("seed", range(RUNS))
def test_a_killed_dask_worker_loses_no_answer(seed: int) -> None:
    distributed = pytest.importorskip("distributed")
    chance = random.Random(seed)

    def says(asked: Prompt) -> Says:
        time.sleep(chance.uniform(0.0, 0.1))
        return Says.words(f"To {asked.last}")

    count = 200
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as dask,
        FakeChatUi("head", answer=says) as server,
        H2oSession(server.url) as session,
    ):
        with session.batch([f"p{number}" for number in range(count)], dask=dask) as batch:
            goal = chance.randint(0, count - 10)
            server.wait_for(lambda fake: len(fake.prompts) >= goal)
            os.kill(chance.choice(list(dask.run(os.getpid).values())), signal.SIGKILL)
            answers = {each.index: each.answer for each in batch}
        assert all(answers[number].text == f"To p{number}" for number in range(count))  # type: ignore[union-attr]
        assert set(Counter(each.last for each in server.prompts).values()) == {1}
        assert not server.conversations
