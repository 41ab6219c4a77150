"""The accounts of a batch: sessions, each with its pace, its cookies and the conversations it had.

A rerun takes up the sessions of the run before: the cookies that a server gave are in the journal,
those that the user gave are told again by their hash.
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
    """One session that prompts are sent with.

    ``stopped`` is why it sends none any more, ``state`` what it waits for, in words.
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
        """Have a session that the journal knows, before anything is made in it.

        ``candidates`` are then the conversations that an earlier run may have left. Raises what the
        server says.
        """
        try:
            listed = await self.listed()
        except ProtocolError as exc:
            log.warning("the conversations that there are already are not known: %s", exc)
            await self.session.settings()
            listed = {}
        if self._baseline is None:
            self._baseline = frozenset(listed)
        self.candidates = [each for each in listed if self._may_be_left(each, journal)]
        jar = self.session.wrapped._transport.cookies
        cookies = None if jar.given else jar.written()
        journal.note_account(self.number, cookies, self._baseline)

    async def listed(self) -> dict[str, datetime | None]:
        """The ids of all conversations there are."""
        return {str(each.id): each.updated_at async for each in self.session.conversations()}

    async def unknown(self, journal: Journal) -> list[str]:
        """Conversations that came while the batch ran, and that it does not know."""
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
    """The accounts of this run, and those of earlier ones that this one does not have."""
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
    """The numbers of accounts whose cookies the user gave an earlier run, and not this one."""
    numbers = {each.number for each in known}
    return [each.number for each in journal.accounts() if each.number not in numbers]


def _is_of(stored: StoredAccount, session: AsyncH2oSession) -> bool:
    if stored.base_url != session.base_url or stored.given != _hash_of(session):
        return False
    jar = session.wrapped._transport.cookies
    # One that has cookies of the server's is a session of its own already.
    return bool(stored.given) or not len(jar) or jar.written() == stored.cookies


def _hash_of(session: AsyncH2oSession) -> str:
    """Tells whether the user's cookies are the same; "" for a session without."""
    jar = session.wrapped._transport.cookies
    if not jar.given:
        return ""
    pairs = sorted((each.name, each.value or "") for each in jar.kept())
    return hashlib.sha256(repr(pairs).encode()).hexdigest()


def _former(stored: StoredAccount, sessions: Sequence[AsyncH2oSession]) -> Account:
    """A session with the cookies that an earlier run was given by its server."""
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
