"""Write a conversation to a file, as Markdown or JSON."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click
import msgspec

from h2o_client.cli.terminal import safe_json, sanitized
from h2o_client.messages import Message
from h2o_client.private_file import write_private

if TYPE_CHECKING:
    from h2o_client.conversation import Conversation

DocumentFormat = Literal["markdown", "json"]

_NAMES = {"system": "System", "user": "User", "assistant": "Assistant"}


def document(conversation: Conversation, form: DocumentFormat) -> str:
    """The stored conversation as text that ends with a line end."""
    messages = conversation.messages()
    return (
        _as_json(conversation, messages) if form == "json" else _as_markdown(conversation, messages)
    )


def format_of(path: str) -> DocumentFormat:
    """The format for a file name: JSON for .json and .jsonl, else Markdown."""
    return "json" if Path(path).suffix.lower() in (".json", ".jsonl") else "markdown"


def branch(messages: Sequence[Message]) -> list[Message]:
    """The latest branch: the last message and its ancestors."""
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


def write_file(path: str, text: str) -> None:
    """Write a file that only its user can read, or write to a pipe or device.

    Raises a click error if that fails.
    """
    try:
        target = Path(path).expanduser()
        write_private(target, _sanitized_for(target, text).encode("utf-8", "replace"))
    except (OSError, ValueError, RuntimeError) as exc:
        reason = getattr(exc, "strerror", None) or str(exc).rstrip(".")
        raise click.ClickException(f"Cannot write {path}: {reason}.") from exc


def make_folder(path: str) -> None:
    """Create a folder, unless it exists. Raises a click error if that fails."""
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as exc:
        reason = getattr(exc, "strerror", None) or str(exc)
        raise click.ClickException(f"Cannot create {path}: {reason}.") from exc


def _sanitized_for(target: Path, text: str) -> str:
    with suppress(OSError):
        if stat.S_ISCHR(os.stat(target).st_mode):  # it may be a terminal
            return sanitized(text)
    return text
