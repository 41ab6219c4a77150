"""Sends the prompts of a journal: one event loop, which the thread of a `Batch` runs.

Each account has a loop of its own that takes the next prompt as soon as its pace allows. An attempt
that fails is judged: the prompt is sent again, or looked for on the server first, or has failed.
"""

from __future__ import annotations

import asyncio
import heapq
import random
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

import msgspec

from h2o_client.batch.accounts import Account, lost_accounts
from h2o_client.batch.collection import Missing, collect
from h2o_client.batch.deletion import Deletions
from h2o_client.batch.journal import Counts, Job, Journal, JournalError
from h2o_client.batch.results import Outcome
from h2o_client.errors import (
    MODEL_DOWN,
    AuthenticationError,
    ConfigurationError,
    GenerationError,
    H2oError,
    IncompleteAnswerError,
    ModelUnavailableError,
    RateLimitError,
    StatusError,
    TermsNotAcceptedError,
    TransportError,
    TransportTimeout,
    UnsupportedError,
)
from h2o_client.log import log
from h2o_client.timeouts import monotonic

if TYPE_CHECKING:
    from h2o_client.aio.reply import AsyncReply
    from h2o_client.answer.steps import Answer

MOST_ATTEMPTS = 5
_PAGE = 64
_MOST_RETRIES_WAITING = 1000
_MOST_COLLECTED_AT_ONCE = 16
_FIRST_DELAY = 0.5  # seconds before a prompt that failed is sent again; doubled each time
_LONGEST_DELAY = 30.0
_LEAST_PATIENCE = 5.0  # seconds that an answer may take which the server has not stored
_MOST_PATIENCE = 300.0
_USUAL_PATIENCE = 30.0
_NEARLY_DONE = 0.6  # of the time that a stop has, for answers that are nearly done
_MOST_PAUSES_WHEN_FULL = 3
_MESSAGE_WITHIN = 2.0  # seconds after its conversation, of other programs
_GATEWAY_FAILED = (502, 503, 504, 520, 521, 522, 523, 524, 525, 526, 530)
_WRONG_REQUESTS = (400, 410, 413, 414, 422)


class AccountProgress(msgspec.Struct, frozen=True):
    """An account of a batch: its server, how many prompts are under way, what it waits for."""

    server: str
    in_flight: int
    state: str


class Progress(msgspec.Struct, frozen=True):
    """Where a batch is. ``per_second`` is of the last minute, ``left`` in seconds, if known."""

    total: int
    answered: int
    failed: int
    per_second: float
    left: float | None
    accounts: tuple[AccountProgress, ...]

    @property
    def waiting(self) -> int:
        """Prompts without a result."""
        return self.total - self.answered - self.failed


class Attempt:
    """One prompt on its way, once."""

    def __init__(self, account: Account, job: Job) -> None:
        self.account = account
        self.job = job
        self.began: float = monotonic()
        self.sent_at: float = time.time()
        self.conversation_id: str | None = None  # once the message is about to be sent
        self.token: str | None = None
        self.reply: AsyncReply | None = None
        self.task: asyncio.Task[None] | None = None
        self.is_left = False  # what comes of it now is no answer

    def seconds(self) -> float:
        """Since it began."""
        return monotonic() - self.began


class Asker(Protocol):
    """Sends the prompt of an attempt, and notes its conversation in the journal before that."""

    async def ask(self, attempt: Attempt, journal: Journal) -> Answer: ...

    def can_leave(self, attempt: Attempt) -> bool:
        """Whether the model can be left at work on the answer, for the next run."""
        ...

    async def leave(self, attempt: Attempt) -> None:
        """Leave the model at work on it, or else stop it."""
        ...

    async def close(self) -> None: ...


class OwnAsker:
    """In this process, with the accounts' own sessions."""

    async def ask(self, attempt: Attempt, journal: Journal) -> Answer:
        account, ask = attempt.account, attempt.job.ask

        def on_send(conversation_id: str, token: str | None) -> None:
            journal.note_sending(attempt.job.row, account.number, conversation_id, token)
            attempt.conversation_id, attempt.token = conversation_id, token

        reply = account.session._stream_recorded(
            ask.to_send(),
            on_send=on_send,
            model=ask.model,
            system=ask.system,
            **ask.all_options(),
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


class Engine:
    """Has each prompt of ``journal`` answered. `run` does it; all else may be called elsewhere.

    ``on_result`` is called, in the loop's thread, when there are results.
    """

    def __init__(
        self,
        journal: Journal,
        accounts: Sequence[Account],
        former: Sequence[Account],
        *,
        asker: Asker,
        give_up_after: float,
        on_result: Callable[[], None],
    ) -> None:
        counts = journal.counts()
        self.failure: BaseException | None = None  # why prompts are left without a result
        self._journal = journal
        self._accounts = list(accounts)
        self._former = list(former)
        self._asker = asker
        self._give_up_after = give_up_after
        self._on_result = on_result
        self._counts = counts
        self._queue = _Queue(journal)
        self._attempts: set[Attempt] = set()
        self._others: set[asyncio.Task[None]] = set()  # collections
        self._room = asyncio.Semaphore(_MOST_COLLECTED_AT_ONCE)
        self._longest = 0.0  # seconds that an answer took
        self._is_stopping = False
        self._has_lost_creations = False
        self._was_interrupted = journal.was_interrupted()
        self._changed: dict[int, asyncio.Event] = {}
        self._stopped_at = 0.0
        self._stop_within = 0.0
        self._ended: deque[float] = deque()
        self._deletions = Deletions(journal)

    # From any thread

    def progress(self) -> Progress:
        """Where it is now."""
        now, counts = monotonic(), self._counts
        recent = [each for each in list(self._ended) if each > now - 60]
        per_second = len(recent) / max(1.0, now - recent[0]) if recent else 0.0
        return Progress(
            total=counts.total,
            answered=counts.answered,
            failed=counts.failed,
            per_second=per_second,
            left=counts.waiting / per_second if per_second else None,
            accounts=tuple(
                AccountProgress(each.base_url, each.in_flight, each.state)
                for each in self._accounts
            ),
        )

    # In the loop

    def stop(self, within: float) -> None:
        """Send nothing more, and end within so many seconds."""
        if not self._is_stopping:
            self._is_stopping = True
            self._stopped_at, self._stop_within = monotonic(), within
            self._wake()

    async def run(self) -> None:
        """Until every prompt has a result, no account is left, or it was stopped."""
        self._room = asyncio.Semaphore(_MOST_COLLECTED_AT_ONCE)
        self._journal.begin()
        self._deletions.start()
        everyone = [*self._accounts, *self._former]
        self._changed = {each.number: asyncio.Event() for each in everyone}
        try:
            for number in lost_accounts(self._journal, everyone):
                self._send_lost_again(number)
            loops = [asyncio.create_task(self._serve(each)) for each in self._accounts]
            loops += [asyncio.create_task(self._empty(each)) for each in self._former]
            await self._until_done(loops)
            if self._is_stopping:
                await self._leave()
            else:
                await self._sweep()
        finally:
            await self._deletions.close(self._left_to_stop())
            await self._asker.close()
            if not self._is_stopping:
                for account in self._former:
                    await account.session.aclose()

    async def _until_done(self, loops: list[asyncio.Task[None]]) -> None:
        try:
            for each in loops:
                await self._raised(each)
            while self._others and not self._is_stopping:
                await asyncio.wait(self._others, timeout=0.2)
        except BaseException as exc:
            self._fail(exc)
            for each in loops:
                each.cancel()
            await asyncio.gather(*loops, return_exceptions=True)
            if not isinstance(exc, Exception):
                raise

    async def _raised(self, task: asyncio.Task[None]) -> None:
        while not task.done():
            await asyncio.wait([task], timeout=0.2)
            if self.failure is not None and self._is_stopping:
                break
        if task.done():
            task.result()

    def _fail(self, exc: BaseException) -> None:
        """Nothing more can be done, as where the journal cannot be written."""
        if self.failure is None:
            self.failure = exc
        self.stop(2.0)

    # One account

    async def _serve(self, account: Account) -> None:
        if not await self._is_ready(account):
            return
        self._collect_left(account)
        while not self._is_stopping and account.stopped is None and self._is_work_left():
            now = monotonic()
            wait = account.pace.wait(now)
            account.state = self._state(account, wait)
            if wait or account.in_flight >= account.pace.at_once:
                await self._pause(account, wait or None)
                continue
            job = self._queue.next(now)
            if job is None:
                await self._pause(account, self._queue.due_in(now))
                continue
            self._begin(account, job)
        if account.stopped is None:
            account.state = "done"

    def _is_work_left(self) -> bool:
        return self._counts.waiting > 0

    def _begin(self, account: Account, job: Job) -> None:
        attempt = Attempt(account, job)
        account.in_flight += 1
        account.pace.sending(attempt.began)
        attempt.task = asyncio.create_task(self._attempt(attempt))
        self._attempts.add(attempt)

    async def _is_ready(self, account: Account) -> bool:
        """Whether the account is connected, however long that takes."""
        while not self._is_stopping:
            try:
                await account.prepare(self._journal)
                account.pace.succeeded(monotonic())
                return True
            except JournalError:
                raise
            except H2oError as exc:
                if not _is_down(exc) and not isinstance(exc, RateLimitError):
                    self._stop_account(account, exc)
                    return False
                if self._gives_up(account, exc):
                    return False
                account.pace.failed(monotonic())
                account.state = f"waiting for the server ({_short(exc)})"
                await self._pause(account, max(1.0, account.pace.wait(monotonic())))
        return False

    def _state(self, account: Account, wait: float) -> str:
        if wait and account.pace.is_down:
            return f"waiting for the server, {wait:.0f} s"
        if wait:
            return f"waiting for the rate limit, {wait:.0f} s"
        return "answering"

    async def _pause(self, account: Account, seconds: float | None) -> None:
        """Until something has changed, or so many seconds."""
        changed = self._changed[account.number]
        changed.clear()
        handle = None
        if seconds is not None:
            handle = asyncio.get_running_loop().call_later(seconds, changed.set)
        try:
            await changed.wait()
        finally:
            if handle is not None:
                handle.cancel()

    def _wake(self) -> None:
        for changed in self._changed.values():
            changed.set()

    def _stop_account(self, account: Account, exc: H2oError) -> None:
        """It sends nothing more. Without any account the batch ends with the error."""
        if account.stopped is None:
            account.stopped = exc
            account.state = f"stopped: {exc}"
        if all(each.stopped is not None for each in self._accounts):
            self._fail(account.stopped)
        else:
            log.warning("%s sends no more prompts: %s", account.base_url, exc)
        self._wake()

    def _gives_up(self, account: Account, exc: H2oError) -> bool:
        """Whether the server was waited for long enough."""
        if account.pace.down_for(monotonic()) < self._give_up_after:
            return False
        self._stop_account(account, exc)
        return True

    # One prompt

    async def _attempt(self, attempt: Attempt) -> None:
        account = attempt.account
        try:
            await self._ask(attempt)
            await self._deletions.have_room()
        except Exception as exc:  # the journal's, or a mistake of ours
            self._fail(exc)
        finally:
            self._attempts.discard(attempt)
            account.in_flight -= 1
            self._wake()

    async def _ask(self, attempt: Attempt) -> None:
        try:
            answer = await self._asker.ask(attempt, self._journal)
        except H2oError as exc:
            if not attempt.is_left:
                self._judge(attempt, exc)
        else:
            if not attempt.is_left:
                attempt.account.pace.succeeded(attempt.began)
                self._longest = max(self._longest, attempt.seconds())
                self._answered(attempt, answer)

    def _answered(self, attempt: Attempt, answer: Answer) -> None:
        outcome = Outcome.of_answer(
            answer,
            attempts=attempt.job.attempts + 1,
            seconds=attempt.seconds(),
            server=attempt.account.base_url,
            ended_at=time.time(),
        )
        self._end(attempt.job, outcome, attempt.account, answer.conversation_id)

    def _end(self, job: Job, outcome: Outcome, account: Account, conversation_id: str) -> None:
        """There is a result. Its conversation is deleted, now that the journal has it."""
        self._journal.note_outcome(job.row, outcome)
        counts = self._counts
        self._counts = Counts(
            counts.total,
            counts.answered + (not outcome.has_failed),
            counts.failed + outcome.has_failed,
        )
        self._ended.append(monotonic())
        while self._ended[0] < self._ended[-1] - 60:
            self._ended.popleft()
        if conversation_id:
            self._deletions.add(account, conversation_id)
        self._on_result()
        if not self._is_work_left():
            self._wake()

    def _judge(self, attempt: Attempt, exc: H2oError) -> None:
        """What an attempt that failed means for its prompt and for its account."""
        if isinstance(exc, JournalError):
            raise exc
        if attempt.conversation_id is None and isinstance(exc, TransportError):
            self._has_lost_creations = True
        if self._is_stopping:
            self._set_back(attempt)
        elif _is_shut_out(exc):
            self._set_back(attempt)
            self._stop_account(attempt.account, exc)
        elif isinstance(exc, RateLimitError) and exc.limit in ("rate", "conversations"):
            self._refused(attempt, exc)
        elif isinstance(exc, GenerationError) and exc.status == 429:
            attempt.account.pace.refused(attempt.began, monotonic(), None)
            self._set_back(attempt)
        elif _is_down(exc):
            attempt.account.pace.failed(monotonic())
            self._set_back(attempt)
            self._gives_up(attempt.account, exc)
        elif _is_final(exc):
            self._failed(attempt, exc)
        elif _may_be_answered(exc) and attempt.conversation_id is not None:
            attempt.account.pace.failed(monotonic())
            job = _asked(attempt)
            self._collect(attempt.account, job, exc)
        else:
            if not isinstance(exc, GenerationError):
                attempt.account.pace.failed(monotonic())
            self._try_again(attempt, exc)

    def _refused(self, attempt: Attempt, exc: RateLimitError) -> None:
        account = attempt.account
        is_full = exc.limit == "conversations"
        wait = 5.0 if is_full else exc.retry_after
        account.pace.refused(attempt.began, monotonic(), wait)
        self._set_back(attempt)
        if is_full and account.pace.refusals > _MOST_PAUSES_WHEN_FULL:
            self._stop_account(account, exc)
        else:
            self._gives_up(account, exc)

    def _set_back(self, attempt: Attempt) -> None:
        """The prompt is sent again as if it had not been."""
        self._again(attempt, attempt.job.attempts, 0.0)

    def _try_again(self, attempt: Attempt, exc: H2oError) -> None:
        attempts = attempt.job.attempts + 1
        if attempts >= MOST_ATTEMPTS:
            self._failed(attempt, exc)
        else:
            self._again(attempt, attempts, _delay(attempts))

    def _again(self, attempt: Attempt, attempts: int, delay: float) -> None:
        self._journal.note_retry(attempt.job.row, attempts)
        if attempt.conversation_id is not None:
            self._deletions.add(attempt.account, attempt.conversation_id)
        job = msgspec.structs.replace(attempt.job, attempts=attempts, conversation_id=None)
        self._queue.put(job, monotonic() + delay)
        self._wake()

    def _failed(self, attempt: Attempt, exc: H2oError) -> None:
        outcome = Outcome.of_error(
            exc,
            attempts=attempt.job.attempts + 1,
            seconds=attempt.seconds(),
            server=attempt.account.base_url,
            ended_at=time.time(),
        )
        self._end(attempt.job, outcome, attempt.account, attempt.conversation_id or "")

    # What may be on the server

    def _collect_left(self, account: Account) -> None:
        """What an earlier run has left there: answers, conversations of none, empty ones."""
        for job in _pages(lambda after: self._journal.being_asked(account.number, after)):
            self._collect(account, job, None)
        after = ""
        while page := self._journal.left_conversations(account.number, after):
            for conversation_id in page:
                self._deletions.add(account, conversation_id)
            after = page[-1]
        if self._was_interrupted and not account.is_given:
            for conversation_id in account.candidates:
                self._spawn(self._delete_if_empty(account, conversation_id))

    def _collect(self, account: Account, job: Job, exc: H2oError | None) -> None:
        self._spawn(self._collected(account, job, exc))

    def _spawn(self, work: object) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work)  # type: ignore[arg-type]
        self._others.add(task)
        task.add_done_callback(self._note_end)

    def _note_end(self, task: asyncio.Task[None]) -> None:
        self._others.discard(task)
        if not task.cancelled() and (exc := task.exception()) is not None:
            self._fail(exc)
        self._wake()

    async def _collected(self, account: Account, job: Job, exc: H2oError | None) -> None:
        """The answer to a prompt that was sent, or the prompt once more. ``exc``: what broke it."""
        assert job.conversation_id is not None
        async with self._room:
            while not self._is_stopping and account.stopped is None:
                try:
                    found = await collect(
                        account.session, job.conversation_id, lambda: self._patience(job)
                    )
                    break
                except JournalError:
                    raise
                except H2oError as failed:
                    if _is_shut_out(failed):
                        self._stop_account(account, failed)
                    elif not self._gives_up(account, failed):
                        wait = account.pace.failed(monotonic())
                        await asyncio.sleep(max(1.0, wait))
            else:
                return  # the next run looks again
        attempt = Attempt(account, job)
        attempt.conversation_id = job.conversation_id
        attempt.began = monotonic() - max(0.0, time.time() - job.sent_at)
        if not isinstance(found, Missing):
            self._answered(attempt, found)
        elif exc is None:
            self._set_back(attempt)
        else:
            self._try_again(attempt, exc)

    def _patience(self, job: Job) -> float:
        """How long an answer that is not stored may still come."""
        usual = 3 * self._longest if self._longest else _USUAL_PATIENCE
        patience = min(_MOST_PATIENCE, max(_LEAST_PATIENCE, usual))
        return job.sent_at + patience - time.time()

    async def _empty(self, account: Account) -> None:
        """Get what an account has that an earlier run used, and this one does not."""
        account.state = "collecting"
        try:
            await account.prepare(self._journal)
        except JournalError:
            raise
        except H2oError as exc:
            log.warning(
                "%s, where an earlier run sent prompts, cannot be used: %s. What it was answering "
                "is sent again, and its conversations stay for a later run.",
                account.base_url,
                exc,
            )
            self._send_lost_again(account.number)
        else:
            self._collect_left(account)

    def _send_lost_again(self, number: int) -> None:
        """Prompts whose account this run cannot use."""
        for job in _pages(lambda after: self._journal.being_asked(number, after)):
            self._journal.note_retry(job.row, job.attempts)
            self._queue.put(msgspec.structs.replace(job, conversation_id=None), 0.0)

    async def _delete_if_empty(self, account: Account, conversation_id: str) -> None:
        with suppress(H2oError):
            found = await account.session._find_answer(conversation_id)
            if (
                account.is_given
                and not found.is_taken
                and conversation_id not in account.candidates
            ):
                # Another program may have made it just now, for a message that is on its way.
                await asyncio.sleep(_MESSAGE_WITHIN)
                found = await account.session._find_answer(conversation_id)
                if not found.is_certain:
                    return
            if not found.is_taken:
                self._deletions.add(account, conversation_id)

    async def _sweep(self) -> None:
        """Conversations that came while a creation was broken off, and are empty still."""
        if not self._was_interrupted and not self._has_lost_creations:
            return
        for account in (*self._accounts, *self._former):
            if account.stopped is not None:
                continue
            with suppress(H2oError):
                unknown = await account.unknown(self._journal)
                if account.is_given and not self._has_lost_creations:
                    unknown = [each for each in unknown if each in account.candidates]
                for conversation_id in unknown:
                    await self._delete_if_empty(account, conversation_id)

    # The end

    def _left_to_stop(self) -> float | None:
        """Seconds until all must be over; None if nobody has stopped it."""
        if not self._is_stopping:
            return None
        return max(0.0, self._stopped_at + self._stop_within - monotonic())

    async def _leave(self) -> None:
        """What is nearly done is waited for; the rest is left at work, or stopped and deleted."""
        tasks = [each.task for each in self._attempts if each.task is not None]
        left = self._left_to_stop() or 0.0
        if tasks:
            await asyncio.wait(tasks, timeout=_NEARLY_DONE * left)
        ends = [self._left(each) for each in list(self._attempts)]
        for other in self._others:
            other.cancel()
        work = asyncio.gather(*ends, *self._others, return_exceptions=True)
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(work, timeout=max(0.1, self._left_to_stop() or 0.0))

    async def _left(self, attempt: Attempt) -> None:
        if attempt.task is None or attempt.task.done():
            return
        attempt.is_left = True
        if attempt.conversation_id is not None:
            is_stopped = not self._asker.can_leave(attempt)
            if is_stopped:
                # Before it: what a stop leaves looks like an answer on v0.3 to v0.6.
                self._journal.note_waiting([(attempt.job.row, attempt.job.attempts)])
            with suppress(H2oError):
                await self._asker.leave(attempt)
            if is_stopped:
                self._deletions.add(attempt.account, attempt.conversation_id)
        attempt.task.cancel()


class _Queue:
    """The prompts that are to be sent: those to be sent again first, then the journal's next."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._again: list[tuple[float, int, Job]] = []
        self._page: deque[Job] = deque()
        self._last = -1
        self._is_at_end = False
        self._count = 0

    def put(self, job: Job, due: float) -> None:
        """To be sent again, not before then."""
        self._count += 1
        heapq.heappush(self._again, (due, self._count, job))

    def next(self, now: float) -> Job | None:
        """The next one that is due, if any is."""
        if self._again and self._again[0][0] <= now:
            return heapq.heappop(self._again)[2]
        if len(self._again) > _MOST_RETRIES_WAITING:
            return None
        if not self._page and not self._is_at_end:
            self._page.extend(self._journal.claim(self._last, _PAGE))
            self._is_at_end = len(self._page) < _PAGE
            if self._page:
                self._last = self._page[-1].index
        return self._page.popleft() if self._page else None

    def due_in(self, now: float) -> float | None:
        """Seconds until one is due; None if none is waiting."""
        return max(0.0, self._again[0][0] - now) if self._again else None


def _pages(read: Callable[[int], list[Job]]) -> Iterator[Job]:
    after = 0
    while page := read(after):
        yield from page
        after = page[-1].row


def _asked(attempt: Attempt) -> Job:
    return msgspec.structs.replace(
        attempt.job,
        conversation_id=attempt.conversation_id,
        token=attempt.token,
        sent_at=attempt.sent_at,
    )


def _delay(attempts: int) -> float:
    return min(_LONGEST_DELAY, _FIRST_DELAY * 2.0**attempts) * random.uniform(0.5, 1.0)


def _is_shut_out(exc: H2oError) -> bool:
    """Whether this account can send nothing any more."""
    if isinstance(exc, RateLimitError):
        return exc.limit == "login"
    return isinstance(exc, AuthenticationError | TermsNotAcceptedError)


def _is_down(exc: H2oError) -> bool:
    """Whether the server is not there, or its model, and so has not taken the prompt."""
    if isinstance(exc, StatusError):
        return exc.status in _GATEWAY_FAILED
    if isinstance(exc, TransportError):
        return exc.resendable is not False and not exc.permanent
    return isinstance(exc, GenerationError) and MODEL_DOWN in str(exc)


def _is_final(exc: H2oError) -> bool:
    """Whether the same prompt would fail again."""
    if isinstance(exc, ConfigurationError | UnsupportedError | ModelUnavailableError):
        return True
    if isinstance(exc, RateLimitError):
        return True  # of messages in one conversation
    return isinstance(exc, StatusError | GenerationError) and exc.status in _WRONG_REQUESTS


def _may_be_answered(exc: H2oError) -> bool:
    """Whether the server may have, or get, an answer that did not come through."""
    if isinstance(exc, TransportTimeout) and exc.which == "total":
        return False
    return isinstance(exc, TransportError | IncompleteAnswerError)


def _short(exc: H2oError) -> str:
    return str(exc).split(". ")[0]
