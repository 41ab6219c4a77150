"""Prompts that workers send: threads or processes of an executor, or of Dask, on any machine.

The coordinator, which has the journal, makes each conversation and writes it down before a worker
hears of it. A worker sends the message there, unless it finds it sent already, and returns what
came of it. Whatever happens to the worker, the coordinator knows where to look.
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
from h2o_client.batch.prompts import Ask
from h2o_client.errors import ConfigurationError, H2oError
from h2o_client.timeouts import monotonic

if TYPE_CHECKING:
    from h2o_client.answer.steps import Answer
    from h2o_client.messages import PromptFormat
    from h2o_client.session import H2oSession

_MOST_SESSIONS = 100  # of a worker


class Errand(msgspec.Struct, frozen=True):
    """What a worker has to do: the message of ``ask`` in a conversation of a pickled session.

    ``says_system``: the system prompt is part of the message.
    """

    session: bytes
    conversation_id: str
    ask: Ask
    says_system: bool
    prompt_format: Any = None


class Done(msgspec.Struct, frozen=True):
    """What came of it: the answer or the error, and how long ago the message was taken."""

    answer: Any = None
    error: Any = None
    seconds_ago: float = 0.0


class Workers(Protocol):
    """Where errands are done."""

    async def do(self, errand: Errand) -> Done:
        """Raises `WorkerLostError` if the worker has gone, `WorkerError` if none can work."""
        ...

    async def close(self) -> None:
        """No errand will come any more."""
        ...


class WorkerAsker:
    """Has the prompts of attempts sent by ``workers``."""

    def __init__(self, workers: Workers, prompt_format: PromptFormat | None) -> None:
        self._workers = workers
        self._prompt_format = prompt_format
        self._sessions: dict[int, bytes] = {}

    async def ask(self, attempt: Attempt, journal: Journal) -> Answer:
        account, ask = attempt.account, attempt.job.ask
        conversation = account.session.conversation(model=ask.model, system=ask.system, keep=True)
        conversation_id = await conversation.create()
        journal.note_sending(attempt.job.row, account.number, conversation_id, None)
        attempt.conversation_id = conversation_id
        errand = Errand(
            session=self._pickled(attempt),
            conversation_id=conversation_id,
            ask=ask,
            says_system=not conversation.wrapped._system_said,
            prompt_format=self._prompt_format,
        )
        done = await self._workers.do(errand)
        account.pace.took(attempt.began, monotonic() - done.seconds_ago)
        if done.error is not None:
            raise done.error
        answer: Answer = done.answer
        return answer

    def can_leave(self, attempt: Attempt) -> bool:
        # The worker is not told: the next run looks what has come of it.
        return True

    async def leave(self, attempt: Attempt) -> None:
        return None

    async def close(self) -> None:
        await self._workers.close()

    def _pickled(self, attempt: Attempt) -> bytes:
        """The account's session, with the cookies that it has since it was prepared."""
        number = attempt.account.number
        if number not in self._sessions:
            try:
                self._sessions[number] = pickle.dumps(attempt.account.session.wrapped)
            except (TypeError, AttributeError, pickle.PicklingError) as exc:
                raise WorkerError(f"Cannot send this session to a worker: {exc}") from exc
        return self._sessions[number]


class ExecutorWorkers:
    """The workers of a `concurrent.futures.Executor`, which stays open."""

    def __init__(self, executor: Executor) -> None:
        if not callable(getattr(executor, "submit", None)):
            raise ConfigurationError(
                f"executor must be a concurrent.futures.Executor, not {type(executor).__name__}",
                argument="executor",
            )
        self._executor = executor

    async def do(self, errand: Errand) -> Done:
        try:
            return await asyncio.wrap_future(self._executor.submit(run_errand, errand))
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
_lock = threading.Lock()  # of the sessions: one for each account


def run_errand(errand: Errand) -> Done:
    """Send the message, once, and return what came of it."""
    head_at = monotonic()
    try:
        session = _session(errand.session)
        if session._find_answer(errand.conversation_id).is_taken:
            # A worker that has gone was faster: the coordinator finds its answer.
            raise WorkerLostError("The prompt was sent before, by a worker that has gone")
        messages, options = errand.ask.to_send(), errand.ask.all_options()
        if errand.says_system and errand.ask.system is not None:
            messages = [{"role": "system", "content": errand.ask.system}, *_listed(errand.ask)]
        if errand.prompt_format is not None:
            options["prompt_format"] = errand.prompt_format
        reply = session.conversation(errand.conversation_id).stream(messages, **options)
        head_at = monotonic()
        return Done(answer=reply.read(), seconds_ago=monotonic() - head_at)
    except H2oError as exc:
        return Done(error=exc, seconds_ago=monotonic() - head_at)


def _listed(ask: Ask) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in ask.messages]


def _session(pickled: bytes) -> H2oSession:
    with _lock:
        session = _sessions.get(pickled)
        if session is None:
            while len(_sessions) >= _MOST_SESSIONS:
                _sessions.pop(next(iter(_sessions)))
            session = _sessions[pickled] = pickle.loads(pickled)
        return session
