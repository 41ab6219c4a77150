"""What the server keeps: messages, conversations, shared pages, settings. Values, all frozen.

v0.3 has a list of messages, v0.9.6 and later a tree of them; each ignores the other's fields.
"""

from __future__ import annotations

import re
from datetime import datetime, timezone
from typing import Literal

import msgspec

from h2o_client.wire.events import Failure, Final, Status, Title


class Streamed(msgspec.Struct, frozen=True):
    """A piece of an answer's text, which stands in its message's content: how long it was, in
    UTF-16 units."""

    length: int


Update = Streamed | Final | Failure | Title | Status


class File(msgspec.Struct, frozen=True):
    """A file that came with a message; ``sha`` is its content's SHA-256."""

    sha: str
    name: str
    mime: str
    content: bytes

    @property
    def size(self) -> int:
        """About how much memory it takes, in bytes."""
        return len(self.content) + text_size(self.name) + text_size(self.mime) + _OVERHEAD


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A message as it is kept.

    In A a question asked again has no ``created_at``, as in chat-ui. In E a message hangs on its
    ``parent``, ``updates`` are how its answer came about (None while it does), and
    ``interrupted`` is said of an answer that has ended with a final one. In F an answer has the
    ``generation_id`` of its run, and ``updates`` while it comes about, too: ``materialized_seq``
    of them.
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
    """A conversation as it stood when it was asked for. ``searches`` are its web searches' ids."""

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
    """A conversation as it was when it was shared; anybody who has the id may read it."""

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


_OVERHEAD = 500  # what a message, a file or a conversation takes besides its texts,
_UPDATE = 100  # and each update


def _size(kept: Conversation | Shared) -> int:
    texts = text_size(kept.title) + text_size(kept.preprompt)
    return sum(each.size for each in kept.messages) + texts + _OVERHEAD


def text_size(text: str) -> int:
    """At most how much memory its characters take, in bytes."""
    return len(text) if text.isascii() else 4 * len(text)


def _update_size(update: Update) -> int:
    # A final text is the message's own.
    if isinstance(update, Title):
        return text_size(update.title)
    return text_size(update.message) if isinstance(update, Failure | Status) else 0


def parse_id(text: str) -> str:
    """The id as it is kept. Raises ValueError for what a MongoDB ObjectId would not take."""
    if re.fullmatch(r"[0-9a-fA-F]{24}", text):
        return text.lower()
    if len(text.encode()) == 12:
        return text
    raise ValueError("a conversation's id has 24 hexadecimal digits")


def now() -> datetime:
    """This moment, as dates are kept."""
    return datetime.now(timezone.utc)
