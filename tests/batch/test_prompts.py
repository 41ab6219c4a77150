"""Lines and values as prompts, and a table of those that are refused, with the reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from h2o_client import ConfigurationError, Message, Timeouts
from h2o_client.batch.prompts import Defaults, InvalidPrompt, Payload, Row, Upload, parse_prompt

NONE = Defaults()


def test_a_text_a_list_and_an_object_are_equivalent() -> None:
    found = [
        parse_prompt(value, 3, NONE)
        for value in (
            "Hi",
            [{"role": "user", "content": "Hi"}],
            [Message("user", "Hi")],
            {"prompt": "Hi"},
            {"messages": [{"role": "user", "content": "Hi"}]},
        )
    ]
    assert {each.key for each in found} == {found[0].key}
    assert found[0].id == 3
    assert found[0].payload == Payload(messages=(("user", "Hi"),))
    assert found[0].payload.to_send() == "Hi"


def test_an_object_supports_all_arguments_of_a_call(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("a")
    value = {
        "id": "a1",
        "messages": [
            {"role": "system", "content": "Be brief"},
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hello"},
            {"role": "user", "content": "And?"},
        ],
        "system": "Be kind",
        "model": "m",
        "files": [str(file)],
        "options": {"temperature": 0.5, "stop": ["x"], "timeout": 3},
        "label": {"of": ["mine", 1, None]},
    }
    payload = parse_prompt(value, 1, NONE).payload
    assert payload.system == "Be kind\n\nBe brief"
    assert [role for role, _ in payload.messages] == ["user", "assistant", "user"]
    assert (payload.model, payload.files) == ("m", (Upload(path=str(file)),))
    assert payload.all_options() == {**value["options"], "files": [str(file)]}  # type: ignore[dict-item]
    assert payload.extra == {"label": {"of": ["mine", 1, None]}}


def test_a_line_of_openais_batch_api_is_accepted() -> None:
    body = {
        "model": "m",
        "messages": [
            {"role": "developer", "content": "Be brief"},
            {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
        ],
        "max_tokens": 5,
        "temperature": 0,
        "presence_penalty": 0.1,
        "n": 1,
        "stream": False,
    }
    value = {"custom_id": "c1", "method": "POST", "url": "/v1/chat/completions", "body": body}
    found = parse_prompt(value, 1, NONE)
    assert found.id == "c1"
    assert found.payload.is_openai
    assert found.payload.system == "Be brief"
    assert found.payload.options == {
        "max_new_tokens": 5,
        "temperature": 0,
        "parameters": {"presence_penalty": 0.1},
    }


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (5, "a text or an object, not int"),
        (None, "not null"),
        ("  ", "The last user message is blank"),
        ({}, 'either "prompt" or "messages"'),
        ({"prompt": "Hi", "messages": []}, 'either "prompt" or "messages"'),
        ({"prompt": 5}, '"prompt" must be a text, not int'),
        ({"prompt": None}, '"prompt" must be a text, not null'),
        ({"messages": [{"role": "user"}]}, '"content"'),
        ({"messages": [{"role": "robot", "content": "Hi"}]}, "robot"),
        ({"messages": []}, "There is no user message"),
        ({"prompt": "Hi", "id": True}, "An id must be a text or an integer"),
        ({"prompt": "Hi", "id": 1.5}, "An id must be a text or an integer"),
        ({"prompt": "Hi", "system": 1}, '"system"'),
        ({"prompt": "Hi", "options": []}, '"options" must be an object'),
        ({"prompt": "Hi", "options": {"temprature": 1}}, "Did you mean 'temperature'"),
        ({"prompt": "Hi", "options": {"max_tokens": 1}}, "Did you mean 'max_new_tokens'"),
        ({"prompt": "Hi", "options": {"prompt_format": 1}}, "Unknown option 'prompt_format'"),
        ({"prompt": "Hi", "options": {"timeout": -1}}, "timeout"),
        ({"prompt": "Hi", "files": "a.txt"}, '"files" must be a list'),
        ({"prompt": "Hi", "files": ["/no/such.txt"]}, "The file '/no/such.txt' does not exist"),
        ({"prompt": "Hi", "text": "mine"}, "'text'"),
        ({"custom_id": "a"}, '"body"'),
        ({"custom_id": "a", "url": "/v1/embeddings", "body": {"messages": []}}, "embeddings"),
        (
            {"custom_id": "a", "body": {"messages": [{"role": "user", "content": "Hi"}], "n": 2}},
            '"n" in the body',
        ),
        ("half \ud83e", "half a surrogate pair"),
    ],
)
def test_a_prompt_that_cannot_be_sent_says_why(value: object, why: str) -> None:
    with pytest.raises(InvalidPrompt) as caught:
        parse_prompt(value, 1, NONE)
    assert why in str(caught.value)


def test_arguments_of_the_run_are_defaults_for_prompts() -> None:
    defaults = Defaults.of("m", "Be brief", {"temperature": 0.5, "top_p": None, "seed": 1})
    payload = parse_prompt({"prompt": "Hi", "options": {"seed": 2}}, 1, defaults).payload
    assert (payload.model, payload.system) == ("m", "Be brief")
    assert payload.options == {"temperature": 0.5, "seed": 2}
    own = parse_prompt({"prompt": "Hi", "model": "own", "system": "Own"}, 1, defaults).payload
    assert (own.model, own.system) == ("own", "Own")


def test_invalid_defaults_are_refused() -> None:
    for options in ({"timeout": Timeouts()}, {"files": ["/no/such"]}, {"timeout": -1.0}):
        with pytest.raises(ConfigurationError):
            Defaults.of(None, None, options)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        Defaults.of(None, None, {"nope": 1})  # type: ignore[typeddict-unknown-key]


@pytest.mark.parametrize(
    "other",
    [
        {"prompt": "Hi!"},
        {"prompt": "Hi", "id": "b"},
        {"prompt": "Hi", "model": "m"},
        {"prompt": "Hi", "system": "s"},
        {"prompt": "Hi", "options": {"temperature": 0.5}},
    ],
)
def test_the_key_depends_on_everything_that_affects_the_answer(other: dict[str, object]) -> None:
    key = parse_prompt({"prompt": "Hi", "id": "a"}, 1, NONE).key
    assert parse_prompt({"id": "a", **other}, 1, NONE).key != key


def test_the_key_does_not_depend_on_anything_else() -> None:
    key = parse_prompt({"prompt": "Hi", "id": "a"}, 1, NONE).key
    others = {"prompt": "Hi", "id": "a", "label": 1, "options": {"timeout": 5}}
    assert parse_prompt(others, 99, NONE).key == key


def test_a_file_with_other_bytes_is_another_prompt(tmp_path: Path) -> None:
    file = tmp_path / "a"
    keys = set()
    for text in ("a", "b"):
        file.write_text(text)
        keys.add(parse_prompt({"prompt": "Hi", "files": [str(file)]}, 1, NONE).key)
    assert len(keys) == 2


def test_the_prompt_format_is_part_of_the_key() -> None:
    messages = [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]
    keys = {
        parse_prompt(messages, 1, Defaults(prompt_format=form)).key
        for form in (None, lambda messages: "x", lambda messages: "y")
    }
    assert len(keys) == 3


def test_all_columns_of_a_csv_row_are_copied() -> None:
    found = parse_prompt(Row("Hi", "7", {"system": "metric", "options": "none"}), 2, NONE)
    assert (found.id, found.payload.system) == ("7", None)
    assert found.payload.extra == {"system": "metric", "options": "none"}


def test_a_csv_column_cannot_have_a_reserved_name() -> None:
    with pytest.raises(InvalidPrompt, match="'model'"):
        parse_prompt(Row("Hi", None, {"model": "Golf"}), 2, NONE)
