"""A cache of conversations that clients may continue, found by their exact history.

The cache is bounded, and unused conversations expire. It needs no lock, because only one event loop
uses it, and nothing is awaited between finding a conversation and marking it as busy.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec

from h2o_client.gateway.chat_request import Turn
from h2o_client.timeouts import monotonic

if TYPE_CHECKING:
    from h2o_client.aio.conversation import AsyncConversation


class Round(msgspec.Struct, frozen=True):
    """A prompt that was sent, and its answer."""

    prompt: str
    answer: str

    def __repr__(self) -> str:
        return "<Round>"  # error trackers show variables: no text here

    def is_stored_as(self, prompt: str, answer: str) -> bool:
        """Whether the server's texts are the same, apart from surrounding whitespace."""
        same_prompt = self.prompt.strip() == prompt.strip()
        return same_prompt and self.answer.strip() == answer.strip()


class Place(msgspec.Struct, frozen=True):
    """A point in a conversation: the rounds up to this point, and the digest of their history."""

    digest: bytes
    rounds: tuple[Round, ...]


class Kept:
    """One conversation of a user. ``end`` is the digest of its history.

    ``end`` is None if the last answer was stopped or failed: then no client knows the history.
    """

    def __init__(self, conversation: AsyncConversation, owner: bytes) -> None:
        self.conversation = conversation
        self.owner = owner
        self.end: bytes | None = None
        self.is_busy: bool = False
        self.used_at: float = monotonic()
        self.places: dict[bytes, Place] = {}


class ConversationCache:
    """At most ``most`` conversations. Each expires after ``seconds`` without use.

    The methods that remove conversations do not delete them: the caller does.
    """

    def __init__(self, *, most: int, seconds: float) -> None:
        self._most = most
        self._seconds = seconds
        self._all: dict[int, Kept] = {}
        self._by_digest: dict[bytes, Kept] = {}

    def __len__(self) -> int:
        return len(self._all)

    def find(self, digest: bytes) -> Kept | None:
        """The conversation that begins with that history; None if there is none or it is busy."""
        kept = self._by_digest.get(digest)
        return None if kept is None or kept.is_busy else kept

    def by_id(self, conversation_id: str, owner: bytes) -> Kept | None:
        """The owner's conversation with that id, busy or not."""
        for kept in self._all.values():
            if kept.owner == owner and kept.conversation.id == conversation_id:
                return kept
        return None

    def keep(self, kept: Kept, place: Place) -> None:
        """Add a conversation, or update it: its history now ends at ``place``."""
        kept.end, kept.used_at = place.digest, monotonic()
        kept.places[place.digest] = place
        self._all[id(kept)] = kept
        self._by_digest[place.digest] = kept

    def remove(self, kept: Kept) -> None:
        """Remove a conversation from the cache."""
        self._all.pop(id(kept), None)
        for digest in kept.places:
            if self._by_digest.get(digest) is kept:
                del self._by_digest[digest]

    def remove_overdue(self) -> list[Kept]:
        """Remove and return the expired conversations and, if there are too many, the oldest."""
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
            self.remove(kept)
        return due

    def remove_idle(self) -> list[Kept]:
        """Remove and return all conversations that are not busy."""
        found = [kept for kept in self._all.values() if not kept.is_busy]
        for kept in found:
            self.remove(kept)
        return found


def prompt_of(turns: Iterable[Turn]) -> str:
    """Join the turns into one prompt: chat-ui accepts one prompt for each answer."""
    return "\n\n".join(turn.text for turn in turns if turn.text.strip())


def files_of(turns: Iterable[Turn]) -> list[bytes]:
    """The files of all turns."""
    return [file for turn in turns for file in turn.files]
