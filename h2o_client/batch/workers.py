"""Let workers send the prompts: threads or processes of an executor, or Dask workers.

This process, the coordinator, has the journal. It creates each conversation and records it before
it starts a worker's task. The worker sends the message, unless the conversation already has one,
and returns the answer or the error. If the worker dies, the coordinator still knows the
conversation.
"""

from __future__ import annotations

import asyncio
import pickle
import threading
from concurrent.futures import BrokenExecutor, Executor
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from h2o_client.batch.attempts import Attempt, WorkerError, WorkerLostError
from h2o_client.batch.journal import Journal
from h2o_client.batch.prompts import Payload
from h2o_client.errors import ConfigurationError, H2oError
from h2o_client.timeouts import monotonic

if TYPE_CHECKING:
    from h2o_client.answer.steps import Answer
    from h2o_client.messages import PromptFormat
    from h2o_client.session import H2oSession

_MOST_SESSIONS = 100  # that one worker keeps


class WorkerTask(msgspec.Struct, frozen=True):
    """A worker's task: send ``payload`` in a conversation, with a pickled session.

    ``sends_system``: the message has to contain the system prompt.
    """

    session: bytes
    conversation_id: str
    payload: Payload
    sends_system: bool
    prompt_format: Any = None


class WorkerResult(msgspec.Struct, frozen=True):
    """The answer or the error, and how many seconds ago the server accepted the message."""

    answer: Any = None
    error: Any = None
    seconds_ago: float = 0.0


class Workers(Protocol):
    """Runs tasks on workers."""

    async def run(self, task: WorkerTask) -> WorkerResult:
        """Run ``task`` on a worker.

        Raises `WorkerLostError` if the worker was lost, and `WorkerError` if no worker can be used.
        """
        ...

    async def close(self) -> None:
        """Free the resources. No more tasks are run."""
        ...


class WorkerSender:
    """Sends prompts through ``workers``."""

    def __init__(self, workers: Workers, prompt_format: PromptFormat | None) -> None:
        self._workers = workers
        self._prompt_format = prompt_format
        self._sessions: dict[int, bytes] = {}

    async def send(self, attempt: Attempt, journal: Journal) -> Answer:
        account, payload = attempt.account, attempt.job.payload
        conversation = account.session.conversation(
            model=payload.model, system=payload.system, keep=True
        )
        conversation_id = await conversation.create()
        journal.note_sending(attempt.job.row, account.number, conversation_id, None)
        attempt.conversation_id = conversation_id
        task = WorkerTask(
            session=self._pickled(attempt),
            conversation_id=conversation_id,
            payload=payload,
            sends_system=not conversation.wrapped._system_said,
            prompt_format=self._prompt_format,
        )
        done = await self._workers.run(task)
        account.pace.accepted(attempt.began, monotonic() - done.seconds_ago)
        if done.error is not None:
            raise done.error
        answer: Answer = done.answer
        return answer

    def can_leave(self, attempt: Attempt) -> bool:
        # The worker continues; the next run collects the answer.
        return True

    async def leave(self, attempt: Attempt, *, stops: bool) -> None:
        return None

    async def close(self) -> None:
        await self._workers.close()

    def _pickled(self, attempt: Attempt) -> bytes:
        """The account's session with its cookies, pickled once."""
        number = attempt.account.number
        if number not in self._sessions:
            try:
                self._sessions[number] = pickle.dumps(attempt.account.session.wrapped)
            except (TypeError, AttributeError, pickle.PicklingError) as exc:
                raise WorkerError(f"Cannot send this session to a worker: {exc}") from exc
        return self._sessions[number]


class ExecutorWorkers:
    """The workers of a `concurrent.futures.Executor`, which is not closed."""

    def __init__(self, executor: Executor) -> None:
        if not callable(getattr(executor, "submit", None)):
            raise ConfigurationError(
                f"executor must be a concurrent.futures.Executor, not {type(executor).__name__}",
                argument="executor",
            )
        self._executor = executor

    async def run(self, task: WorkerTask) -> WorkerResult:
        try:
            return await asyncio.wrap_future(self._executor.submit(run_task, task))
        except BrokenExecutor as exc:
            raise WorkerError(f"The executor is broken: {exc}") from exc
        except asyncio.CancelledError:
            raise
        except Exception as exc:
            raise WorkerError(f"A worker failed: {type(exc).__name__}: {exc}") from exc

    async def close(self) -> None:
        return None


# In the worker

_sessions: dict[bytes, H2oSession] = {}
_lock = threading.Lock()  # guards `_sessions`, one for each account


def run_task(task: WorkerTask) -> WorkerResult:
    """Send the message, unless it was sent already, and return the answer or the error."""
    head_at = monotonic()
    try:
        session = _session(task.session)
        if session._find_answer(task.conversation_id).is_taken:
            # A lost worker has already sent it: the coordinator collects the answer.
            raise WorkerLostError("A worker that was lost has already sent the prompt")
        messages, options = task.payload.to_send(), task.payload.all_options()
        if task.sends_system and task.payload.system is not None:
            messages = [{"role": "system", "content": task.payload.system}, *_listed(task.payload)]
        if task.prompt_format is not None:
            options["prompt_format"] = task.prompt_format
        reply = session.conversation(task.conversation_id).stream(messages, **options)
        head_at = monotonic()
        return WorkerResult(answer=reply.read(), seconds_ago=monotonic() - head_at)
    except H2oError as exc:
        return WorkerResult(error=exc, seconds_ago=monotonic() - head_at)


def _listed(payload: Payload) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in payload.messages]


def _session(pickled: bytes) -> H2oSession:
    with _lock:
        session = _sessions.get(pickled)
        if session is None:
            while len(_sessions) >= _MOST_SESSIONS:
                _sessions.pop(next(iter(_sessions)))
            session = _sessions[pickled] = pickle.loads(pickled)
        return session
