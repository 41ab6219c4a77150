"""Deletes conversations behind the prompts, a few at a time, when the journal has their results."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from h2o_client.batch.journal import Journal, JournalError
from h2o_client.errors import H2oError, NotFoundError
from h2o_client.log import log

if TYPE_CHECKING:
    from h2o_client.batch.accounts import Account

_AT_ONCE = 4
_MOST_PENDING = 64  # beyond which prompts wait: a server may allow so many conversations only
_NOTED_AT_ONCE = 32
_TRIES = 3
_PAUSE = 1.0


class Deletions:
    """The conversations that are to be deleted. What cannot be deleted stays in the journal."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._pending: asyncio.Queue[tuple[Account, str]] = asyncio.Queue()
        self._deleted: list[tuple[int, str]] = []
        self._workers: list[asyncio.Task[None]] = []
        self._has_room = asyncio.Event()

    def start(self) -> None:
        """In the loop that runs."""
        self._pending, self._has_room = asyncio.Queue(), asyncio.Event()
        self._has_room.set()
        self._workers = [asyncio.create_task(self._work()) for _ in range(_AT_ONCE)]

    def add(self, account: Account, conversation_id: str) -> None:
        """Delete it soon."""
        self._pending.put_nowait((account, conversation_id))
        if self._pending.qsize() > _MOST_PENDING:
            self._has_room.clear()

    async def have_room(self) -> None:
        """Wait while too many are pending."""
        await self._has_room.wait()

    async def close(self, seconds: float | None) -> None:
        """Delete what is pending, for so long at most (None: as long as it takes)."""
        try:
            done = asyncio.ensure_future(self._pending.join())
            await asyncio.wait([done], timeout=seconds)
            done.cancel()
        finally:
            self._has_room.set()
            for each in self._workers:
                each.cancel()
            await asyncio.gather(*self._workers, return_exceptions=True)
            self._note()

    async def _work(self) -> None:
        while True:
            account, conversation_id = await self._pending.get()
            try:
                await self._delete(account, conversation_id)
            finally:
                self._pending.task_done()
                if self._pending.qsize() <= _MOST_PENDING // 2:
                    self._has_room.set()

    async def _delete(self, account: Account, conversation_id: str) -> None:
        for tried in range(_TRIES):
            try:
                await account.session.conversation(conversation_id).delete()
            except NotFoundError:
                pass
            except H2oError as exc:
                if tried + 1 == _TRIES:
                    log.warning("conversation %s stays for the next run: %s", conversation_id, exc)
                    return
                await asyncio.sleep(_PAUSE)
                continue
            self._deleted.append((account.number, conversation_id))
            if len(self._deleted) >= _NOTED_AT_ONCE:
                self._note()
            return

    def _note(self) -> None:
        deleted, self._deleted = self._deleted, []
        if not deleted:
            return
        try:
            self._journal.note_deleted(deleted)
        except JournalError as exc:
            log.warning("what was deleted is not noted: %s", exc)
