"""The values that the server stores: messages, conversations, shared pages, settings.

v0.3 has a list of messages, v0.9.6 and later a tree. Each ignores the fields of the other.
"""

from __future__ import annotations

import re
from datetime import datetime, timezone
from typing import Literal

import msgspec

from h2o_client.wire.events import Failure, Final, Status, Title


class Streamed(msgspec.Struct, frozen=True):
    """A piece of an answer's text. ``length`` is in UTF-16 units; the text is in the message."""

    length: int


Update = Streamed | Final | Failure | Title | Status


class File(msgspec.Struct, frozen=True):
    """A file of a message. ``sha`` is the SHA-256 of its content."""

    sha: str
    name: str
    mime: str
    content: bytes

    @property
    def size(self) -> int:
        """About how much memory it takes, in bytes."""
        return len(self.content) + text_size(self.name) + text_size(self.mime) + _OVERHEAD


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A stored message.

    On v0.3 to v0.6, a retried prompt has no ``created_at``, as in chat-ui. Since v0.9.6, a message
    follows its ``parent``, ``updates`` are those of its answer (None until it has ended), and
    ``interrupted`` is set once an answer has a final update. On the latest version, an answer has
    the ``generation_id`` of its run, and also ``updates`` while it is running: the first
    ``materialized_seq`` of them.
    """

    id: str
    sender: Literal["system", "user", "assistant"]
    content: str
    created_at: datetime | None = None
    updated_at: datetime
    score: int | None = None
    web_search_id: str = ""
    parent: str | None = None
    files: tuple[File, ...] = ()
    updates: tuple[Update, ...] | None = None
    interrupted: bool | None = None
    generation_id: str | None = None
    materialized_seq: int | None = None

    @property
    def size(self) -> int:
        """About how much memory it takes, in bytes."""
        files = sum(each.size for each in self.files)
        updates = sum(_UPDATE + _update_size(each) for each in self.updates or ())
        return text_size(self.content) + files + updates + _OVERHEAD


class Conversation(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot of a conversation. ``searches`` are the ids of its web searches."""

    id: str
    session: str
    model: str
    title: str
    preprompt: str = ""
    messages: tuple[Message, ...] = ()
    searches: tuple[str, ...] = ()
    updated_at: datetime

    @property
    def size(self) -> int:
        """About how much memory it takes, in bytes."""
        return text_size(self.session) + _size(self)


class Shared(msgspec.Struct, frozen=True, kw_only=True):
    """A shared copy of a conversation. Anyone who knows the id may read it."""

    id: str
    model: str
    title: str
    preprompt: str = ""
    messages: tuple[Message, ...]
    searches: tuple[str, ...] = ()
    updated_at: datetime

    @property
    def size(self) -> int:
        """About how much memory it takes, in bytes."""
        return _size(self)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """A session's settings, with chat-ui's defaults. ``document`` is the JSON of v0.9.6."""

    share: bool = True
    active_model: str | None = None
    accepted_at: datetime | None = None
    document: bytes = b""


_OVERHEAD = 500  # bytes of a message, a file or a conversation besides its texts
_UPDATE = 100  # bytes of an update


def _size(kept: Conversation | Shared) -> int:
    texts = text_size(kept.title) + text_size(kept.preprompt)
    return sum(each.size for each in kept.messages) + texts + _OVERHEAD


def text_size(text: str) -> int:
    """The largest number of bytes that its characters take in memory."""
    return len(text) if text.isascii() else 4 * len(text)


def _update_size(update: Update) -> int:
    # The text of a final update is stored in the message.
    if isinstance(update, Title):
        return text_size(update.title)
    return text_size(update.message) if isinstance(update, Failure | Status) else 0


def parse_id(text: str) -> str:
    """The id as it is stored. Raises ValueError if it is not valid for a MongoDB ObjectId."""
    if re.fullmatch(r"[0-9a-fA-F]{24}", text):
        return text.lower()
    if len(text.encode()) == 12:
        return text
    raise ValueError("a conversation's id must have 24 hexadecimal digits")


def now() -> datetime:
    """The current time, in UTC."""
    return datetime.now(timezone.utc)
