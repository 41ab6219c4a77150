"""Run the tasks of a batch on Dask workers. Each task is bound to one worker.

When a worker dies, Dask normally runs its tasks on other workers, even those that have sent their
prompt. A bound task is not run again: the batch decides whether to send its prompt again. Each task
leaves its worker's thread pool, so that one worker can run many tasks at once.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import uuid
from collections import Counter
from collections.abc import Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from h2o_client.batch.attempts import WorkerError, WorkerLostError
from h2o_client.batch.workers import WorkerResult, WorkerTask, run_task
from h2o_client.errors import ConfigurationError, install_hint
from h2o_client.log import log
from h2o_client.timeouts import monotonic

if TYPE_CHECKING:
    from distributed import Client, Future

T = TypeVar("T")

_POLL_EVERY = 0.5  # seconds
_POLL_WITHIN = 2.0
_SILENCE = 60.0  # seconds without a response after which the scheduler counts as lost
_WARN_AFTER = 10.0  # seconds without any worker


class DaskWorkers:
    """The workers of a Dask cluster.

    ``cluster`` is the address of its scheduler, "local" for workers on this machine, or a Client.
    ``give_up_after``: seconds to wait for a worker while there is none. Raises `ConfigurationError`
    without the extra ``batch``, for any other object, or if there is no scheduler.
    """

    def __init__(self, cluster: str | Client, give_up_after: float) -> None:
        try:
            import distributed
        except ImportError as exc:
            raise ConfigurationError(
                "Dask needs the extra 'batch'", hint=install_hint("batch"), argument="dask"
            ) from exc
        if not isinstance(cluster, str | distributed.Client):
            raise ConfigurationError(
                f"dask must be an address, 'local' or a Client, not {type(cluster).__name__}",
                argument="dask",
            )
        self._give_up_after = give_up_after
        self._is_own = isinstance(cluster, str)
        self._local: Any = None
        self._in_flight: Counter[str] = Counter()
        self._workers: set[str] = set()
        self._failure: WorkerError | None = None  # the reason why no more tasks can run
        self._responded_at = monotonic()  # when the scheduler last responded
        self._worked_at = monotonic()  # when there was last a worker
        self._has_warned = False
        self._watcher: asyncio.Task[None] | None = None
        self._has_changed = asyncio.Event()
        if not isinstance(cluster, str):
            self._client: Client = cluster
            return
        address: Any = cluster
        if cluster == "local":
            # Workers would log an error for each cancelled task.
            self._local = address = distributed.LocalCluster(
                threads_per_worker=1, dashboard_address=None, silence_logs=logging.CRITICAL
            )
        try:
            self._client = distributed.Client(address, set_as_default=False)
        except (OSError, ValueError) as exc:
            raise ConfigurationError(
                f"Cannot connect to a Dask scheduler at {cluster}: {exc}", argument="dask"
            ) from exc

    async def run(self, task: WorkerTask) -> WorkerResult:
        worker = await self._least_busy()
        self._in_flight[worker] += 1
        try:
            future = self._submit(task, worker)
            try:
                return await self._result(future, worker)
            finally:
                future.release()
        finally:
            self._in_flight[worker] -= 1

    async def close(self) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.wait([self._watcher])
        if self._is_own:
            await asyncio.to_thread(self._client.close, timeout=5)
        if self._local is not None:
            await asyncio.to_thread(self._local.close, timeout=5)

    async def _least_busy(self) -> str:
        if self._watcher is None:
            self._has_changed = asyncio.Event()
            self._responded_at = self._worked_at = monotonic()
            self._watcher = asyncio.create_task(self._watch())
        while not self._workers and self._failure is None:
            await self._has_changed.wait()
        if self._failure is not None:
            raise self._failure
        return min(sorted(self._workers), key=lambda each: self._in_flight[each])

    def _submit(self, task: WorkerTask, worker: str) -> Future[Any]:
        try:
            return self._client.submit(
                _run_apart,
                task,
                key=f"h2o-chat-{uuid.uuid4()}",
                pure=False,
                retries=0,
                workers=[worker],
                allow_other_workers=False,
            )
        except Exception as exc:
            raise WorkerError(f"Dask cannot run a task: {exc}") from exc

    async def _result(self, future: Future[Any], worker: str) -> WorkerResult:
        loop, ended = asyncio.get_running_loop(), asyncio.Event()

        def end(_: object) -> None:
            with suppress(RuntimeError):  # the batch has ended
                loop.call_soon_threadsafe(ended.set)

        # In the client's event loop, because a thread would wait for a lost worker.
        fetching = self._in_client(_fetch(self._client, future, worker))
        fetching.add_done_callback(end)
        if await self._is_done(asyncio.ensure_future(ended.wait()), worker):
            return fetching.result()
        # Cancel the future, which ends the fetch. Cancelling the fetch itself would also end
        # fetches from other workers.
        self._in_client(_cancel(self._client, future))
        if self._failure is not None:
            raise self._failure
        raise WorkerLostError(f"The worker {worker} was lost")

    def _in_client(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        loop: Any = self._client.loop
        try:
            return asyncio.run_coroutine_threadsafe(work, loop.asyncio_loop)
        except (RuntimeError, AttributeError) as exc:
            work.close()
            raise WorkerError(f"The Dask client is closed: {exc}") from exc

    async def _is_done(self, waiting: asyncio.Future[Any], worker: str) -> bool:
        """Wait until ``waiting`` is done, and return True; False if the worker was lost."""
        while not waiting.done() and worker in self._workers and self._failure is None:
            changed = asyncio.ensure_future(self._has_changed.wait())
            await asyncio.wait([waiting, changed], return_when=asyncio.FIRST_COMPLETED)
            changed.cancel()
        if waiting.done():
            return True
        waiting.cancel()
        return False

    async def _watch(self) -> None:
        while self._failure is None:
            await self._poll()
            await asyncio.sleep(_POLL_EVERY)

    async def _poll(self) -> None:
        try:
            found = set(
                await asyncio.to_thread(self._client.nthreads, callback_timeout=_POLL_WITHIN)
            )
        except Exception as exc:  # Dask's own errors, and connection errors
            log.info("The Dask scheduler does not respond: %s", exc)
            is_closed = self._client.status == "closed"
            if is_closed or monotonic() - self._responded_at > _SILENCE:
                self._fail(f"The Dask scheduler does not respond: {exc}")
            return
        now = monotonic()
        self._responded_at = now
        if found:
            self._worked_at, self._has_warned = now, False
        elif now - self._worked_at > self._give_up_after:
            self._fail(f"Dask had no worker for {now - self._worked_at:.0f} s")
        elif now - self._worked_at > _WARN_AFTER and not self._has_warned:
            self._has_warned = True
            log.warning("Dask has no workers. The batch waits for one.")
        if found != self._workers:
            self._workers = found
            self._notify()

    def _fail(self, message: str) -> None:
        self._failure = WorkerError(message)
        self._notify()

    def _notify(self) -> None:
        self._has_changed.set()
        self._has_changed = asyncio.Event()


def _run_apart(task: WorkerTask) -> WorkerResult:
    from distributed import secede

    secede()
    return run_task(task)


async def _fetch(client: Client, future: Future[Any], worker: str) -> WorkerResult:
    """Fetch the result. Until then it is stored on its worker only."""
    from distributed.comm.core import CommClosedError
    from distributed.scheduler import KilledWorker

    try:
        found: list[WorkerResult] = await client.gather([future], asynchronous=True)
        return found[0]
    except (concurrent.futures.CancelledError, asyncio.CancelledError, KilledWorker) as exc:
        raise WorkerLostError(f"The worker {worker} was lost") from exc
    except CommClosedError as exc:  # the client may reach the scheduler again
        raise WorkerLostError(f"The connection to the worker {worker} broke") from exc
    except Exception as exc:
        raise WorkerError(f"A worker failed: {type(exc).__name__}: {exc}") from exc


async def _cancel(client: Client, future: Future[Any]) -> None:
    with suppress(Exception):
        await client.cancel([future], asynchronous=True)
