"""Conversations and settings of all sessions, in memory. Pure: no HTTP, no clock but for dates.

What belongs to another session is not found, exactly like what does not exist.
"""

from __future__ import annotations

import re
import secrets
import threading
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Literal

import msgspec


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A message as it is kept. A question asked again has no ``created_at``, as in chat-ui."""

    id: str
    sender: Literal["user", "assistant"]
    content: str
    created_at: datetime | None = None
    updated_at: datetime


class Conversation(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation as it stood when it was asked for."""

    id: str
    session: str
    model: str
    title: str
    messages: tuple[Message, ...] = ()
    updated_at: datetime


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """A session's settings, with chat-ui's defaults."""

    share: bool = True
    active_model: str | None = None
    accepted_at: datetime | None = None


class Store:
    """Keeps everything; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._conversations: dict[str, Conversation] = {}
        self._settings: dict[str, Settings] = {}

    def settings(self, session: str) -> Settings:
        """The session's settings; the defaults before any were saved."""
        with self._lock:
            return self._settings.get(session, Settings())

    def save_settings(
        self, session: str, *, share: bool, active_model: str, accepted: bool
    ) -> None:
        """Replace the settings, but terms once accepted stay accepted."""
        with self._lock:
            before = self._settings.get(session, Settings()).accepted_at
            self._settings[session] = Settings(
                share=share, active_model=active_model, accepted_at=now() if accepted else before
            )

    def conversations(self, session: str) -> list[Conversation]:
        """The session's conversations, the latest first."""
        with self._lock:
            own = [each for each in self._conversations.values() if each.session == session]
        own.reverse()  # of equal dates, the one made last comes first
        return sorted(own, key=lambda each: each.updated_at, reverse=True)

    def create(self, session: str, *, model: str) -> Conversation:
        """A new conversation without messages."""
        title = f"Untitled {len(self.conversations(session)) + 1}"
        made = Conversation(
            id=secrets.token_hex(12), session=session, model=model, title=title, updated_at=now()
        )
        with self._lock:
            self._conversations[made.id] = made
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

    def save_messages(
        self, session: str, conversation_id: str, messages: Sequence[Message]
    ) -> None:
        """Replace the messages. A conversation deleted meanwhile does not come back."""
        self._change(session, conversation_id, messages=tuple(messages), updated_at=now())

    def rename(self, session: str, conversation_id: str, title: str) -> bool:
        """Give it another title; False where it is not found."""
        return self._change(session, conversation_id, title=title)

    def delete(self, session: str, conversation_id: str) -> bool:
        """Delete it; False where it is not found."""
        if self.conversation(session, conversation_id) is None:
            return False
        with self._lock:
            return self._conversations.pop(conversation_id, None) is not None

    def _change(self, session: str, conversation_id: str, **changes: object) -> bool:
        with self._lock:
            found = self._conversations.get(conversation_id)
            if found is None or found.session != session:
                return False
            self._conversations[conversation_id] = msgspec.structs.replace(found, **changes)
            return True


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


def with_answer(messages: Sequence[Message], *, id: str, content: str) -> tuple[Message, ...]:
    """The messages with the model's answer after them."""
    moment = now()
    answer = Message(
        id=id, sender="assistant", content=content, created_at=moment, updated_at=moment
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
