"""Parse the messages of a caller, and join them into one prompt."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime

import msgspec

from h2o_client.arguments import text
from h2o_client.errors import ConfigurationError

ROLES = ("system", "user", "assistant")


class Message(msgspec.Struct, frozen=True):
    """One message of a conversation. ``role`` is "system", "user" or "assistant".

    The other fields are set for messages that were read from a server; ``created_at`` is in UTC.
    """

    role: str
    content: str
    id: str | None = None
    created_at: datetime | None = None
    parent: str | None = None
    children: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()


Messages = str | Iterable[Message | Mapping[str, object]]
"""A str is one user message; a mapping has "role" and "content" as in OpenAI's API."""

PromptFormat = Callable[[Sequence[Message]], str]
"""A function that joins several messages into one prompt."""


def parse_messages(messages: Messages, *, system: str | None = None) -> list[Message]:
    """Check the messages and return them as a list. ``system`` becomes the first message.

    Raises `ConfigurationError` for an unknown role, for content that is not text, and if there is
    no user message or the last one is blank.
    """
    parsed = _parsed(messages)
    if system is not None:
        parsed.insert(0, Message("system", text(system, "The system prompt", "system")))
    prompts = [message for message in parsed if message.role == "user"]
    if not prompts or not prompts[-1].content.strip():
        raise ConfigurationError(
            "The last user message is blank" if prompts else "There is no user message",
            hint="Pass text for the model to answer.",
            argument="messages",
        )
    return parsed


def join_messages(messages: Sequence[Message]) -> str:
    """Join the messages into one prompt. A single user message is returned unchanged.

    The format is gpt4free's: lines such as ``User: ...``, and a final line ``Assistant:`` after
    which the model continues.
    """
    if len(messages) == 1 and messages[0].role == "user":
        return messages[0].content
    lines = [f"{message.role.capitalize()}: {message.content}" for message in messages]
    return "\n".join([*lines, "Assistant:"])


def without_blank_system(messages: Sequence[Message]) -> list[Message]:
    """Return the messages without blank system messages.

    Servers since v0.8 store a blank system message first if no system prompt was given.
    """
    blank = {each.id for each in messages if each.role == "system" and not each.content.strip()}
    return [
        msgspec.structs.replace(each, parent=None) if each.parent in blank else each
        for each in messages
        if each.id not in blank
    ]


def as_prompt(messages: Sequence[Message], prompt_format: PromptFormat | None) -> str:
    """Join the messages by ``prompt_format`` or `join_messages`. Raises `ConfigurationError`."""
    if prompt_format is None:
        return join_messages(messages)
    if not callable(prompt_format):
        raise ConfigurationError(
            f"prompt_format must be callable, not {type(prompt_format).__name__}",
            hint="Pass a function that takes the messages and returns the prompt.",
            argument="prompt_format",
        )
    prompt = text(prompt_format(messages), "The result of prompt_format", "prompt_format")
    if not prompt.strip():
        raise ConfigurationError("prompt_format returned a blank prompt", argument="prompt_format")
    return prompt


def _parsed(messages: Messages) -> list[Message]:
    if isinstance(messages, str):
        return [Message("user", _text(messages))]
    if isinstance(messages, Message | Mapping):
        raise ConfigurationError(
            "messages must be a str or a list of messages, not a single message",
            hint="Put the message in a list.",
            argument="messages",
        )
    if not isinstance(messages, Iterable) or isinstance(messages, bytes | bytearray):
        raise ConfigurationError(
            f"messages must be a str or a list of messages, not {type(messages).__name__}",
            argument="messages",
        )
    return [_message(message) for message in messages]


def _message(message: Message | Mapping[str, object]) -> Message:
    role: object
    content: object
    if isinstance(message, Message):
        role, content = message.role, message.content
    elif isinstance(message, Mapping):
        if "role" not in message or "content" not in message:
            missing = "content" if "role" in message else "role"
            raise ConfigurationError(
                f'A message has no "{missing}"', hint=_EXAMPLE, argument="messages"
            )
        role, content = message["role"], _content(message["content"])
    else:
        raise ConfigurationError(
            f"A message must be a dict or a Message, not {type(message).__name__}",
            hint=_EXAMPLE,
            argument="messages",
        )
    if not isinstance(role, str) or role not in ROLES:
        raise ConfigurationError(
            f"Unknown role {role!r}", hint=f"Available: {', '.join(ROLES)}.", argument="messages"
        )
    return Message(text(role, "A role", "messages"), _text(content))


_EXAMPLE = 'Messages look like {"role": "user", "content": "Hello"}.'


def _content(content: object) -> object:
    """Join the parts of OpenAI's content lists. All parts must be text."""
    if not isinstance(content, list | tuple):
        return content
    return "".join(_part(part) for part in content)


def _part(part: object) -> str:
    if isinstance(part, Mapping) and part.get("type") == "text":
        content = part.get("text")
        if isinstance(content, str):
            return _text(content)
    kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
    raise ConfigurationError(
        f"A message has a content part of type {kind!r}",
        hint="Only text parts are supported. Pass files in files=.",
        argument="messages",
    )


def _text(content: object) -> str:
    return text(content, "The content of a message", "messages")
