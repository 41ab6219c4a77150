"""One prompt on its way, once, and who sends it: this process, or a worker elsewhere."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Protocol

from h2o_client.batch.journal import Job, Journal
from h2o_client.errors import H2oError, IncompleteAnswerError
from h2o_client.timeouts import monotonic

if TYPE_CHECKING:
    from h2o_client.aio.reply import AsyncReply
    from h2o_client.answer.steps import Answer
    from h2o_client.batch.accounts import Account
    from h2o_client.messages import PromptFormat


class WorkerError(H2oError):
    """No worker can send prompts: the executor is broken, or its workers lack this package."""


class WorkerLostError(IncompleteAnswerError):
    """The worker that sent a prompt has gone; the server may have the answer."""


class Attempt:
    """A prompt that is being sent with an account."""

    def __init__(self, account: Account, job: Job) -> None:
        self.account: Account = account
        self.job: Job = job
        self.began: float = monotonic()
        self.sent_at: float = time.time()
        self.conversation_id: str | None = None  # once the message is about to be sent
        self.token: str | None = None
        self.reply: AsyncReply | None = None
        self.task: asyncio.Task[None] | None = None
        self.is_left: bool = False  # what comes of it now is no answer

    def seconds(self) -> float:
        """Since it began."""
        return monotonic() - self.began


class Asker(Protocol):
    """Sends the prompt of an attempt, and notes its conversation in the journal before that."""

    async def ask(self, attempt: Attempt, journal: Journal) -> Answer:
        """The answer. Raises `H2oError`."""
        ...

    def can_leave(self, attempt: Attempt) -> bool:
        """Whether the model can be left at work on the answer, for the next run."""
        ...

    async def leave(self, attempt: Attempt) -> None:
        """Leave the model at work on it, or else stop it."""
        ...

    async def close(self) -> None:
        """Nothing is sent any more."""
        ...


class OwnAsker:
    """Sends from this process, with the accounts' own sessions."""

    def __init__(self, prompt_format: PromptFormat | None = None) -> None:
        self._prompt_format = prompt_format

    async def ask(self, attempt: Attempt, journal: Journal) -> Answer:
        account, ask = attempt.account, attempt.job.ask

        def on_send(conversation_id: str, token: str | None) -> None:
            journal.note_sending(attempt.job.row, account.number, conversation_id, token)
            attempt.conversation_id, attempt.token = conversation_id, token

        options = ask.all_options()
        if self._prompt_format is not None:
            options["prompt_format"] = self._prompt_format
        reply = account.session._stream_recorded(
            ask.to_send(), on_send=on_send, model=ask.model, system=ask.system, **options
        )
        attempt.reply = reply
        await reply
        account.pace.took(attempt.began, monotonic())
        return await reply.read()

    def can_leave(self, attempt: Attempt) -> bool:
        return attempt.token is not None

    async def leave(self, attempt: Attempt) -> None:
        assert attempt.reply is not None
        if self.can_leave(attempt):
            await attempt.reply.leave()
        else:
            await attempt.reply.aclose()

    async def close(self) -> None:
        return None
