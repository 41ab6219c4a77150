from __future__ import annotations

import pickle
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from h2o_client.errors import ConfigurationError
from h2o_client.messages import (
    ROLES,
    Message,
    as_prompt,
    join_messages,
    parse_messages,
    without_blank_system,
)

HELLO = Message("user", "Hello")
PART = {"type": "text", "text": "Hel"}


def generated() -> Iterator[dict[str, object]]:
    yield {"role": "user", "content": "Hello"}


@pytest.mark.parametrize(
    ("messages", "parsed"),
    [
        ("Hello", [HELLO]),
        ([HELLO], [HELLO]),
        ((HELLO,), [HELLO]),
        ([{"role": "user", "content": "Hello"}], [HELLO]),
        ([{"role": "user", "content": "Hello", "name": "Ada"}], [HELLO]),
        (generated(), [HELLO]),
        ([{"role": "user", "content": [PART, {"type": "text", "text": "lo"}]}], [HELLO]),
        ([{"role": "user", "content": (PART, {"type": "text", "text": "lo"})}], [HELLO]),
        (
            [
                {"role": "system", "content": "Be brief"},
                HELLO,
                {"role": "assistant", "content": ""},
            ],
            [Message("system", "Be brief"), HELLO, Message("assistant", "")],
        ),
        # The server's fields of a message are not sent back.
        ([Message("user", "Hello", id="1", files=("f",))], [HELLO]),
        (" Hello\n", [Message("user", " Hello\n")]),
    ],
)
def test_messages_in_every_shape_are_parsed(messages: Any, parsed: list[Message]) -> None:
    assert parse_messages(messages) == parsed


def test_the_system_prompt_comes_first() -> None:
    system = Message("system", "Be brief")
    assert parse_messages("Hello", system="Be brief") == [system, HELLO]
    assert parse_messages([system, HELLO], system="") == [Message("system", ""), system, HELLO]


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ("", "The last user message is blank"),
        (" \n\t", "The last user message is blank"),
        ([], "There is no user message"),
        ([Message("assistant", "Hi")], "There is no user message. Pass text"),
        ([HELLO, Message("user", " ")], "The last user message is blank"),
        ([{"role": "user", "content": []}], "The last user message is blank"),
        (HELLO, "messages must be a str or a list of messages, not a single message"),
        ({"role": "user", "content": "Hello"}, "not a single message"),
        (None, "messages must be a str or a list of messages, not NoneType"),
        (5, "messages must be a str or a list of messages, not int"),
        (b"Hello", "messages must be a str or a list of messages, not bytes"),
        (["Hello"], "not str"),
        ([{"content": "Hello"}], 'A message has no "role"'),
        ([{"role": "robot", "content": ""}], "'robot'. Available: system, user, assistant."),
        ([{"role": "tool", "content": "x"}], "Unknown role 'tool'"),
        ([Message("User", "x")], "Unknown role 'User'"),
        ([{"role": "user"}], 'A message has no "content"'),
        ([{"role": "user", "content": None}], "content of a message must be a str, not NoneType"),
        ([{"role": "user", "content": 5}], "content of a message must be a str, not int"),
        ([{"role": "user", "content": [{"type": "image"}]}], "of type 'image'. Only text"),
        ([{"role": "user", "content": ["x"]}], "content part of type 'str'"),
        ([{"role": "user", "content": [{"type": "text"}]}], "content part of type 'text'"),
        ("Hello \ud83e!", "half a surrogate pair at 6"),
        ([HELLO, Message("assistant", "\uddea")], "half a surrogate pair at 0"),
    ],
)  # fmt: skip
def test_messages_without_a_prompt_are_refused_with_the_reason(messages: Any, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        parse_messages(messages)


@pytest.mark.parametrize("system", [5, "\ud83e"])
def test_a_system_prompt_that_is_not_text_is_refused(system: Any) -> None:
    with pytest.raises(ConfigurationError):
        parse_messages("Hello", system=system)


@pytest.mark.parametrize(
    ("messages", "prompt"),
    [
        ([HELLO], "Hello"),
        ([Message("user", "a\nb")], "a\nb"),
        ([Message("system", "Be brief")], "System: Be brief\nAssistant:"),
        (
            [
                Message("system", "Be brief"),
                HELLO,
                Message("assistant", "Hi"),
                Message("user", "Bye"),
            ],
            "System: Be brief\nUser: Hello\nAssistant: Hi\nUser: Bye\nAssistant:",
        ),
    ],
)
def test_messages_are_joined_like_in_gpt4free(messages: list[Message], prompt: str) -> None:
    assert join_messages(messages) == prompt


@given(st.lists(st.builds(Message, st.sampled_from(ROLES), st.text())))
def test_parsed_messages_parse_to_themselves(messages: list[Message]) -> None:
    asked = [message.content for message in messages if message.role == "user"]
    if asked and asked[-1].strip():
        assert parse_messages(messages) == messages
    else:
        with pytest.raises(ConfigurationError):
            parse_messages(messages)


def test_messages_are_compared_by_value() -> None:
    stored = Message("user", "x", id="1", created_at=datetime(2023, 6, 1, tzinfo=timezone.utc))
    assert pickle.loads(pickle.dumps(stored)) == stored
    assert hash(stored) != hash(HELLO)


def test_prompt_format_sets_the_shape_of_the_prompt() -> None:
    assert as_prompt([HELLO], None) == "Hello"
    assert as_prompt([HELLO, HELLO], lambda messages: f"{len(messages)} messages") == "2 messages"


@pytest.mark.parametrize("prompt_format", ["x", lambda messages: None, lambda messages: " "])
def test_a_prompt_format_that_returns_no_prompt_is_refused(prompt_format: Any) -> None:
    with pytest.raises(ConfigurationError):
        as_prompt([HELLO], prompt_format)


def test_an_empty_system_message_is_not_a_parent() -> None:
    stored = [
        Message("system", "", id="root"),
        Message("user", "Hi", id="a", parent="root", children=("b",)),
        Message("assistant", "Hello", id="b", parent="a"),
    ]
    found = without_blank_system(stored)
    assert [(each.id, each.parent) for each in found] == [("a", None), ("b", "a")]
    said = [Message("system", "Be brief.", id="root"), *stored[1:]]
    assert without_blank_system(said) == said
