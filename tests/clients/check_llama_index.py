"""llama-index's OpenAILike."""

from __future__ import annotations

from behind import MODEL, Behind
from llama_index.core.llms import ChatMessage
from llama_index.llms.openai_like import OpenAILike


def like(behind: Behind) -> OpenAILike:
    return OpenAILike(
        model=MODEL, api_base=behind.url, api_key="any", is_chat_model=True, context_window=4096
    )


def test_whole_and_streamed(behind: Behind) -> None:
    llm = like(behind)
    history = [ChatMessage(role="user", content="one")]
    first = llm.chat(history)
    assert first.message.content == "I heard one"
    history += [first.message, ChatMessage(role="user", content="two")]
    pieces = [each.delta or "" for each in llm.stream_chat(history)]
    assert "".join(pieces) == "I heard two"
    assert behind.turns[1][-1] == ("user", "two")
    assert llm.complete("Hello").text == "I heard Hello"


async def test_async(behind: Behind) -> None:
    answer = await like(behind).achat([ChatMessage(role="user", content="Hello")])
    assert answer.message.content == "I heard Hello"
