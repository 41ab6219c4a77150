"""A conversation as a document: Markdown to read, or JSON with all that is known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec

from h2o_client.cli.output import safe_json
from h2o_client.conversation import Conversation
from h2o_client.messages import Message

Format = Literal["markdown", "json"]

_NAMES = {"system": "System", "user": "User", "assistant": "Assistant"}


def document(conversation: Conversation, form: Format) -> str:
    """The conversation as it is stored, a line at its end."""
    messages = conversation.messages()
    return (
        _as_json(conversation, messages) if form == "json" else _as_markdown(conversation, messages)
    )


def format_of(path: str) -> Format:
    """The format that a file's name stands for."""
    return "json" if Path(path).suffix.lower() in (".json", ".jsonl") else "markdown"


def branch(messages: Sequence[Message]) -> list[Message]:
    """The latest branch: what leads to the last message."""
    known = {message.id: message for message in messages}
    if not messages or not any(message.parent for message in messages):
        return list(messages)
    found = [messages[-1]]
    while found[-1].parent in known:
        found.append(known.pop(found[-1].parent))
    return found[::-1]


def _as_json(conversation: Conversation, messages: Sequence[Message]) -> str:
    whole = {
        "id": conversation.id,
        "title": conversation.title,
        "messages": [
            {name: value for name, value in msgspec.to_builtins(message).items() if value}
            for message in messages
        ],
    }
    return safe_json(whole)


def _as_markdown(conversation: Conversation, messages: Sequence[Message]) -> str:
    title = " ".join((conversation.title or "Conversation").split())
    parts = [f"# {title}"]
    for message in branch(messages):
        if message.role != "system" or message.content.strip():
            parts.append(f"## {_NAMES.get(message.role, message.role)}")
            parts.append(message.content.strip())
            parts += [f"- {each}" for each in (*message.files, *message.sources)]
    return "\n\n".join(parts) + "\n"
