"""openai-python against the gateway in front of each version of the bundled server."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import openai
import pytest

from h2o_client.gateway import gateway
from h2o_client.server import ScriptedAnswer, serve
from h2o_client.server.engine import Turn
from local_service import PATIENCE

every_chat_ui = pytest.mark.parametrize("chat_ui", ["0.4", "0.9.6", "latest"])


def echo(prompt: str, turns: Sequence[Turn]) -> str:
    return f"You said {prompt}"


@contextmanager
def talking(chat_ui: str, answers: Any = echo) -> Iterator[openai.OpenAI]:
    with (
        serve(answers, chat_ui=chat_ui, model="m") as server,
        gateway(server.url) as running,
        openai.OpenAI(base_url=f"{running.url}/v1", api_key="any", timeout=PATIENCE) as client,
    ):
        yield client


@every_chat_ui
def test_a_chat_of_several_turns(chat_ui: str) -> None:
    seen: list[list[tuple[str, str]]] = []

    def answer(prompt: str, turns: Sequence[Turn]) -> str:
        seen.append([(turn.role, turn.content) for turn in turns])
        return f"You said {prompt}"

    with talking(chat_ui, answer) as client:
        assert [model.id for model in client.models.list()] == ["m"]
        messages: list[Any] = []
        for text in ("one", "two", "three"):
            messages.append({"role": "user", "content": text})
            completion = client.chat.completions.create(model="m", messages=messages)
            (choice,) = completion.choices
            assert (choice.message.content, choice.finish_reason) == (f"You said {text}", "stop")
            assert completion.usage is None
            messages.append({"role": "assistant", "content": choice.message.content})
    assert seen[-1] == [(each["role"], each["content"]) for each in messages[:-1]]


@every_chat_ui
def test_a_stream_and_its_helper(chat_ui: str) -> None:
    with talking(chat_ui) as client:
        given: Any = {"model": "m", "messages": [{"role": "user", "content": "one two"}]}
        chunks = list(client.chat.completions.create(**given, stream=True))
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        assert text == "You said one two"
        assert chunks[-1].choices[0].finish_reason == "stop"
        with client.chat.completions.stream(**given) as stream:
            assert stream.get_final_completion().choices[0].message.content == text


@every_chat_ui
def test_errors_are_openais_classes(chat_ui: str) -> None:
    broken = ScriptedAnswer("some words", error="The model failed")
    with talking(chat_ui, broken) as client:
        create: Callable[..., Any] = client.with_options(max_retries=0).chat.completions.create
        messages = [{"role": "user", "content": "Hi"}]
        with pytest.raises(openai.NotFoundError, match="Available: m"):
            create(model="gpt-4o", messages=messages)
        with pytest.raises(openai.BadRequestError) as refused:
            create(model="m", messages=messages, n=2)
        assert refused.value.param == "n"
        with pytest.raises(openai.InternalServerError):
            create(model="m", messages=messages)
        with pytest.raises(openai.APIError, match="The model failed"):
            list(create(model="m", messages=messages, stream=True))
