"""Store the conversations, settings and shared pages of all sessions in bounded memory. No I/O.

A session cannot find the data of another session.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import msgspec

from h2o_client.server.records import (
    Conversation,
    Message,
    Settings,
    Shared,
    now,
    text_size,
)


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of the server.

    ``conversations`` is for each session, ``conversations_in_all`` for all sessions, ``messages``
    for each conversation. ``shared`` is the number of shared pages, ``settings`` the number of
    sessions with settings, and ``text`` the total size in bytes, including titles, files, their
    names and settings. (Text that is not ASCII counts as four bytes for each character.)
    ``messages_per_minute`` is for each session; None is no limit. Up to v0.6, chat-ui accepts one
    more message, as with its RATE_LIMIT. The latest chat-ui has two more limits: ``logs`` is the
    total size in bytes of the logs of ended runs, of which the oldest expire; after
    ``log_seconds``, the response with a log ends, and the client has to send another request.
    """

    conversations: int = 500
    conversations_in_all: int = 10_000
    messages: int = 1000
    shared: int = 10_000
    settings: int = 10_000
    text: int = 64 * 1024 * 1024
    messages_per_minute: int | None = None
    logs: int = 16 * 1024 * 1024
    log_seconds: float = 300.0


class Full(Exception):
    """A limit is reached. ``str()`` says which one, and what to do."""


class Store:
    """Stores everything within ``limits``. Several threads may use it.

    If there are too many conversations, those unused for a day are deleted. ``forgotten`` is called
    with the id of each deleted conversation.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self.forgotten: Callable[[str], None] = _ignore
        self._lock = threading.RLock()
        self._conversations: dict[str, Conversation] = {}
        self._settings: dict[str, Settings] = {}
        self._shared: dict[str, Shared] = {}
        self._links: dict[tuple[str, tuple[Message, ...]], str] = {}
        self._asked: dict[str, list[datetime]] = {}
        self._text = 0

    @property
    def limits(self) -> Limits:
        """The limits of the server."""
        return self._limits

    def settings(self, session: str) -> Settings:
        """The session's settings, or the defaults."""
        with self._lock:
            return self._settings.get(session, Settings())

    def save_settings(
        self, session: str, *, share: bool, active_model: str, accepted: bool, document: bytes = b""
    ) -> None:
        """Replace the settings, except that accepted terms stay accepted.

        May raise `Full` because of a large ``document``.
        """
        with self._lock:
            if document:
                self.expect_room()
            known = session in self._settings
            # Move it to the end: if there are too many, the oldest are deleted.
            before = self._settings.pop(session, Settings())
            self._settings[session] = Settings(
                share=share,
                active_model=active_model,
                accepted_at=now() if accepted else before.accepted_at,
                document=document,
            )
            self._text += len(document) - len(before.document)
            if not known:
                self._text += text_size(session)
            if len(self._settings) > self._limits.settings:
                eldest = next(iter(self._settings))
                self._text -= len(self._settings.pop(eldest).document) + text_size(eldest)

    def conversations(self, session: str) -> list[Conversation]:
        """The session's conversations, the latest first."""
        with self._lock:
            own = [each for each in self._conversations.values() if each.session == session]
        own.reverse()  # of equal dates, the conversation that was created last comes first
        return sorted(own, key=lambda each: each.updated_at, reverse=True)

    def create(
        self,
        session: str,
        *,
        model: str,
        title: str | None = None,
        preprompt: str = "",
        messages: Sequence[Message] = (),
        searches: Sequence[str] = (),
    ) -> Conversation:
        """Create a conversation, by default titled "Untitled" and a number. May raise `Full`."""
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
                title=f"Untitled {count + 1}" if title is None else title,
                preprompt=preprompt,
                messages=tuple(messages),
                searches=tuple(searches),
                updated_at=now(),
            )
            self._conversations[made.id] = made
            self._text += made.size
        return made

    def conversation(self, session: str, conversation_id: str) -> Conversation | None:
        """The session's conversation, or None."""
        with self._lock:
            found = self._conversations.get(conversation_id)
        return found if found is not None and found.session == session else None

    def exists(self, conversation_id: str) -> bool:
        """Whether any session has this conversation. Only page data reveals that."""
        with self._lock:
            return conversation_id in self._conversations

    def expect_room(self) -> None:
        """Raise `Full` if no more text can be stored."""
        if self._text >= self._limits.text:
            raise Full(_NO_ROOM)

    def expect_message(self, conversation: Conversation, *, allowance: int = 0) -> None:
        """Count a message. Raise `Full` if there is no room, or the rate limit is exceeded.

        ``allowance`` messages more than the limit are accepted.
        """
        self.expect_room()
        # The tree is sent with the ancestors of every message, which needs quadratic space.
        if len(conversation.messages) >= self._limits.messages:
            raise Full(_TOO_LONG)
        if self._limits.messages_per_minute is None:
            return
        moment, session = now(), conversation.session
        with self._lock:
            asked = [each for each in self._asked.pop(session, ()) if each > moment - _MINUTE]
            self._asked[session] = asked
            if len(asked) >= self._limits.messages_per_minute + allowance:
                raise Full(_TOO_OFTEN)
            asked.append(moment)
            if len(self._asked) > self._limits.settings:
                del self._asked[next(iter(self._asked))]

    def save_messages(
        self, session: str, conversation_id: str, messages: Sequence[Message]
    ) -> None:
        """Replace the messages, unless the conversation was deleted in the meantime."""
        self._change(session, conversation_id, messages=tuple(messages), updated_at=now())

    def add_messages(self, session: str, conversation_id: str, added: Sequence[Message]) -> None:
        """Append the messages to the stored ones."""
        with self._lock:
            found = self.conversation(session, conversation_id)
            if found is not None:
                self.save_messages(session, conversation_id, (*found.messages, *added))

    def save_message(self, session: str, conversation_id: str, message: Message) -> None:
        """Replace the stored message that has the id of ``message``."""
        with self._lock:
            found = self.conversation(session, conversation_id)
            if found is not None:
                messages = [message if each.id == message.id else each for each in found.messages]
                self.save_messages(session, conversation_id, messages)

    def rename(self, session: str, conversation_id: str, title: str) -> bool:
        """Set a conversation's title. Return False if the conversation does not exist."""
        return self._change(session, conversation_id, title=title)

    def vote(self, session: str, conversation_id: str, message_id: str, score: int) -> bool:
        """Store the score of a message; 0 removes it. Return False if there is no such message."""
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
        """Add a web search to the conversation, and return its id. Only the latest are kept."""
        made = secrets.token_hex(12)
        with self._lock:
            found = self.conversation(conversation.session, conversation.id) or conversation
            searches = (*found.searches, made)[-_MOST_SEARCHES:]
            self._change(conversation.session, conversation.id, searches=searches)
        return made

    def share(self, conversation: Conversation) -> Shared:
        """Share the conversation as it is now. May raise `Full`.

        If the same messages were shared before, this returns the earlier page.
        """
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
                preprompt=conversation.preprompt,
                messages=conversation.messages,
                searches=conversation.searches,
                updated_at=now(),
            )
            self._shared[made.id] = made
            self._links[key] = made.id
            self._text += made.size
        return made

    def shared(self, shared_id: str) -> Shared | None:
        """The shared page with that id, or None."""
        with self._lock:
            return self._shared.get(shared_id)

    def delete(self, session: str, conversation_id: str) -> bool:
        """Delete a conversation. Return False if it does not exist."""
        with self._lock:
            found = self.conversation(session, conversation_id)
            if found is None:
                return False
            self._forget(found)
            return True

    def delete_all(self, session: str) -> int:
        """Delete all conversations of the session, and return their number."""
        with self._lock:
            own = self.conversations(session)
            for each in own:
                self._forget(each)
        return len(own)

    def _change(self, session: str, conversation_id: str, **changes: object) -> bool:
        with self._lock:
            found = self.conversation(session, conversation_id)
            if found is None:
                return False
            changed = msgspec.structs.replace(found, **changes)
            self._text += changed.size - found.size
            self._conversations[conversation_id] = changed
            return True

    def _forget(self, conversation: Conversation) -> None:
        del self._conversations[conversation.id]
        self._text -= conversation.size
        self.forgotten(conversation.id)

    def _make_room(self) -> None:
        old = now() - timedelta(days=1)
        for each in list(self._conversations.values()):
            if each.updated_at < old:
                self._forget(each)
        if len(self._conversations) >= self._limits.conversations_in_all:
            raise Full(_NO_ROOM)


_TOO_MANY = "You have reached the maximum number of conversations. Delete some to continue."
_TOO_LONG = "This conversation has the maximum number of messages. Start another one."
_TOO_OFTEN = "You are sending too many messages. Try again later."
_MINUTE = timedelta(minutes=1)
_NO_ROOM = "This server has no more room. Delete some conversations, or try again later."
_MOST_SEARCHES = 100


def _ignore(conversation_id: str) -> None:
    return None
