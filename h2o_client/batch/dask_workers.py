"""Run the tasks of a batch on Dask workers. Each task is bound to one worker.

When a worker dies, Dask would rerun its tasks elsewhere, even those that have sent their prompt. A
bound task is not rerun: the batch decides whether to send its prompt again. Each task leaves its
worker's thread pool, so that one worker can run many tasks at once.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import Counter
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from h2o_client.batch.attempts import WorkerError, WorkerLostError
from h2o_client.batch.workers import WorkerResult, WorkerTask, run_task
from h2o_client.errors import ConfigurationError, install_hint
from h2o_client.log import log

if TYPE_CHECKING:
    from distributed import Client, Future

_LOOK_EVERY = 0.5  # seconds
_FETCHED_AT_ONCE = 8


class DaskWorkers:
    """The workers of a Dask cluster.

    ``cluster`` is the address of its scheduler, "local" for workers on this machine, or a Client.
    Raises `ConfigurationError` without the extra ``batch``, or if there is no scheduler.
    """

    def __init__(self, cluster: str | Client) -> None:
        try:
            import distributed
        except ImportError as exc:
            raise ConfigurationError(
                "Dask needs the extra 'batch'", hint=install_hint("batch"), argument="dask"
            ) from exc
        self._is_own = isinstance(cluster, str)
        self._local: Any = None
        self._in_flight: Counter[str] = Counter()
        self._workers: set[str] = set()
        self._watcher: asyncio.Task[None] | None = None
        self._has_changed = asyncio.Event()
        self._threads = ThreadPoolExecutor(_FETCHED_AT_ONCE, "h2o_client-batch-dask")
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
        future = self._client.submit(
            _run_apart,
            task,
            key=f"h2o-chat-{uuid.uuid4()}",
            pure=False,
            retries=0,
            workers=[worker],
            allow_other_workers=False,
        )
        try:
            return await self._result(future, worker)
        finally:
            self._in_flight[worker] -= 1
            future.release()

    async def close(self) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.wait([self._watcher])
        self._threads.shutdown(wait=False)
        if self._is_own:
            await asyncio.to_thread(self._client.close, timeout=5)
        if self._local is not None:
            await asyncio.to_thread(self._local.close, timeout=5)

    async def _least_busy(self) -> str:
        if self._watcher is None:
            self._has_changed = asyncio.Event()
            self._watcher = asyncio.create_task(self._watch())
        while not self._workers:
            await self._has_changed.wait()
        return min(sorted(self._workers), key=lambda each: self._in_flight[each])

    async def _result(self, future: Future[Any], worker: str) -> WorkerResult:
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(ended.set))
        if await self._is_done(asyncio.ensure_future(ended.wait()), worker):
            # The result stays on the worker, and is lost if that dies before it is fetched.
            outcome = loop.run_in_executor(self._threads, _outcome_of, future, worker)
            if await self._is_done(outcome, worker):
                return await outcome
        # This also ends a thread that waits for the result.
        await asyncio.to_thread(future.cancel)
        raise WorkerLostError(f"The worker {worker} was lost")

    async def _is_done(self, waiting: asyncio.Future[Any], worker: str) -> bool:
        """Wait until ``waiting`` is done, and return True; False if the worker was lost."""
        while not waiting.done() and worker in self._workers:
            changed = asyncio.ensure_future(self._has_changed.wait())
            await asyncio.wait([waiting, changed], return_when=asyncio.FIRST_COMPLETED)
            changed.cancel()
        if waiting.done():
            return True
        waiting.cancel()
        return False

    async def _watch(self) -> None:
        while True:
            await self._look()
            await asyncio.sleep(_LOOK_EVERY)

    async def _look(self) -> None:
        try:
            found = set(await asyncio.to_thread(self._client.nthreads))
        except (OSError, TimeoutError) as exc:
            log.warning("Dask's scheduler does not answer: %s", exc)
            return
        if found != self._workers:
            self._workers = found
            self._has_changed.set()
            self._has_changed = asyncio.Event()


def _run_apart(task: WorkerTask) -> WorkerResult:
    from distributed import secede

    secede()
    return run_task(task)


def _outcome_of(future: Future[Any], worker: str) -> WorkerResult:
    from distributed.scheduler import KilledWorker

    try:
        done: WorkerResult = future.result()
        return done
    except (CancelledError, KilledWorker) as exc:
        raise WorkerLostError(f"The worker {worker} was lost") from exc
    except Exception as exc:
        raise WorkerError(f"A worker failed: {type(exc).__name__}: {exc}") from exc
