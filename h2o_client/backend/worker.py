"""One background thread for work that no caller waits for."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from h2o_client.transport.locks import Guard

_IDLE_FOR = 10.0  # seconds after which the thread ends, to be started again when it is needed


class Worker:
    """Runs pieces of work one after the other, in a thread that is started with the first one.

    The thread is a daemon, so the program has to wait for the work before it ends. Threads may
    share a worker. A signal handler may call it, because every lock is held only briefly.
    """

    def __init__(self) -> None:
        self._work: deque[Callable[[], object]] = deque()  # each change of it is atomic
        # Released when there is work. Not a semaphore or an event: a signal handler could have
        # interrupted the thread that holds their internal lock.
        self._signal = threading.Lock()
        self._signal.acquire()
        self._guard = Guard()  # guards `_thread`, and the decision to end the thread
        self._thread: threading.Thread | None = None
        self._is_stopped = False  # never becomes False again

    def put(self, work: Callable[[], object]) -> bool:
        """Run ``work``, which must not raise, soon. Return False if no thread can be started."""
        self._work.append(work)
        if self._is_running():
            self._notify()
            return True
        with suppress(ValueError):  # the thread of another caller has taken it
            self._work.remove(work)
            return False
        return True

    def drop(self) -> None:
        """Drop the work that has not started."""
        self._work.clear()

    def stop(self) -> None:
        """Accept no more work, and end the thread when all is done. A finalizer may call it."""
        self._is_stopped = True
        self._notify()

    def _notify(self) -> None:
        with suppress(RuntimeError):  # it is already released
            self._signal.release()

    def _is_running(self) -> bool:
        with self._guard:
            if self._is_stopped:
                return False
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="h2o_client-cleanup", daemon=True)
                try:
                    thread.start()
                except RuntimeError:  # no more threads, as at interpreter exit
                    return False
                self._thread = thread
            return True

    def _run(self) -> None:
        while not self._is_stopped:
            if not self._signal.acquire(timeout=_IDLE_FOR) and self._may_end():
                return
            self._run_all()
        self._run_all()  # the work that was put just before the stop

    def _run_all(self) -> None:
        while True:
            try:
                work = self._work.popleft()
            except IndexError:
                return
            work()

    def _may_end(self) -> bool:
        with self._guard:
            if self._work:
                return False
            self._thread = None
            return True
