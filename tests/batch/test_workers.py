"""Prompts sent by workers: threads, processes, and Dask workers that are killed."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fake_chatui import FakeChatUi
from fake_checks import every_era
from fake_model import Prompt, Says
from h2o_client import ConfigurationError, H2oSession
from h2o_client.batch.attempts import WorkerError
from h2o_client.batch.workers import WorkerResult, WorkerTask, run_task

if TYPE_CHECKING:
    from distributed import Client

COUNT = 12


def says(asked: Prompt) -> Says:
    time.sleep(0.01)
    return Says.words(f"To {asked.last}")


def texts(batch: Any) -> list[str]:
    return [each.answer.text if each.answer else str(each.error) for each in batch]


@pytest.fixture(scope="module")
def processes() -> Iterator[Executor]:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=context) as executor:
        yield executor


@every_era
@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_an_executor_sends_the_prompts(version: str, kind: str, processes: Executor) -> None:
    with FakeChatUi(version, answer=says) as server, H2oSession(server.url) as session:
        with ThreadPoolExecutor(4) as threads:
            executor = threads if kind == "threads" else processes
            prompts = [f"p{number}" for number in range(COUNT)]
            with session.batch(prompts, executor=executor, ordered=True) as batch:
                assert texts(batch) == [f"To p{number}" for number in range(COUNT)]
        assert len(server.prompts) == COUNT
        assert not server.conversations
        assert not server.violations


@every_era
def test_a_system_prompt_reaches_the_model_of_a_worker(version: str) -> None:
    with (
        FakeChatUi(version, answer=says) as server,
        H2oSession(server.url) as session,
        ThreadPoolExecutor(1) as executor,
    ):
        assert len(list(session.batch(["Hi"], system="Be brief", executor=executor))) == 1
        [asked] = server.prompts
        assert "Be brief" in " ".join(text for _, text in asked.turns)
        assert len(asked.turns) == (1 if server.version.number < (0, 7) else 2)


class Broken(ThreadPoolExecutor):
    def submit(self, *_: Any, **__: Any) -> Any:
        from concurrent.futures.process import BrokenProcessPool

        raise BrokenProcessPool("a process died")


def test_a_broken_executor_ends_the_batch_and_the_next_run_continues(tmp_path: Path) -> None:
    with FakeChatUi("head", answer=says) as server, H2oSession(server.url) as session:
        with Broken(1) as executor, pytest.raises(WorkerError, match="broken"):
            list(session.batch(["a", "b"], executor=executor, journal=tmp_path / "j"))
        found = session.batch(["a", "b"], journal=tmp_path / "j", ordered=True)
        assert texts(found) == ["To a", "To b"]
        assert len(server.prompts) == 2
        assert not server.conversations


def test_a_task_whose_prompt_was_sent_is_not_repeated() -> None:
    """Run a task twice, like Dask after the death of a worker."""
    import pickle

    from h2o_client.batch.prompts import Payload

    with FakeChatUi("head", answer=says) as server, H2oSession(server.url) as session:
        conversation = session.conversation(keep=True)
        conversation_id = conversation.create()
        payload = Payload(messages=(("user", "Hi"),))
        task = WorkerTask(pickle.dumps(session), conversation_id, payload, sends_system=False)
        first, second = run_task(task), run_task(task)
        assert isinstance(first, WorkerResult)
        assert first.answer.text == "To Hi"
        assert second.answer is None
        assert "A worker that was lost" in str(second.error)
        assert len(server.prompts) == 1
        conversation.delete()


def test_executor_and_dask_exclude_each_other() -> None:
    with H2oSession("http://127.0.0.1:1") as session, ThreadPoolExecutor(1) as executor:
        with pytest.raises(ConfigurationError, match="Only one of executor and dask"):
            session.batch(["a"], executor=executor, dask="local")
        with pytest.raises(ConfigurationError, match="Executor"):
            session.batch(["a"], executor=object())  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def dask() -> Iterator[Client]:
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        yield client


@pytest.mark.filterwarnings("ignore")  # created by Dask
@pytest.mark.parametrize("version", ["head", "0.4"])
def test_dask_sends_the_prompts_on_both_workers(version: str, dask: Client) -> None:
    with FakeChatUi(version, answer=says) as server, H2oSession(server.url) as session:
        with session.batch([f"p{number}" for number in range(COUNT)], dask=dask) as batch:
            assert len(list(batch)) == COUNT
        assert set(Counter(each.last for each in server.prompts).values()) == {1}
        assert len({each.conversation for each in server.prompts}) == COUNT
        assert not server.conversations


@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(os.name != "posix", reason="kills are POSIX's")
def test_a_killed_dask_worker_loses_no_answer(dask: Client) -> None:
    def slow(asked: Prompt) -> Says:
        time.sleep(0.05)
        return says(asked)

    count = 60
    with FakeChatUi("head", answer=slow) as server, H2oSession(server.url) as session:
        with session.batch([f"p{number}" for number in range(count)], dask=dask) as batch:
            server.wait_for(lambda fake: len(fake.prompts) > 10)
            victim = min(dask.run(os.getpid).values())
            os.kill(victim, signal.SIGKILL)
            assert sorted(texts(batch)) == sorted(f"To p{number}" for number in range(count))
        assert set(Counter(each.last for each in server.prompts).values()) == {1}
        assert not server.conversations


def test_an_object_that_is_not_a_dask_cluster_is_refused() -> None:
    pytest.importorskip("distributed")
    with (
        H2oSession("http://127.0.0.1:1") as session,
        pytest.raises(ConfigurationError, match="dask must be an address, 'local' or a Client"),
    ):
        session.batch(["a"], dask=5)  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore")
def test_dask_without_a_worker_ends_the_batch(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    with (
        FakeChatUi("head", answer=says) as server,
        H2oSession(server.url) as session,
        distributed.LocalCluster(n_workers=0, processes=False, dashboard_address=None) as cluster,
        distributed.Client(cluster, set_as_default=False) as empty,
    ):
        with pytest.raises(WorkerError, match="Dask had no worker for"):
            list(session.batch(["a"], dask=empty, journal=tmp_path / "j", give_up_after=0.0))
        assert texts(session.batch(["a"], journal=tmp_path / "j")) == ["To a"]
        assert len(server.prompts) == 1
        assert not server.conversations


@pytest.mark.filterwarnings("ignore")
def test_dask_whose_client_is_closed_ends_the_batch() -> None:
    distributed = pytest.importorskip("distributed")
    with (
        FakeChatUi("head", answer=[Says(("To ",), holds=True, rest=("a",))]) as server,
        H2oSession(server.url) as session,
        distributed.LocalCluster(n_workers=1, processes=False, dashboard_address=None) as cluster,
    ):
        client = distributed.Client(cluster, set_as_default=False)
        with session.batch(["a", "b"], dask=client, concurrency=1) as batch:
            server.wait_for(lambda fake: len(fake.prompts) == 1)
            client.close()
            server.released.set()
            with pytest.raises(WorkerError, match="Dask"):
                list(batch)


def test_an_address_without_a_scheduler_is_reported() -> None:
    pytest.importorskip("distributed")
    refused = pytest.raises(
        ConfigurationError, match="Cannot connect to a Dask scheduler at nonsense://"
    )
    with H2oSession("http://127.0.0.1:1") as session, refused:
        session.batch(["a"], dask="nonsense://1")
