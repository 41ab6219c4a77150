"""Add prompts and answers to the list of a conversation's messages. No I/O."""

from __future__ import annotations

from collections.abc import Sequence

from h2o_client.server.records import Message, now


def with_question(
    messages: Sequence[Message], *, id: str, content: str, retry: bool
) -> tuple[Message, ...]:
    """The messages with the user's prompt at the end.

    A ``retry`` of an existing message, from the user or the model, replaces that message and all
    later ones (measured on chat-ui v0.4).
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
    """The messages with the model's answer at the end."""
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
