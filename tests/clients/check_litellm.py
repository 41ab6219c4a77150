"""litellm, which aider and many others use."""

from __future__ import annotations

import litellm
import pytest
from behind import MODEL, Behind

HELLO = [{"role": "user", "content": "Hello"}]


def test_whole_and_streamed(behind: Behind) -> None:
    given = {"model": f"openai/{MODEL}", "messages": HELLO, "api_base": behind.url}
    answer = litellm.completion(**given)
    assert answer.choices[0].message.content == "I heard Hello"
    assert answer.choices[0].finish_reason == "stop"
    chunks = list(litellm.completion(**given, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "I heard Hello"


async def test_async(behind: Behind) -> None:
    answer = await litellm.acompletion(
        model=f"openai/{MODEL}", messages=HELLO, api_base=behind.url, stop=["Hello"]
    )
    assert answer.choices[0].message.content.strip() == "I heard"


def test_errors(behind: Behind) -> None:
    with pytest.raises(litellm.NotFoundError):
        litellm.completion(model="openai/none", messages=HELLO, api_base=behind.url)
