"""Write results to the journal, then delete their conversations, in background threads.

This way neither the disk nor a slow server delays a prompt.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from h2o_client.batch.journal import Journal, JournalError
from h2o_client.batch.results import Outcome
from h2o_client.errors import H2oError, NotFoundError
from h2o_client.log import log
from h2o_client.timeouts import monotonic

if TYPE_CHECKING:
    from h2o_client.batch.accounts import Account

_GROUPED_WITHIN = 0.01  # seconds; results that arrive within this time are written together
_MOST_GROUPED = 256
_DELETED_AT_ONCE = 2
_MOST_PENDING = 64  # conversations; beyond that, prompts wait, because servers limit the number
_NOTED_AT_ONCE = 32
_TRIES = 3
_PAUSE = 1.0

Recorded = tuple[int, Outcome, "Account", str]
"""A row, its result, the account, and the conversation to delete ("" for none)."""


class Recorder:
    """Records the results of one batch. Any thread may call all methods except `close`.

    ``on_recorded`` is called when results were written, ``on_failure`` if they cannot be written.
    """

    def __init__(
        self,
        journal: Journal,
        *,
        on_recorded: Callable[[], None],
        on_failure: Callable[[JournalError], None],
    ) -> None:
        self._journal = journal
        self._on_recorded = on_recorded
        self._on_failure = on_failure
        self._results: SimpleQueue[Recorded | None] = SimpleQueue()
        self._deletions = _Deletions(journal)
        self._thread = threading.Thread(
            target=self._work, name="h2o_client-batch-journal", daemon=False
        )

    def start(self) -> None:
        """Start the threads. Call it once."""
        self._thread.start()
        self._deletions.start()

    def record(self, row: int, outcome: Outcome, account: Account, conversation_id: str) -> None:
        """Write the result of a row, then delete its conversation. Returns at once."""
        self._results.put((row, outcome, account, conversation_id))

    def delete(self, account: Account, conversation_id: str) -> None:
        """Delete a conversation that is no longer needed. Returns at once."""
        self._deletions.add(account, conversation_id)

    @property
    def has_room(self) -> bool:
        """Whether another prompt may be sent: few conversations are waiting for deletion."""
        return self._deletions.count <= _MOST_PENDING

    def close(self, seconds: float | None) -> None:
        """Write all results, and delete for at most ``seconds`` (None: no limit)."""
        self._results.put(None)
        self._thread.join(seconds)
        self._deletions.close(seconds)

    def _work(self) -> None:
        try:
            while (first := self._results.get()) is not None:
                group, is_last = self._group(first)
                self._write(group)
                if is_last:
                    break
        except JournalError as exc:
            self._on_failure(exc)

    def _group(self, first: Recorded) -> tuple[list[Recorded], bool]:
        """Return the results that arrive at about the same time, and whether they are the last."""
        group, end = [first], monotonic() + _GROUPED_WITHIN
        while len(group) < _MOST_GROUPED:
            try:
                each = self._results.get(timeout=max(0.0, end - monotonic()))
            except Empty:
                break
            if each is None:
                return group, True
            group.append(each)
        return group, False

    def _write(self, group: list[Recorded]) -> None:
        self._journal.note_outcomes([(row, outcome) for row, outcome, _, _ in group])
        for _, _, account, conversation_id in group:
            if conversation_id:
                self._deletions.add(account, conversation_id)
        self._on_recorded()


class _Deletions:
    """Deletes conversations, a few at a time.

    A failed deletion is retried at the end, because a server that was down may be up again. If it
    fails again, the conversation stays in the journal for the next run.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._pending: SimpleQueue[tuple[Account, str] | None] = SimpleQueue()
        self._lock = threading.Lock()  # guards both lists
        self._deleted: list[tuple[int, str]] = []  # deleted, but not noted in the journal yet
        self._failed: list[tuple[Account, str]] = []
        self._is_late = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, name="h2o_client-batch-deletions", daemon=False)
            for _ in range(_DELETED_AT_ONCE)
        ]

    @property
    def count(self) -> int:
        """How many conversations are waiting."""
        return self._pending.qsize()

    def start(self) -> None:
        for each in self._threads:
            each.start()

    def add(self, account: Account, conversation_id: str) -> None:
        self._pending.put((account, conversation_id))

    def close(self, seconds: float | None) -> None:
        end = None if seconds is None else monotonic() + seconds
        for _ in self._threads:
            self._pending.put(None)
        for each in self._threads:
            each.join(None if end is None else max(0.0, end - monotonic()))
        if end is None:
            self._retry()
        self._is_late.set()
        self._note()

    def _work(self) -> None:
        while (found := self._pending.get()) is not None:
            if not self._is_late.is_set():
                self._delete(*found)

    def _delete(self, account: Account, conversation_id: str) -> None:
        for tried in range(_TRIES):
            if tried and self._is_late.wait(_PAUSE):
                return
            try:
                self._try(account, conversation_id)
            except H2oError as exc:
                log.info("cannot delete conversation %s yet: %s", conversation_id, exc)
            else:
                return
        with self._lock:
            self._failed.append((account, conversation_id))

    def _retry(self) -> None:
        """Try the failed deletions again, until one fails again."""
        with self._lock:
            failed, self._failed = self._failed, []
        for done, (account, conversation_id) in enumerate(failed):
            try:
                self._try(account, conversation_id)
            except H2oError as exc:
                left = len(failed) - done
                log.warning("%d conversations are left for the next run: %s", left, exc)
                return

    def _try(self, account: Account, conversation_id: str) -> None:
        """Delete a conversation. Raises `H2oError`."""
        with suppress(NotFoundError):
            account.session.wrapped.conversation(conversation_id).delete()
        with self._lock:
            self._deleted.append((account.number, conversation_id))
            is_due = len(self._deleted) >= _NOTED_AT_ONCE
        if is_due:
            self._note()

    def _note(self) -> None:
        with self._lock:
            deleted, self._deleted = self._deleted, []
        if not deleted:
            return
        try:
            self._journal.note_deleted(deleted)
        except JournalError as exc:
            log.warning("cannot note deleted conversations in the journal: %s", exc)
