"""`Attempt`: one attempt to send a prompt. `Sender` sends it, from this process or a worker."""

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
    """The worker that sent a prompt was lost. The server may have the answer."""


class Attempt:
    """One attempt to send a prompt with an account. ``is_left``: its result is ignored."""

    def __init__(self, account: Account, job: Job) -> None:
        self.account: Account = account
        self.job: Job = job
        self.began: float = monotonic()
        self.sent_at: float = time.time()
        self.conversation_id: str | None = None  # set just before the message is sent
        self.token: str | None = None
        self.reply: AsyncReply | None = None
        self.task: asyncio.Task[None] | None = None
        self.is_left: bool = False

    def seconds(self) -> float:
        """Seconds since it started."""
        return monotonic() - self.began


class Sender(Protocol):
    """Sends prompts. Each conversation is recorded in the journal before its message is sent."""

    async def send(self, attempt: Attempt, journal: Journal) -> Answer:
        """Send the prompt and return the answer. Raises `H2oError`."""
        ...

    def can_leave(self, attempt: Attempt) -> bool:
        """Whether the model can finish the answer without this process, for the next run."""
        ...

    async def leave(self, attempt: Attempt, *, stops: bool) -> None:
        """Disconnect, and let the model finish unless ``stops``."""
        ...

    async def close(self) -> None:
        """Free the resources. No more prompts are sent."""
        ...


class LocalSender:
    """Sends prompts from this process, with the sessions of the accounts."""

    def __init__(self, prompt_format: PromptFormat | None = None) -> None:
        self._prompt_format = prompt_format

    async def send(self, attempt: Attempt, journal: Journal) -> Answer:
        account, payload = attempt.account, attempt.job.payload

        def on_send(conversation_id: str, token: str | None) -> None:
            journal.note_sending(attempt.job.row, account.number, conversation_id, token)
            attempt.conversation_id, attempt.token = conversation_id, token

        options = payload.all_options()
        if self._prompt_format is not None:
            options["prompt_format"] = self._prompt_format
        reply = account.session._stream_recorded(
            payload.to_send(),
            on_send=on_send,
            model=payload.model,
            system=payload.system,
            **options,
        )
        attempt.reply = reply
        await reply
        account.pace.accepted(attempt.began, monotonic())
        return await reply.read()

    def can_leave(self, attempt: Attempt) -> bool:
        return attempt.token is not None

    async def leave(self, attempt: Attempt, *, stops: bool) -> None:
        assert attempt.reply is not None
        if stops:
            await attempt.reply.aclose()
        else:
            await attempt.reply.leave()

    async def close(self) -> None:
        return None
