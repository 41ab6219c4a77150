"""Conversations, settings and shared pages of all sessions, in memory and bounded. Pure: no HTTP,
no clock but for dates.

What belongs to another session is not found, exactly like what does not exist.
"""

from __future__ import annotations

import re
import secrets
import threading
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import Literal

import msgspec


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A message as it is kept. A question asked again has no ``created_at``, as in chat-ui."""

    id: str
    sender: Literal["user", "assistant"]
    content: str
    created_at: datetime | None = None
    updated_at: datetime
    score: int | None = None
    web_search_id: str = ""


class Conversation(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation as it stood when it was asked for. ``searches`` are its web searches' ids."""

    id: str
    session: str
    model: str
    title: str
    messages: tuple[Message, ...] = ()
    searches: tuple[str, ...] = ()
    updated_at: datetime


class Shared(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation as it was when it was shared; anybody who has the id may read it."""

    id: str
    model: str
    title: str
    messages: tuple[Message, ...]
    searches: tuple[str, ...]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """A session's settings, with chat-ui's defaults."""

    share: bool = True
    active_model: str | None = None
    accepted_at: datetime | None = None


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How much is kept: conversations of one session and of all, shared pages, sessions'
    settings, and characters of text altogether. ``messages_per_minute`` is a session's, as
    chat-ui's RATE_LIMIT counts them: one more than that is answered; None is no limit."""

    conversations: int = 500
    conversations_in_all: int = 10_000
    shared: int = 10_000
    settings: int = 10_000
    text: int = 64 * 1024 * 1024
    messages_per_minute: int | None = None


class Full(Exception):
    """A limit is reached; ``str()`` says which, and what helps."""


class Store:
    """Keeps everything within ``limits``; safe to use from several threads.

    Where all are too many, conversations that nobody has touched for a day make room.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._lock = threading.RLock()
        self._conversations: dict[str, Conversation] = {}
        self._settings: dict[str, Settings] = {}
        self._shared: dict[str, Shared] = {}
        self._links: dict[tuple[str, tuple[Message, ...]], str] = {}
        self._asked: dict[str, list[datetime]] = {}
        self._text = 0

    def settings(self, session: str) -> Settings:
        """The session's settings; the defaults before any were saved."""
        with self._lock:
            return self._settings.get(session, Settings())

    def save_settings(
        self, session: str, *, share: bool, active_model: str, accepted: bool
    ) -> None:
        """Replace the settings, but terms once accepted stay accepted."""
        with self._lock:
            # Put last again: of too many, those saved longest ago are forgotten.
            before = self._settings.pop(session, Settings()).accepted_at
            self._settings[session] = Settings(
                share=share, active_model=active_model, accepted_at=now() if accepted else before
            )
            if len(self._settings) > self._limits.settings:
                del self._settings[next(iter(self._settings))]

    def conversations(self, session: str) -> list[Conversation]:
        """The session's conversations, the latest first."""
        with self._lock:
            own = [each for each in self._conversations.values() if each.session == session]
        own.reverse()  # of equal dates, the one made last comes first
        return sorted(own, key=lambda each: each.updated_at, reverse=True)

    def create(self, session: str, *, model: str, shared: Shared | None = None) -> Conversation:
        """A new conversation, without messages or with those of a shared one. May raise `Full`."""
        with self._lock:
            count = len(self.conversations(session))
            if count >= self._limits.conversations:
                raise Full(_TOO_MANY)
            if len(self._conversations) >= self._limits.conversations_in_all:
                self._make_room()
            self.expect_room()
            made = Conversation(
                id=secrets.token_hex(12),
                session=session,
                model=model,
                title=shared.title if shared else f"Untitled {count + 1}",
                messages=shared.messages if shared else (),
                searches=shared.searches if shared else (),
                updated_at=now(),
            )
            self._conversations[made.id] = made
            self._text += _size(made.messages)
        return made

    def conversation(self, session: str, conversation_id: str) -> Conversation | None:
        """The session's conversation, or None."""
        with self._lock:
            found = self._conversations.get(conversation_id)
        return found if found is not None and found.session == session else None

    def exists(self, conversation_id: str) -> bool:
        """Whether any session has it; only page data tells that apart."""
        with self._lock:
            return conversation_id in self._conversations

    def expect_room(self) -> None:
        """Raise `Full` if no more text can be kept."""
        if self._text >= self._limits.text:
            raise Full(_NO_ROOM)

    def expect_message(self, session: str) -> None:
        """Take note of a message that comes. Raise `Full` if there is no room, or it is early."""
        self.expect_room()
        if self._limits.messages_per_minute is None:
            return
        moment = now()
        with self._lock:
            asked = [each for each in self._asked.pop(session, ()) if each > moment - _MINUTE]
            self._asked[session] = asked
            if len(asked) > self._limits.messages_per_minute:
                raise Full(_TOO_OFTEN)
            asked.append(moment)
            if len(self._asked) > self._limits.settings:
                del self._asked[next(iter(self._asked))]

    def save_messages(
        self, session: str, conversation_id: str, messages: Sequence[Message]
    ) -> None:
        """Replace the messages. A conversation deleted meanwhile does not come back."""
        self._change(session, conversation_id, messages=tuple(messages), updated_at=now())

    def rename(self, session: str, conversation_id: str, title: str) -> bool:
        """Give it another title; False where it is not found."""
        return self._change(session, conversation_id, title=title)

    def vote(self, session: str, conversation_id: str, message_id: str, score: int) -> bool:
        """Keep the score of a message, 0 takes it back; False where it is not found."""
        with self._lock:
            found = self.conversation(session, conversation_id)
            if found is None or all(each.id != message_id for each in found.messages):
                return False
            messages = tuple(
                msgspec.structs.replace(each, score=score or None)
                if each.id == message_id
                else each
                for each in found.messages
            )
            return self._change(session, conversation_id, messages=messages)

    def note_search(self, conversation: Conversation) -> str:
        """The id of a new web search in the conversation, which keeps its last few."""
        made = secrets.token_hex(12)
        with self._lock:
            found = self.conversation(conversation.session, conversation.id) or conversation
            searches = (*found.searches, made)[-_MOST_SEARCHES:]
            self._change(conversation.session, conversation.id, searches=searches)
        return made

    def share(self, conversation: Conversation) -> Shared:
        """Share it as it stands; the same messages are shared once. May raise `Full`."""
        key = conversation.id, conversation.messages
        with self._lock:
            if key in self._links:
                return self._shared[self._links[key]]
            if len(self._shared) >= self._limits.shared:
                raise Full(_NO_ROOM)
            self.expect_room()
            made = Shared(
                id=secrets.token_urlsafe(6)[:7],
                model=conversation.model,
                title=conversation.title,
                messages=conversation.messages,
                searches=conversation.searches,
            )
            self._shared[made.id] = made
            self._links[key] = made.id
            self._text += _size(made.messages)
        return made

    def shared(self, shared_id: str) -> Shared | None:
        """What was shared under that id, or None."""
        with self._lock:
            return self._shared.get(shared_id)

    def delete(self, session: str, conversation_id: str) -> bool:
        """Delete it; False where it is not found."""
        with self._lock:
            found = self.conversation(session, conversation_id)
            if found is None:
                return False
            self._forget(found)
            return True

    def delete_all(self, session: str) -> None:
        """Delete all conversations of the session."""
        with self._lock:
            for each in self.conversations(session):
                self._forget(each)

    def _change(self, session: str, conversation_id: str, **changes: object) -> bool:
        with self._lock:
            found = self.conversation(session, conversation_id)
            if found is None:
                return False
            changed = msgspec.structs.replace(found, **changes)
            self._text += _size(changed.messages) - _size(found.messages)
            self._conversations[conversation_id] = changed
            return True

    def _forget(self, conversation: Conversation) -> None:
        del self._conversations[conversation.id]
        self._text -= _size(conversation.messages)

    def _make_room(self) -> None:
        old = now() - timedelta(days=1)
        for each in list(self._conversations.values()):
            if each.updated_at < old:
                self._forget(each)
        if len(self._conversations) >= self._limits.conversations_in_all:
            raise Full(_NO_ROOM)


_TOO_MANY = "You have reached the maximum number of conversations. Delete some to continue."
_TOO_OFTEN = "You are sending too many messages. Try again later."
_MINUTE = timedelta(minutes=1)
_NO_ROOM = "This server keeps as much as it can. Delete some conversations, or try again later."
_MOST_SEARCHES = 100
_OVERHEAD = 200  # what a message takes besides its text


def _size(messages: Sequence[Message]) -> int:
    return sum(len(each.content) + _OVERHEAD for each in messages)


def with_question(
    messages: Sequence[Message], *, id: str, content: str, retry: bool
) -> tuple[Message, ...]:
    """The messages with the user's question after them.

    A ``retry`` of a message that is there takes the place of that message, whoever wrote it, and
    of all that came after (measured on chat-ui v0.4).
    """
    moment = now()
    kept = tuple(messages)
    if retry:
        kept = kept[: next((i for i, each in enumerate(kept) if each.id == id), len(kept))]
    question = Message(
        id=id,
        sender="user",
        content=content,
        created_at=None if retry else moment,
        updated_at=moment,
    )
    return (*kept, question)


def with_answer(
    messages: Sequence[Message], *, id: str, content: str, web_search_id: str = ""
) -> tuple[Message, ...]:
    """The messages with the model's answer after them."""
    moment = now()
    answer = Message(
        id=id,
        sender="assistant",
        content=content,
        created_at=moment,
        updated_at=moment,
        web_search_id=web_search_id,
    )
    return (*messages, answer)


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
