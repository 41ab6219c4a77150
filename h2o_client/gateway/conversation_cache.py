"""The conversations that may go on: found by their exact history, bounded, and given up in time.

All of it runs in one event loop: nothing is awaited between looking and taking.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec

from h2o_client.gateway.chat_request import Turn
from h2o_client.timeouts import monotonic

if TYPE_CHECKING:
    from h2o_client.aio.conversation import AsyncConversation


class Told(msgspec.Struct, frozen=True):
    """A prompt as it was sent, and its answer: the server keeps both."""

    prompt: str
    answer: str

    def __repr__(self) -> str:
        return "<Told>"  # error trackers show what the frames of a traceback hold

    def is_stored_as(self, prompt: str, answer: str) -> bool:
        """Whether these are the server's texts of the two. Blanks around them do not count."""
        same_prompt = self.prompt.strip() == prompt.strip()
        return same_prompt and self.answer.strip() == answer.strip()


class Place(msgspec.Struct, frozen=True):
    """A point in a conversation: what was said up to there, by the ``digest`` of the history."""

    digest: bytes
    told: tuple[Told, ...]


class Kept:
    """One conversation of a user's. ``end`` is the digest at which it can go on.

    ``end`` is None once it has gone on in a way that no client has seen whole: an answer that was
    stopped, or that failed.
    """

    def __init__(self, conversation: AsyncConversation, owner: bytes) -> None:
        self.conversation = conversation
        self.owner = owner
        self.end: bytes | None = None
        self.is_busy: bool = False
        self.used_at: float = monotonic()
        self.places: dict[bytes, Place] = {}


class ConversationCache:
    """At most ``most`` conversations, each until it was unused for ``seconds``.

    Whatever gives one up returns it, and the caller closes it.
    """

    def __init__(self, *, most: int, seconds: float) -> None:
        self._most = most
        self._seconds = seconds
        self._all: dict[int, Kept] = {}
        self._by_place: dict[bytes, Kept] = {}

    def __len__(self) -> int:
        return len(self._all)

    def at(self, digest: bytes) -> Kept | None:
        """The conversation that has been there, if nothing is under way in it."""
        kept = self._by_place.get(digest)
        return None if kept is None or kept.is_busy else kept

    def by_id(self, conversation_id: str, owner: bytes) -> Kept | None:
        """The owner's conversation with that id, busy or not."""
        for kept in self._all.values():
            if kept.owner == owner and kept.conversation.id == conversation_id:
                return kept
        return None

    def keep(self, kept: Kept, place: Place) -> None:
        """It has come to that place, and can go on from there."""
        kept.end, kept.used_at = place.digest, monotonic()
        kept.places[place.digest] = place
        self._all[id(kept)] = kept
        self._by_place[place.digest] = kept

    def give_up(self, kept: Kept) -> None:
        """Nobody can find it any more."""
        self._all.pop(id(kept), None)
        for digest in kept.places:
            if self._by_place.get(digest) is kept:
                del self._by_place[digest]

    def overdue(self) -> list[Kept]:
        """Gives up those that were unused for too long, and the longest unused of too many."""
        now = monotonic()
        idle = sorted(
            (kept for kept in self._all.values() if not kept.is_busy), key=lambda kept: kept.used_at
        )
        surplus = max(0, len(self._all) - self._most)
        due = [
            kept
            for rank, kept in enumerate(idle)
            if rank < surplus or now - kept.used_at > self._seconds
        ]
        for kept in due:
            self.give_up(kept)
        return due

    def idle(self) -> list[Kept]:
        """Gives up all that are not busy."""
        found = [kept for kept in self._all.values() if not kept.is_busy]
        for kept in found:
            self.give_up(kept)
        return found


def prompt_of(turns: Iterable[Turn]) -> str:
    """The users' last turns as one message: chat-ui has one prompt for each answer."""
    return "\n\n".join(turn.text for turn in turns if turn.text.strip())


def files_of(turns: Iterable[Turn]) -> list[bytes]:
    """The files of all turns."""
    return [file for turn in turns for file in turn.files]
