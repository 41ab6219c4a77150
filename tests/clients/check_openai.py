"""openai-python: blocking and async, with and without streaming, and errors."""

from __future__ import annotations

import openai
import pytest
from behind import MODEL, Behind


def test_a_chat_of_ten_turns(behind: Behind) -> None:
    messages: list[dict[str, str]] = []
    with openai.OpenAI(base_url=behind.url) as client:
        for number in range(10):
            messages.append({"role": "user", "content": f"Number {number}"})
            stream = client.chat.completions.create(model=MODEL, messages=messages, stream=True)
            text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
            messages.append({"role": "assistant", "content": text})
    assert [turns[-1][1] for turns in behind.turns] == [f"Number {number}" for number in range(10)]
    assert behind.turns[-1] == tuple((each["role"], each["content"]) for each in messages[:-1])


async def test_the_async_client(behind: Behind) -> None:
    async with openai.AsyncOpenAI(base_url=behind.url) as client:
        assert [model.id async for model in client.models.list()] == [MODEL]
        messages = [{"role": "user", "content": "Hello"}]
        completion = await client.chat.completions.create(model=MODEL, messages=messages)
        assert completion.choices[0].message.content == "I heard Hello"
        async with client.chat.completions.stream(model=MODEL, messages=messages) as stream:
            final = await stream.get_final_completion()
        assert final.choices[0].message.content == "I heard Hello"


def test_errors(behind: Behind) -> None:
    with openai.OpenAI(base_url=behind.url) as client:
        messages = [{"role": "user", "content": "Hello"}]
        with pytest.raises(openai.NotFoundError):
            client.chat.completions.create(model="gpt-4o", messages=messages)
        with pytest.raises(openai.BadRequestError) as refused:
            client.chat.completions.create(
                model=MODEL,
                messages=messages,
                response_format={"type": "json_schema", "json_schema": {"name": "x"}},
            )
        assert refused.value.param == "response_format"
