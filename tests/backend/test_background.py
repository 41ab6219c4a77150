"""Background work ends even if its caller is interrupted."""

from __future__ import annotations

import _thread
import os
import signal
import threading
from concurrent.futures import Future

import pytest

from h2o_client.backend import background
from h2o_client.backend.background import (
    run_detached,
    run_postponed,
    run_shielded,
    wait_until_empty,
)
from local_service import PATIENCE


def test_the_caller_gets_the_result_or_the_error_of_the_work() -> None:
    assert run_shielded(lambda: threading.current_thread() is not threading.main_thread())
    with pytest.raises(ZeroDivisionError):
        run_shielded(lambda: 1 / 0)


def test_the_work_completes_if_its_caller_is_interrupted() -> None:
    working, go_on, completed = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        working.set()
        assert go_on.wait(PATIENCE)
        completed.set()

    def interrupt() -> None:
        assert working.wait(PATIENCE)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        run_shielded(work)
    go_on.set()
    assert completed.wait(PATIENCE)
    thread.join()
    wait_until_empty(background._pending)


def test_the_caller_gets_a_timeout_error_of_the_work() -> None:
    def work() -> None:
        raise TimeoutError("the work's own")

    with pytest.raises(TimeoutError, match="the work's own"):
        run_shielded(work)


def test_a_signal_just_before_the_wait_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    go_on = threading.Event()
    wait = Future.result

    def too_late(future: Future[object], timeout: float | None = None) -> object:
        # The signal has arrived, but does not wake the caller.
        waits.append(timeout)
        if len(waits) > 1:
            raise KeyboardInterrupt
        return wait(future, min(0.01, timeout or 0.01))

    waits: list[float | None] = []
    monkeypatch.setattr(Future, "result", too_late)
    with pytest.raises(KeyboardInterrupt):
        run_shielded(lambda: go_on.wait(PATIENCE))
    go_on.set()
    assert waits == [background.INTERRUPTED_WITHIN] * 2
    wait_until_empty(background._pending)


def test_work_is_completed_if_the_caller_is_interrupted_before_the_thread_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    completed = threading.Event()
    start = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        monkeypatch.setattr(threading.Thread, "start", start)
        raise KeyboardInterrupt

    monkeypatch.setattr(background, "_STARTED_WITHIN", 0.01)
    monkeypatch.setattr(threading.Thread, "start", interrupted)
    pending: set[object] = set()
    with pytest.raises(KeyboardInterrupt):
        run_shielded(completed.set, pending=pending)
    assert completed.wait(PATIENCE)
    wait_until_empty(pending)
    assert not pending


def test_detached_work_runs_even_after_another_piece_has_failed() -> None:
    done = threading.Event()
    run_detached(lambda: 1 / 0)
    run_detached(done.set)
    assert done.wait(PATIENCE)
    wait_until_empty(background._pending)
    assert not background._pending


def test_the_wait_for_pending_work_is_bounded() -> None:
    wait_until_empty({object()}, seconds=0.05)


@pytest.fixture
def no_more_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """As during the shutdown of the interpreter."""

    def refuse(*args: object, **kwargs: object) -> int:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", refuse)


def test_work_runs_in_the_calling_thread_if_no_thread_can_be_started(
    no_more_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_shielded(threading.current_thread) is threading.current_thread()
    done = threading.Event()
    run_detached(done.set)
    assert done.wait(PATIENCE)

    def refuse(*args: object) -> int:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(_thread, "start_new_thread", refuse)
    here: list[threading.Thread] = []
    run_detached(lambda: here.append(threading.current_thread()))
    assert here == []  # a finalizer may have started it, anywhere
    assert run_shielded(lambda: list(here)) == [threading.current_thread()]
    run_detached(lambda: here.append(threading.current_thread()))
    run_postponed()
    assert len(here) == 2
