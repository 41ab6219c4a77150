"""Conversations that are created in advance, for `H2oSession(prepare=...)`.

They are temporary: if no prompt uses them, the end of the session deletes them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from h2o_client.backend.standing_threads import run_in_standing_thread
from h2o_client.dialects.documents import Created
from h2o_client.errors import H2oError
from h2o_client.log import log
from h2o_client.timeouts import monotonic
from h2o_client.transport.call import Call, Woken
from h2o_client.transport.locks import Guard

if TYPE_CHECKING:
    from h2o_client.backend.cleanup import Cleanup
    from h2o_client.backend.creation import Creations
    from h2o_client.dialects.dialect import Dialect
    from h2o_client.timeouts import Timeouts

_GOOD_FOR = 300.0  # seconds


class Wanted(msgspec.Struct, frozen=True):
    """The properties of a conversation. ``dialect`` is the server's dialect at its creation."""

    dialect: Dialect
    model: str
    preprompt: str | None

    def __repr__(self) -> str:
        return "<Wanted>"  # it contains a system prompt

    def is_same(self, other: Wanted) -> bool:
        """Whether a conversation with one's properties fits the other."""
        same = (self.model, self.preprompt) == (other.model, other.preprompt)
        return same and self.dialect.is_of_era(other.dialect)


class _Prepared(msgspec.Struct, frozen=True):
    wanted: Wanted
    created: Created
    at: float


class PreparedConversations:
    """Up to ``most`` conversations, each for one later answer. Threads may share it."""

    def __init__(
        self, most: int, creations: Creations, cleanup: Cleanup, timeouts: Timeouts
    ) -> None:
        self._most = most
        self._creations = creations
        self._cleanup = cleanup
        self._timeouts = timeouts
        self._guard = Guard()  # guards the next three attributes
        self._ready: list[_Prepared] = []
        self._in_progress: list[Call] = []
        self._is_closed = False

    def take(self, wanted: Wanted) -> Created | None:
        """Return a conversation that is ready, or None. The caller becomes its owner."""
        if not self._most:
            return None
        with self._guard:
            found = next((each for each in self._ready if _is_good(each, wanted)), None)
            if found is not None:
                self._ready.remove(found)
        return None if found is None else found.created

    def refill(self, wanted: Wanted, leaf_of: Callable[[str, Call], str | None]) -> None:
        """Create conversations in the background until ``most`` fit ``wanted``. Delete the others.

        ``leaf_of`` reads the id of the message that the first prompt follows, if the response to
        the creation does not contain it.
        """
        if not self._most:
            return
        call = Call(self._timeouts)
        with self._guard:
            useless = [each for each in self._ready if not _is_good(each, wanted)]
            for each in useless:
                self._ready.remove(each)
            starts = len(self._ready) + len(self._in_progress) < self._most
            if starts:
                self._in_progress.append(call)
                # After adding it: either `close` wakes the call, or this sees that it was called.
                if self._is_closed:
                    self._in_progress.remove(call)
                    starts = False
        for each in useless:
            # If too many deletions are pending, the end of the session deletes it.
            self._cleanup.delete_in_background(each.created.id)
        if not starts:
            return
        self._cleanup.pending.add(call)
        try:
            run_in_standing_thread(partial(self._prepare, wanted, leaf_of, call))
        except BaseException as exc:
            self._finish(call)
            if not isinstance(exc, RuntimeError):  # no more threads
                raise

    def ids(self) -> set[str]:
        """The ids of the conversations that are ready."""
        with self._guard:
            return {each.created.id for each in self._ready}

    def close(self) -> None:
        """Stop creating conversations. A finalizer may call this.

        The cleanup deletes those that are ready.
        """
        self._is_closed = True
        for call in list(self._in_progress):
            call.wake()

    def forget(self) -> None:
        """Forget all conversations in a forked child: they belong to the parent."""
        self._guard = Guard()
        self._ready, self._in_progress = [], []

    def _prepare(
        self, wanted: Wanted, leaf_of: Callable[[str, Call], str | None], call: Call
    ) -> None:
        try:
            created = self._creations.create(wanted.model, wanted.preprompt, call)
            if created.leaf is None and not wanted.dialect.chooses_ids:
                created = Created(created.id, leaf_of(created.id, call))
            with self._guard:
                if not self._is_closed:
                    self._ready.append(_Prepared(wanted, created, monotonic()))
        except Woken:
            pass  # if the conversation is created later, it is deleted
        except H2oError as exc:
            log.info("could not create a conversation in advance: %s", exc)
        finally:
            self._finish(call)

    def _finish(self, call: Call) -> None:
        with self._guard, suppress(ValueError):
            self._in_progress.remove(call)
        self._cleanup.pending.discard(call)


def _is_good(prepared: _Prepared, wanted: Wanted) -> bool:
    return prepared.wanted.is_same(wanted) and monotonic() - prepared.at < _GOOD_FOR
