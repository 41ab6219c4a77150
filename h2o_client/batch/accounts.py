"""The accounts of a batch: sessions with their pace, cookies and earlier conversations.

A later run uses the sessions of the previous run. For this, the journal stores the cookies that a
server has set, and a hash of the cookies that the user passed.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Sequence
from typing import TYPE_CHECKING

from h2o_client.batch.journal import Journal, StoredAccount
from h2o_client.batch.pacing import Pace
from h2o_client.errors import H2oError, ProtocolError
from h2o_client.log import log

if TYPE_CHECKING:
    from datetime import datetime

    from h2o_client.aio.session import AsyncH2oSession


class Account:
    """One session that sends prompts.

    ``stopped`` is the error after which it sends no more prompts. ``state`` says in words what it
    is doing or waiting for.
    """

    def __init__(self, session: AsyncH2oSession, stored: StoredAccount, pace: Pace) -> None:
        self.session: AsyncH2oSession = session
        self.number: int = stored.number
        self.pace: Pace = pace
        self.in_flight: int = 0
        self.stopped: H2oError | None = None
        self.state: str = "connecting"
        self.is_given: bool = bool(stored.given)
        self.candidates: list[str] = []
        self._baseline = stored.baseline

    @property
    def base_url(self) -> str:
        """The server's address."""
        return self.session.base_url

    async def prepare(self, journal: Journal) -> None:
        """Open the session and record it in the journal, before it creates a conversation.

        Sets ``candidates`` to the conversations that an earlier run may have left. Raises
        `H2oError` if the server cannot be used.
        """
        try:
            listed = await self.listed()
        except ProtocolError as exc:
            log.warning("cannot list the existing conversations: %s", exc)
            await self.session.settings()
            listed = {}
        if self._baseline is None:
            self._baseline = frozenset(listed)
        self.candidates = [each for each in listed if self._may_be_left(each, journal)]
        jar = self.session.wrapped._transport.cookies
        cookies = None if jar.given else jar.written()
        journal.note_account(self.number, cookies, self._baseline)

    async def listed(self) -> dict[str, datetime | None]:
        """List all conversations: ids and the times of their last change."""
        return {str(each.id): each.updated_at async for each in self.session.conversations()}

    async def unknown(self, journal: Journal) -> list[str]:
        """List conversations that were created during the batch but are not in the journal."""
        return [each for each in await self.listed() if self._may_be_left(each, journal)]

    def _may_be_left(self, conversation_id: str, journal: Journal) -> bool:
        baseline = self._baseline or frozenset()
        return conversation_id not in baseline and not journal.knows(self.number, conversation_id)


def open_accounts(
    journal: Journal,
    sessions: Sequence[AsyncH2oSession],
    *,
    concurrency: int,
    per_minute: int | None,
) -> tuple[list[Account], list[Account]]:
    """Return this run's accounts, and those that only earlier runs used."""
    stored = journal.accounts()
    found = []
    for session in sessions:
        known = next((each for each in stored if _is_of(each, session)), None)
        if known is None:
            known = journal.add_account(session.base_url, _hash_of(session))
        else:
            stored.remove(known)
            if known.cookies is not None:
                session.wrapped._transport.cookies.restore_written(known.cookies)
        found.append(Account(session, known, Pace(concurrency, per_minute)))
    left = [each for each in stored if journal.has_left(each.number)]
    return found, [_former(each, sessions) for each in left if each.cookies is not None]


def lost_accounts(journal: Journal, known: Sequence[Account]) -> list[int]:
    """The numbers of the accounts of earlier runs whose cookies are not passed to this run."""
    numbers = {each.number for each in known}
    return [each.number for each in journal.accounts() if each.number not in numbers]


def _is_of(stored: StoredAccount, session: AsyncH2oSession) -> bool:
    if stored.base_url != session.base_url or stored.given != _hash_of(session):
        return False
    jar = session.wrapped._transport.cookies
    # If the user passed no cookies, a session that already has other cookies is another account.
    return bool(stored.given) or not len(jar) or jar.written() == stored.cookies


def _hash_of(session: AsyncH2oSession) -> str:
    """A hash of the cookies that the user passed; "" without them."""
    jar = session.wrapped._transport.cookies
    if not jar.given:
        return ""
    pairs = sorted((each.name, each.value or "") for each in jar.kept())
    return hashlib.sha256(repr(pairs).encode()).hexdigest()


def _former(stored: StoredAccount, sessions: Sequence[AsyncH2oSession]) -> Account:
    """The account of an earlier run, with the cookies that its server has set."""
    from h2o_client.aio.session import AsyncH2oSession
    from h2o_client.session import H2oSession

    assert stored.cookies is not None
    same = [each.wrapped for each in sessions if each.base_url == stored.base_url]
    if same:
        session: H2oSession = pickle.loads(pickle.dumps(same[0]))
    else:
        session = H2oSession(stored.base_url, cookies={})
    session._transport.cookies.restore_written(stored.cookies)
    return Account(AsyncH2oSession._wrapping(session), stored, Pace(1, None))
