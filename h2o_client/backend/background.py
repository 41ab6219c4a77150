"""Work that must come to its end even when its caller is interrupted (Ctrl-C, a cancelled task)."""

from __future__ import annotations

import _thread
import atexit
import os
import threading
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import Generic, TypeVar

from h2o_client.timeouts import monotonic

T = TypeVar("T")

_pending: set[object] = set()
_postponed: list[tuple[object, Callable[[], object]]] = []
_has_ended = False  # the program: nobody comes after this
_LOOK_EVERY = 0.01


class _Thread(threading.local):
    undisturbed = False


_this_thread = _Thread()


@contextmanager
def undisturbed() -> Iterator[None]:
    """No interrupt reaches this thread, and nobody waits for it who could not leave it.

    What must come to its end then needs no thread of its own, which costs more than a request. A
    daemon is no such thread: a program that ends stops it anywhere.
    """
    _this_thread.undisturbed = not threading.current_thread().daemon
    try:
        yield
    finally:
        _this_thread.undisturbed = False


class Abandoned(Exception):
    """The alarm rang before the work was done."""


def completed(
    work: Callable[[], T],
    *,
    undo: Callable[[T], object] | None = None,
    pending: set[object] | None = None,
    alarm: threading.Event | None = None,
) -> T:
    """Does ``work`` in a thread of its own and gives what it gives.

    If the caller is interrupted meanwhile, the work goes on to its end, and ``undo`` is then
    called with its result. The thread is no daemon: a program does not end in the middle of it.
    ``pending`` has an entry for as long as anything of this is going on. An ``alarm`` that is set
    interrupts as well: it raises `Abandoned`.
    """
    if _this_thread.undisturbed:
        return _done_here(work, pending)
    task = _Task(work, undo, set() if pending is None else pending, alarm or threading.Event())
    try:
        if not task.started():
            do_postponed()
            return work()
        return task.result()
    except BaseException:
        task.abandon()
        raise


def _done_here(work: Callable[[], T], pending: set[object] | None) -> T:
    token = object()
    if pending is None:
        return work()
    pending.add(token)
    try:
        return work()
    finally:
        pending.discard(token)


def begun(work: Callable[[], object], *, pending: set[object]) -> None:
    """As `completed`, without waiting for it."""
    if not _Task(work, None, pending, threading.Event()).started():
        do_postponed()
        work()


def later(work: Callable[[], object]) -> None:
    """Does ``work`` soon, in another thread; a program that ends waits for it, for a short time.

    Takes no lock, so that a finalizer may call it wherever the garbage collector runs one:
    `threading.Thread` would not do. Where there are no more threads, the next work that is waited
    for does it first, or the end of the program.
    """
    token = object()
    _pending.add(token)
    try:
        _thread.start_new_thread(_hand_over, (token, work))
    except RuntimeError:
        _postponed.append((token, work))
        if _has_ended:
            do_postponed()


def do_postponed(seconds: float = 6.0) -> None:
    """Do what there was no thread for; nothing more of it is begun after so many seconds."""
    end = monotonic() + seconds
    while _postponed and monotonic() < end:
        with suppress(IndexError):  # another thread does it, too
            _do(*_postponed.pop(0))


def wait_until_empty(pending: Collection[object], seconds: float = 6.0) -> None:
    """Waits until others have emptied ``pending``, for ``seconds`` at most (a clean-up takes 5)."""
    end = monotonic() + seconds
    never = threading.Event()
    while pending and monotonic() < end:
        never.wait(_LOOK_EVERY)


class _Task(Generic[T]):
    """Work in a thread, which its caller may abandon at any moment."""

    def __init__(
        self,
        work: Callable[[], T],
        undo: Callable[[T], object] | None,
        pending: set[object],
        alarm: threading.Event,
    ) -> None:
        self._outcome: Future[T] = Future()
        self._work = work
        self._undo = undo
        self._pending = pending
        self._alarm = alarm
        self._begun = threading.Event()

    def started(self) -> bool:
        """False if there are no more threads, as where the interpreter is going down."""
        self._pending.add(self)
        try:
            threading.Thread(target=self._run, name="h2o_client-background").start()
        except RuntimeError:
            self._pending.discard(self)
            return False
        return True

    def result(self) -> T:
        """What the work gives; raises `Abandoned` if the alarm rings first."""
        self._alarm.wait()
        if not self._outcome.done():
            raise Abandoned
        return self._outcome.result()

    def abandon(self) -> None:
        """The caller does not wait any more, or has got the work's own error."""
        if not (self._outcome.done() and self._outcome.exception()):
            cleaning = object()
            self._pending.add(cleaning)
            later(lambda: self._take_back(cleaning))

    def _run(self) -> None:
        self._begun.set()
        try:
            self._outcome.set_result(self._work())
        except BaseException as exc:
            self._outcome.set_exception(exc)
        finally:
            self._pending.discard(self)
            self._alarm.set()

    def _take_back(self, cleaning: object) -> None:
        try:
            # The interrupt may have come before the thread was started: then it never begins.
            if not self._begun.wait(1.0):
                self._pending.discard(self)
                if self._undo is None:
                    self._work()
            elif self._undo is not None:
                self._undo(self._outcome.result())
        finally:
            self._pending.discard(cleaning)


def _hand_over(token: object, work: Callable[[], object]) -> None:
    # To a real thread, since `threading` counts one that it does not know for ever once it has met
    # it. daemon= is given because Thread would otherwise look at the current thread, and meet it.
    try:
        threading.Thread(
            target=_do, args=(token, work), name="h2o_client-later", daemon=False
        ).start()
    except RuntimeError:
        _do(token, work)


def _do(token: object, work: Callable[[], object]) -> None:
    try:
        work()
    except Exception:
        pass  # nobody is there to be told, and `undo` is not called for what failed
    finally:
        _pending.discard(token)


def _end() -> None:
    global _has_ended
    _has_ended = True
    do_postponed()
    wait_until_empty(_pending)


atexit.register(_end)
if hasattr(os, "register_at_fork"):
    # The parent's work is not the child's to wait for.
    os.register_at_fork(after_in_child=_pending.clear)
    os.register_at_fork(after_in_child=_postponed.clear)
