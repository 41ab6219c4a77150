"""Add prompts and answers to the tree of a conversation's messages. No I/O."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Literal, NamedTuple

from h2o_client.server.records import File, Message, now


class Branch(NamedTuple):
    """The new messages of a prompt, and the history of its answer.

    The last one of ``added`` is the answer, still empty. ``history`` are the messages from the root
    to the prompt.
    """

    added: tuple[Message, ...]
    history: tuple[Message, ...]


def root(preprompt: str) -> Message:
    """The first message of a new conversation."""
    return _new("system", preprompt, parent=None)


def find(messages: Sequence[Message], message_id: str) -> Message | None:
    """The message with that id, or None."""
    return next((each for each in messages if each.id == message_id), None)


def next_prompt(
    messages: Sequence[Message], parent: Message, content: str, files: Sequence[File]
) -> Branch:
    """A prompt after ``parent``."""
    return _asked(messages, parent.id, content, files)


def edit(
    messages: Sequence[Message], question: Message, content: str, files: Sequence[File]
) -> Branch:
    """An edit: another prompt beside ``question``."""
    return _asked(messages, question.parent, content, files)


def retry(messages: Sequence[Message], answer: Message) -> Branch:
    """A retry: another answer beside ``answer``."""
    history = path(messages, answer)[:-1]
    return Branch((_new("assistant", "", parent=answer.parent),), history)


def path(messages: Sequence[Message], message: Message) -> tuple[Message, ...]:
    """The messages from the root to ``message``."""
    known = {each.id: each for each in messages}
    found = [message]
    while (above := known.get(found[-1].parent or "")) is not None:
        found.append(above)
    return tuple(reversed(found))


def _asked(
    messages: Sequence[Message], parent: str | None, content: str, files: Sequence[File]
) -> Branch:
    question = _new("user", content, parent=parent, files=tuple(files))
    answer = _new("assistant", "", parent=question.id)
    return Branch((question, answer), path(messages, question))


def _new(
    sender: Literal["system", "user", "assistant"],
    content: str,
    *,
    parent: str | None,
    files: tuple[File, ...] = (),
) -> Message:
    moment = now()
    return Message(
        id=str(uuid.uuid4()),
        sender=sender,
        content=content,
        created_at=moment,
        updated_at=moment,
        parent=parent,
        files=files,
    )
