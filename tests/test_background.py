"""Work that comes to its end even when its caller is interrupted."""

from __future__ import annotations

import _thread
import os
import signal
import threading

import pytest

from h2o_client.backend import background
from h2o_client.backend.background import completed, do_postponed, later, wait_until_empty
from local_service import PATIENCE


def test_the_result_and_the_error_of_the_work_are_the_callers() -> None:
    assert completed(lambda: threading.current_thread() is not threading.main_thread())
    with pytest.raises(ZeroDivisionError):
        completed(lambda: 1 / 0)


def test_an_interrupted_caller_has_the_work_finished_and_undone() -> None:
    working, go_on, undone = threading.Event(), threading.Event(), threading.Event()

    def work() -> str:
        working.set()
        assert go_on.wait(PATIENCE)
        return "made"

    def undo(result: str) -> None:
        assert result == "made"
        undone.set()

    def interrupt() -> None:
        assert working.wait(PATIENCE)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        completed(work, undo=undo)
    go_on.set()
    assert undone.wait(PATIENCE)
    thread.join()
    wait_until_empty(background._pending)


def test_work_that_failed_is_not_undone() -> None:
    undone: list[object] = []
    with pytest.raises(ZeroDivisionError):
        completed(lambda: 1 / 0, undo=undone.append)
    wait_until_empty(background._pending)
    assert undone == []


def test_later_work_is_done_and_its_failures_are_nobodys() -> None:
    done = threading.Event()
    later(lambda: 1 / 0)
    later(done.set)
    assert done.wait(PATIENCE)
    wait_until_empty(background._pending)
    assert not background._pending


def test_the_wait_for_later_work_is_bounded() -> None:
    wait_until_empty({object()}, seconds=0.05)


@pytest.fixture
def no_more_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when the interpreter is going down."""

    def refuse(*args: object, **kwargs: object) -> int:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", refuse)


def test_work_is_done_in_place_when_there_are_no_more_threads(
    no_more_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert completed(threading.current_thread) is threading.current_thread()
    done = threading.Event()
    later(done.set)
    assert done.wait(PATIENCE)

    def refuse(*args: object) -> int:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(_thread, "start_new_thread", refuse)
    here: list[threading.Thread] = []
    later(lambda: here.append(threading.current_thread()))
    assert here == []  # a finalizer may have asked for it, anywhere
    assert completed(lambda: list(here)) == [threading.current_thread()]
    later(lambda: here.append(threading.current_thread()))
    do_postponed()
    assert len(here) == 2
