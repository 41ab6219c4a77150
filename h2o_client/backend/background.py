"""Run work to completion in threads, even if its caller is interrupted (Ctrl-C, a cancelled task).

A ``pending`` set has an entry for each unfinished piece of work. Several threads change such sets,
and the two collections of this module, without a lock: adding and discarding one entry is atomic,
and a finalizer, which the garbage collector may run anywhere, must not wait for a lock.
"""

from __future__ import annotations

import _thread
import atexit
import os
import sys
import threading
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import contextmanager, suppress
from typing import Generic, TypeVar

from h2o_client.timeouts import monotonic

T = TypeVar("T")

_pending: set[object] = set()
_postponed: list[tuple[object, Callable[[], object]]] = []
_at_exit = False  # whether the program is ending: then nothing later runs the postponed work
_POLL_EVERY = 0.01  # seconds
INTERRUPTED_WITHIN = 1.0
"""Seconds after which a waiting thread checks for signals.

Python does not notice a signal that arrives just before it starts to wait.
"""
_STARTED_WITHIN = 1.0  # seconds


class _Thread(threading.local):
    uninterruptible = False


_this_thread = _Thread()


@contextmanager
def uninterruptible() -> Iterator[None]:
    """Declare to `run_shielded` that no interrupt reaches this thread.

    Work that must be completed then needs no thread of its own, which costs more than a request. At
    the end of the program, this work is waited for like that of `run_detached`.
    """
    token = object()
    _pending.add(token)
    _this_thread.uninterruptible = True
    try:
        yield
    finally:
        _this_thread.uninterruptible = False
        _pending.discard(token)


def run_shielded(work: Callable[[], T], *, pending: set[object] | None = None) -> T:
    """Run ``work`` in a thread of its own and return its result.

    If the caller is interrupted meanwhile, the work still runs to completion. The thread is not a
    daemon, so the program does not end before the work.
    """
    pending = set() if pending is None else pending
    if _this_thread.uninterruptible:
        return _run_here(work, pending)
    task = _Task(work, pending)
    try:
        if not task.start():
            run_postponed()
            return work()
        return task.result()
    except BaseException:
        task.abandon()
        raise


def _run_here(work: Callable[[], T], pending: set[object]) -> T:
    token = object()
    pending.add(token)
    try:
        return work()
    finally:
        pending.discard(token)


def run_in_background(work: Callable[[], object], *, pending: set[object]) -> None:
    """Like `run_shielded`, without waiting for the result."""
    if not _Task(work, pending).start():
        run_postponed()
        work()


def run_detached(work: Callable[[], object]) -> None:
    """Run ``work`` soon, in another thread. The end of the program waits for it, for six seconds.

    Takes no lock, so that a finalizer may call it: `threading.Thread` would take one. If no more
    threads can be started, the next `run_shielded` or the end of the program runs the work.
    """
    token = object()
    _pending.add(token)
    if sys.is_finalizing():  # a thread would not get to run
        _run_quietly(token, work)
        return
    try:
        _thread.start_new_thread(_hand_over, (token, work))
    except RuntimeError:
        _postponed.append((token, work))
        if _at_exit:
            run_postponed()


def run_postponed(seconds: float = 6.0) -> None:
    """Run the work for which no thread could be started. Start none of it after ``seconds``."""
    end = monotonic() + seconds
    while _postponed and monotonic() < end:
        with suppress(IndexError):  # another thread has removed the last one
            _run_quietly(*_postponed.pop(0))


def wait_until_empty(pending: Collection[object], seconds: float = 6.0) -> None:
    """Wait until other threads have emptied ``pending``, for at most ``seconds``."""
    end = monotonic() + seconds
    never = threading.Event()
    while pending and monotonic() < end:
        never.wait(_POLL_EVERY)


class _Task(Generic[T]):
    """Work in a thread, which its caller may abandon at any moment."""

    def __init__(self, work: Callable[[], T], pending: set[object]) -> None:
        self._outcome: Future[T] = Future()
        self._work = work
        self._pending = pending
        self._started = threading.Event()

    def start(self) -> bool:
        """Start the thread. Return False if there are no more threads, as at interpreter exit."""
        if sys.is_finalizing():  # up to Python 3.11, starting a thread would then block forever
            return False
        self._pending.add(self)
        try:
            threading.Thread(target=self._run, name="h2o_client-background").start()
        except RuntimeError:
            self._pending.discard(self)
            return False
        return True

    def result(self) -> T:
        """Wait for the result of the work."""
        while not self._outcome.done():
            # Also raised by the work itself; then it is done.
            with suppress(TimeoutError, FutureTimeout):
                return self._outcome.result(INTERRUPTED_WITHIN)
        return self._outcome.result()

    def abandon(self) -> None:
        """Note that the caller has stopped waiting, or has received the work's own error."""
        if not self._outcome.done():
            token = object()
            self._pending.add(token)
            run_detached(lambda: self._run_if_not_started(token))

    def _run(self) -> None:
        self._started.set()
        try:
            self._outcome.set_result(self._work())
        except BaseException as exc:
            self._outcome.set_exception(exc)
        finally:
            self._pending.discard(self)

    def _run_if_not_started(self, token: object) -> None:
        # If the interrupt came before the thread was started, it will never start.
        try:
            if not self._started.wait(_STARTED_WITHIN):
                self._pending.discard(self)
                self._work()
        finally:
            self._pending.discard(token)


def _hand_over(token: object, work: Callable[[], object]) -> None:
    # `threading` keeps an object for each thread that uses it but was not started by it. Therefore
    # a thread of `threading` runs the work. Without daemon=, Thread would look at this thread.
    try:
        threading.Thread(
            target=_run_quietly, args=(token, work), name="h2o_client-detached", daemon=False
        ).start()
    except RuntimeError:
        _run_quietly(token, work)


def _run_quietly(token: object, work: Callable[[], object]) -> None:
    try:
        work()
    except Exception:
        pass  # no caller is waiting for the error
    finally:
        _pending.discard(token)


def complete_at_exit() -> None:
    """Wait, for a short time, until all pending work is completed: the program ends."""
    global _at_exit
    _at_exit = True
    run_postponed()
    wait_until_empty(_pending)


atexit.register(complete_at_exit)
if hasattr(os, "register_at_fork"):
    # A child does not wait for the work of its parent.
    os.register_at_fork(after_in_child=_pending.clear)
    os.register_at_fork(after_in_child=_postponed.clear)
