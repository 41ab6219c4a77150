"""Send the prompts of a journal, in one event loop in the thread of a `Batch`.

For each account a coroutine takes the next prompt as soon as the account's pace allows. When an
attempt fails, `judge` decides whether the prompt is sent again, its answer is first looked up on
the server, or the prompt has failed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import msgspec

from h2o_client.answer.steps import Answer
from h2o_client.batch.accounts import Account, lost_accounts
from h2o_client.batch.attempts import Attempt, Sender, WorkerError, WorkerLostError
from h2o_client.batch.collection import Missing, collect
from h2o_client.batch.journal import Job, Journal, JournalError
from h2o_client.batch.judgement import MOST_ATTEMPTS, Verdict, delay_before, judge
from h2o_client.batch.pending import Pending
from h2o_client.batch.progress import AccountProgress, Progress, Tally
from h2o_client.batch.recording import Recorder
from h2o_client.batch.results import Outcome
from h2o_client.errors import (
    ConfigurationError,
    GenerationError,
    H2oError,
    StatusError,
    TransportError,
)
from h2o_client.log import log
from h2o_client.timeouts import monotonic

_MOST_COLLECTED_AT_ONCE = 16
_LEAST_PATIENCE = 5.0  # seconds to wait for an answer that the server has not stored yet
_MOST_PATIENCE = 300.0
_USUAL_PATIENCE = 30.0
_FINISH_SHARE = 0.6  # share of a stop's time in which answers may still finish
_PAUSE_WHEN_FULL = 5.0
_MOST_PAUSES_WHEN_FULL = 3
_MESSAGE_WITHIN = 2.0  # seconds between creating a conversation and its message, elsewhere
_POLL_EVERY = 0.2
_LEAST_PAUSE = 0.5  # seconds after a failed request that sent no prompt


class Engine:
    """Sends the prompts of ``journal`` and collects the answers, in `run`.

    Any thread may call `progress`. ``on_result`` is called in another thread when there are new
    results.
    """

    def __init__(
        self,
        journal: Journal,
        accounts: Sequence[Account],
        former: Sequence[Account],
        *,
        sender: Sender,
        give_up_after: float,
        on_result: Callable[[], None],
    ) -> None:
        self.failure: BaseException | None = None  # the error that left prompts without a result
        self._journal = journal
        self._accounts = list(accounts)
        self._former = list(former)
        self._sender = sender
        self._give_up_after = give_up_after
        self._tally = Tally(journal.counts())
        self._pending = Pending(journal)
        self._recorder = Recorder(journal, on_recorded=on_result, on_failure=self._fail_from_thread)
        self._attempts: set[Attempt] = set()
        self._others: set[asyncio.Task[None]] = set()  # collections
        self._longest = 0.0  # seconds that the slowest answer took
        self._stops_at: float | None = None  # the deadline of a stop
        self._has_lost_creations = False
        self._was_interrupted = journal.was_interrupted()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._changed: dict[int, asyncio.Event] = {}
        self._room = asyncio.Semaphore(_MOST_COLLECTED_AT_ONCE)

    # From any thread

    def progress(self) -> Progress:
        """The current progress."""
        accounts = (
            AccountProgress(each.base_url, each.in_flight, each.state) for each in self._accounts
        )
        return self._tally.progress(monotonic(), accounts)

    def _fail_from_thread(self, exc: JournalError) -> None:
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._fail, exc)

    # In the loop

    def stop(self, within: float) -> None:
        """Stop sending, and end ``within`` that many seconds."""
        if self._stops_at is None:
            self._stops_at = monotonic() + within
            self._wake()

    def end(self, within: float) -> None:
        """Like `stop`, because a session is being closed: unanswered prompts are a failure."""
        if self._is_work_left and self.failure is None:
            self.failure = ConfigurationError(
                "The session was closed before its batch had ended",
                hint="Close the batch first, for example with a with block.",
            )
        self.stop(within)

    async def run(self) -> None:
        """Run until every prompt has a result, every account is stopped, or `stop` is called."""
        self._loop = asyncio.get_running_loop()
        self._room = asyncio.Semaphore(_MOST_COLLECTED_AT_ONCE)
        everyone = [*self._accounts, *self._former]
        self._changed = {each.number: asyncio.Event() for each in everyone}
        self._recorder.start()
        try:
            self._journal.begin()
            for number in lost_accounts(self._journal, everyone):
                self._send_lost_again(number)
            loops = [self._serve(each) for each in self._accounts]
            loops += [self._collect_former(each) for each in self._former]
            await self._until_done([asyncio.create_task(each) for each in loops])
            if self._is_stopping:
                await self._leave()
            else:
                await self._sweep()
        except JournalError as exc:
            self._fail(exc)
        finally:
            await self._close()

    async def _close(self) -> None:
        left = self._left_to_stop()
        try:
            # In a thread, because it waits for requests.
            await asyncio.to_thread(self._recorder.close, left)
        except RuntimeError:  # the program ends: it starts no threads any more
            self._recorder.close(left)
        if self._is_last_run:
            self._hand_over()
        await self._sender.close()
        if left is None:
            for account in self._former:
                await account.session.aclose()

    def _hand_over(self) -> None:
        """Let the sessions delete what could not be deleted in time. No later run would do it."""
        for account in self._accounts:
            cleanup = account.session.wrapped._backend.cleanup
            with suppress(JournalError):
                for job in _pages(partial(self._journal.unanswered, account.number)):
                    assert job.conversation_id is not None
                    cleanup.add(job.conversation_id)
                after = ""
                while page := self._journal.left_conversations(account.number, after):
                    for conversation_id in page:
                        cleanup.add(conversation_id)
                    after = page[-1]

    async def _until_done(self, loops: list[asyncio.Task[None]]) -> None:
        try:
            while not all(each.done() for each in loops):
                await asyncio.wait(loops, timeout=_POLL_EVERY, return_when=asyncio.FIRST_EXCEPTION)
                for each in loops:
                    if each.done():
                        each.result()
                if self.failure is not None:
                    break
            while self._others and not self._is_stopping:
                await asyncio.wait(self._others, timeout=_POLL_EVERY)
        except Exception as exc:  # a `JournalError` or a bug
            self._fail(exc)
        finally:
            for each in loops:
                each.cancel()
            await asyncio.gather(*loops, return_exceptions=True)

    def _fail(self, exc: BaseException) -> None:
        """Stop the batch because of ``exc``, for example a journal that cannot be written."""
        if self.failure is None:
            self.failure = exc
        self.stop(2.0)

    @property
    def _is_stopping(self) -> bool:
        return self._stops_at is not None

    @property
    def _is_last_run(self) -> bool:
        """Whether no later run can collect answers: the journal is temporary."""
        return self._journal.path is None

    @property
    def _is_work_left(self) -> bool:
        return self._tally.counts.waiting > 0

    # One account

    async def _serve(self, account: Account) -> None:
        has_left = self._journal.has_left(account.number)
        if (self._is_work_left or has_left) and await self._is_ready(account):
            self._collect_left(account)
            await self._send(account)
        if account.stopped is None:
            account.state = "done"

    async def _send(self, account: Account) -> None:
        while not self._is_stopping and account.stopped is None and self._is_work_left:
            now = monotonic()
            wait = account.pace.wait(now)
            account.state = _state(account, wait)
            if wait or account.in_flight >= account.pace.at_once:
                await self._pause(account, wait or None)
            elif not self._recorder.has_room:
                await self._pause(account, 0.01)
            elif (job := self._pending.next(now)) is None:
                await self._pause(account, self._pending.due_in(now))
            else:
                self._begin(account, job)

    def _begin(self, account: Account, job: Job) -> None:
        attempt = Attempt(account, job)
        account.in_flight += 1
        account.pace.sending(attempt.began)
        attempt.task = asyncio.create_task(self._attempt(attempt))
        self._attempts.add(attempt)

    async def _is_ready(self, account: Account) -> bool:
        """Connect the account. Retries while prompts wait; return whether it succeeded."""
        while not self._is_stopping:
            began = monotonic()
            try:
                await account.prepare(self._journal)
                account.pace.succeeded(monotonic())
                return True
            except JournalError:
                raise
            except H2oError as exc:
                if not self._is_work_left:
                    log.warning("cannot delete conversations on %s: %s", account.base_url, exc)
                    return False
                if judge(exc) not in (Verdict.DOWN, Verdict.LIMITED, Verdict.LOST):
                    self._stop_account(account, exc)
                    return False
                wait = account.pace.failed(began, monotonic())
                if self._gives_up(account, exc):
                    return False
                account.state = f"waiting for the server ({exc.message})"
                await self._pause(account, max(_LEAST_PAUSE, wait))
        return False

    async def _pause(self, account: Account, seconds: float | None) -> None:
        """Wait until something has changed, or ``seconds`` have passed."""
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
        """Stop sending with ``account``. If it was the last one, the batch raises ``exc``."""
        if account.stopped is not None:
            return
        account.stopped, account.state = exc, f"stopped: {exc}"
        if all(each.stopped is not None for each in self._accounts):
            self._fail(account.stopped)
        else:
            log.warning("%s sends no more prompts: %s", account.base_url, exc)
        self._wake()

    def _gives_up(self, account: Account, exc: H2oError) -> bool:
        """Stop the account if its server was down for too long; return whether it was."""
        if account.pace.down_for(monotonic()) < self._give_up_after:
            return False
        self._stop_account(account, exc)
        return True

    # One prompt

    async def _attempt(self, attempt: Attempt) -> None:
        try:
            await self._send_prompt(attempt)
        except Exception as exc:  # a `JournalError` or a bug
            self._fail(exc)
        finally:
            self._attempts.discard(attempt)
            attempt.account.in_flight -= 1
            self._wake()

    async def _send_prompt(self, attempt: Attempt) -> None:
        try:
            answer = await self._sender.send(attempt, self._journal)
        except (JournalError, WorkerError):
            raise
        except H2oError as exc:
            if not attempt.is_left:
                self._judge(attempt, exc)
        else:
            if not attempt.is_left:
                attempt.account.pace.succeeded(attempt.began)
                self._longest = max(self._longest, attempt.seconds())
                self._on_answer(attempt, answer)

    def _on_answer(self, attempt: Attempt, answer: Answer) -> None:
        outcome = Outcome.from_answer(
            answer,
            attempts=attempt.job.attempts + 1,
            seconds=attempt.seconds(),
            server=attempt.account.base_url,
            ended_at=time.time(),
        )
        self._end(attempt, outcome, answer.conversation_id)

    def _on_failure(self, attempt: Attempt, exc: H2oError) -> None:
        outcome = Outcome.from_error(
            exc,
            attempts=attempt.job.attempts + 1,
            seconds=attempt.seconds(),
            server=attempt.account.base_url,
            ended_at=time.time(),
        )
        self._end(attempt, outcome, attempt.conversation_id or "")

    def _end(self, attempt: Attempt, outcome: Outcome, conversation_id: str) -> None:
        self._recorder.record(attempt.job.row, outcome, attempt.account, conversation_id)
        self._tally.add(monotonic(), has_failed=outcome.has_failed)
        if not self._is_work_left:
            self._wake()

    def _judge(self, attempt: Attempt, exc: H2oError) -> None:
        """Decide the consequence of a failed attempt for its prompt and its account."""
        account, now = attempt.account, monotonic()
        if attempt.conversation_id is None and isinstance(exc, TransportError):
            self._has_lost_creations = True
        verdict = judge(exc)
        # A gateway with such a status may have passed the message on.
        is_unsure = isinstance(exc, StatusError) and attempt.conversation_id is not None
        if verdict is Verdict.DOWN and is_unsure:
            verdict = Verdict.LOST
        if verdict in _UNCOUNTED or (self._is_stopping and verdict is Verdict.FAILED):
            self._requeue(attempt)
        if verdict is Verdict.SHUT_OUT:
            self._stop_account(account, exc)
        elif verdict is Verdict.LIMITED:
            wait = exc.retry_after if isinstance(exc, StatusError) else None
            account.pace.refused(attempt.began, now, wait)
            self._gives_up(account, exc)
        elif verdict is Verdict.FULL:
            account.pace.refused(attempt.began, now, _PAUSE_WHEN_FULL)
            if account.pace.refusals > _MOST_PAUSES_WHEN_FULL:
                self._stop_account(account, exc)
        elif verdict is Verdict.DOWN:
            account.pace.failed(attempt.began, now)
            self._gives_up(account, exc)
        elif verdict is Verdict.FINAL:
            self._on_failure(attempt, exc)
        elif not self._is_stopping:  # otherwise the next run collects lost answers
            if not isinstance(exc, GenerationError | WorkerLostError):
                account.pace.failed(attempt.began, now)
            if verdict is Verdict.LOST and attempt.conversation_id is not None:
                self._spawn(self._collect(account, _sent_job(attempt), exc))
            else:
                self._try_again(attempt, exc)

    def _requeue(self, attempt: Attempt) -> None:
        """Send the prompt again, without counting this attempt."""
        self._again(attempt, attempt.job.attempts, 0.0)

    def _try_again(self, attempt: Attempt, exc: H2oError) -> None:
        attempts = attempt.job.attempts + 1
        if attempts >= MOST_ATTEMPTS:
            self._on_failure(attempt, exc)
        else:
            self._again(attempt, attempts, delay_before(attempts))

    def _again(self, attempt: Attempt, attempts: int, delay: float) -> None:
        self._journal.note_retry(attempt.job.row, attempts)
        if attempt.conversation_id is not None:
            self._recorder.delete(attempt.account, attempt.conversation_id)
        job = msgspec.structs.replace(attempt.job, attempts=attempts, conversation_id=None)
        self._pending.put(job, monotonic() + delay)
        self._wake()

    # Answers and conversations that an earlier run has left on the server

    def _collect_left(self, account: Account) -> None:
        """Collect the answers of an earlier run, and delete its conversations."""
        for job in _pages(lambda after: self._journal.unanswered(account.number, after)):
            self._spawn(self._collect(account, job, None))
        after = ""
        while page := self._journal.left_conversations(account.number, after):
            for conversation_id in page:
                self._recorder.delete(account, conversation_id)
            after = page[-1]
        if self._was_interrupted and not account.is_given:
            for conversation_id in account.candidates:
                self._spawn(self._delete_if_empty(account, conversation_id))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._others.add(task)
        task.add_done_callback(self._note_end)

    def _note_end(self, task: asyncio.Task[None]) -> None:
        self._others.discard(task)
        if not task.cancelled() and (exc := task.exception()) is not None:
            self._fail(exc)
        self._wake()

    async def _collect(self, account: Account, job: Job, exc: H2oError | None) -> None:
        """Collect the answer to a prompt that was sent, or send the prompt again.

        ``exc`` is the error of the attempt, None if it was in an earlier run.
        """
        found = await self._find(account, job)
        if found is None:
            return  # the next run tries again
        attempt = Attempt(account, job)
        attempt.conversation_id = job.conversation_id
        attempt.began -= max(0.0, time.time() - job.sent_at)
        if not isinstance(found, Missing):
            self._on_answer(attempt, found)
        elif exc is None or (found is Missing.PROMPT and judge(exc) is Verdict.DOWN):
            self._requeue(attempt)
        else:
            self._try_again(attempt, exc)

    async def _find(self, account: Account, job: Job) -> Answer | Missing | None:
        """Read a prompt's answer from the server; None if the batch or the account was stopped."""
        assert job.conversation_id is not None
        async with self._room:
            while not self._is_stopping and account.stopped is None:
                began = monotonic()
                try:
                    return await collect(
                        account.session, job.conversation_id, lambda: self._patience(job)
                    )
                except JournalError:
                    raise
                except H2oError as exc:
                    if judge(exc) is Verdict.SHUT_OUT:
                        self._stop_account(account, exc)
                    else:
                        wait = account.pace.failed(began, monotonic())
                        if not self._gives_up(account, exc):
                            await asyncio.sleep(max(_LEAST_PAUSE, wait))
        return None

    def _patience(self, job: Job) -> float:
        """How many more seconds to wait for an answer that is not stored yet."""
        usual = 3 * self._longest if self._longest else _USUAL_PATIENCE
        patience = min(_MOST_PATIENCE, max(_LEAST_PATIENCE, usual))
        return job.sent_at + patience - time.time()

    async def _collect_former(self, account: Account) -> None:
        """Collect the answers of an account that only an earlier run used."""
        try:
            await account.prepare(self._journal)
        except JournalError:
            raise
        except H2oError as exc:
            log.warning(
                "cannot use %s, where an earlier run sent prompts: %s. Its unanswered prompts are "
                "sent again; its conversations stay there for a later run.",
                account.base_url,
                exc,
            )
            self._send_lost_again(account.number)
        else:
            self._collect_left(account)

    def _send_lost_again(self, number: int) -> None:
        """Send the unanswered prompts of an account that this run cannot use again."""
        for job in _pages(lambda after: self._journal.unanswered(number, after)):
            self._journal.note_retry(job.row, job.attempts)
            self._pending.put(msgspec.structs.replace(job, conversation_id=None), 0.0)

    async def _delete_if_empty(self, account: Account, conversation_id: str) -> None:
        with suppress(H2oError):
            found = await account.session._find_answer(conversation_id)
            is_fresh = account.is_given and conversation_id not in account.candidates
            if is_fresh and not found.is_taken:
                # Another program may have just created it, and may be about to send a message.
                await asyncio.sleep(_MESSAGE_WITHIN)
                found = await account.session._find_answer(conversation_id)
                if not found.is_certain:
                    return
            if not found.is_taken:
                self._recorder.delete(account, conversation_id)

    async def _sweep(self) -> None:
        """Delete empty conversations whose creation was interrupted."""
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
        """Seconds until the deadline of a stop; None if the batch was not stopped."""
        return None if self._stops_at is None else max(0.0, self._stops_at - monotonic())

    async def _leave(self) -> None:
        """Wait briefly for answers. Leave the others to the server, or stop and delete them."""
        tasks = [each.task for each in self._attempts if each.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=_FINISH_SHARE * (self._left_to_stop() or 0.0))
        ends = [self._left(each) for each in list(self._attempts)]
        for other in self._others:
            other.cancel()
        work = asyncio.gather(*ends, *self._others, return_exceptions=True)
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(work, timeout=max(0.1, self._left_to_stop() or 0.0))
        for account in self._accounts if self._is_last_run else ():
            for job in _pages(partial(self._journal.unanswered, account.number)):
                assert job.conversation_id is not None
                self._recorder.delete(account, job.conversation_id)

    async def _left(self, attempt: Attempt) -> None:
        if attempt.task is None or attempt.task.done():
            return
        attempt.is_left = True
        if attempt.conversation_id is not None:
            is_stopped = self._is_last_run or not self._sender.can_leave(attempt)
            if is_stopped:
                # Note this before the stop: on v0.3 to v0.6 a stopped answer looks complete.
                self._journal.note_waiting([(attempt.job.row, attempt.job.attempts)])
            with suppress(H2oError):
                await self._sender.leave(attempt, stops=is_stopped)
            if is_stopped:
                self._recorder.delete(attempt.account, attempt.conversation_id)
        attempt.task.cancel()


_UNCOUNTED = (Verdict.SHUT_OUT, Verdict.LIMITED, Verdict.FULL, Verdict.DOWN)


def _state(account: Account, wait: float) -> str:
    if wait and account.pace.is_down:
        return f"waiting for the server, {wait:.0f} s"
    return f"waiting for the rate limit, {wait:.0f} s" if wait else "answering"


def _pages(read: Callable[[int], list[Job]]) -> Iterator[Job]:
    after = 0
    while page := read(after):
        yield from page
        after = page[-1].row


def _sent_job(attempt: Attempt) -> Job:
    return msgspec.structs.replace(
        attempt.job,
        conversation_id=attempt.conversation_id,
        token=attempt.token,
        sent_at=attempt.sent_at,
    )
