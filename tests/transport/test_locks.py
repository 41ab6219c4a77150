"""Locks that an interrupt leaves locked do not block other threads."""

from __future__ import annotations

import gc
import threading

import pytest

from h2o_client.timeouts import Expired, Timeouts
from h2o_client.transport.call import Call, Woken
from h2o_client.transport.locks import CallLock, Flag, Guard, ReaderLock, Slots
from local_service import PATIENCE


def in_thread(work: object) -> None:
    thread = threading.Thread(target=work)  # type: ignore[arg-type]
    thread.start()
    thread.join(10)
    assert not thread.is_alive()


def test_a_guard_that_was_never_released_is_entered_and_works_again() -> None:
    guard = Guard()
    guard.__enter__()
    entered = []

    def enter() -> None:
        with guard:
            entered.append(1)

    in_thread(enter)
    in_thread(enter)
    assert entered == [1, 1]


def test_a_guard_admits_one_thread_at_a_time() -> None:
    guard, inside, most = Guard(), [], []

    def enter() -> None:
        for _ in range(200):
            with guard:
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=enter) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert max(most) == 1


def test_a_reader_continues_if_its_lock_was_not_released() -> None:
    lock = ReaderLock()
    lock.__enter__()
    assert not lock.acquire_if_free()
    with lock:
        in_thread(lambda: not lock.acquire_if_free() or pytest.fail("two read"))
    assert lock.acquire_if_free()


def test_a_call_lock_is_held_by_one_call() -> None:
    lock, call, other = CallLock(), Call(Timeouts()), Call(Timeouts(idle=0.05))
    tried = []

    def try_it() -> None:
        lock.hold_if_free(other, lambda: tried.append("free"))
        with pytest.raises(Expired):
            lock.hold(other, lambda: tried.append("held"))

    def held() -> str:
        in_thread(try_it)
        return lock.hold(call, lambda: "nested")  # the same call nests

    assert lock.hold(call, held) == "nested"
    assert not tried
    in_thread(lambda: lock.hold_if_free(other, lambda: tried.append("free")))
    assert tried == ["free"]


def test_a_call_that_waits_for_another_can_be_woken() -> None:
    lock, call, other = CallLock(), Call(Timeouts()), Call(Timeouts())

    def try_it() -> None:
        other.wake()
        with pytest.raises(Woken):
            lock.hold(other, lambda: None)

    lock.hold(call, lambda: in_thread(try_it))


def interrupted(lock: CallLock, call: Call) -> None:
    """The state after an interrupt between the work and its end."""
    assert lock._is_taken(call)


def test_the_lock_of_an_interrupted_call_is_freed_by_garbage_collection() -> None:
    lock, call = CallLock(), Call(Timeouts())
    interrupted(lock, call)
    del call
    gc.collect()
    in_thread(lambda: lock.hold(Call(Timeouts(idle=5)), lambda: None))


def test_the_interrupted_thread_can_acquire_the_lock_again() -> None:
    lock, call = CallLock(), Call(Timeouts())
    interrupted(lock, call)
    assert lock.hold(Call(Timeouts(idle=5)), lambda: "done") == "done"


def test_the_slot_of_a_garbage_collected_call_is_free() -> None:
    slots, call = Slots(1), Call(Timeouts())
    slots.take(call)
    with pytest.raises(Expired):
        slots.take(Call(Timeouts(first_token=0.05)))
    del call
    gc.collect()
    slots.take(Call(Timeouts(first_token=5)))


def test_a_set_flag_releases_all_threads() -> None:
    flag, through = Flag(), []
    threads = [threading.Thread(target=lambda: through.append(flag.wait(PATIENCE))) for _ in "abc"]
    for thread in threads:
        thread.start()
    assert not flag.is_set()
    assert not flag.wait(0)
    flag.set()
    flag.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert through == [True, True, True]
    assert flag.wait(0)
