"""pydantic-ai: an agent that answers with text."""

from __future__ import annotations

from behind import MODEL, Behind
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider


def agent(behind: Behind) -> Agent[None, str]:
    model = OpenAIChatModel(MODEL, provider=OpenAIProvider(base_url=behind.url, api_key="any"))
    return Agent(model, instructions="Be brief")


async def test_a_run_and_a_continuation(behind: Behind) -> None:
    first = await agent(behind).run("one")
    second = await agent(behind).run("two", message_history=first.all_messages())
    assert second.output == "I heard two"
    assert len(behind.turns) == 2
    assert behind.turns[1][-1] == ("user", "two")


async def test_a_stream(behind: Behind) -> None:
    async with agent(behind).run_stream("Hello") as result:
        text = [text async for text in result.stream_text(delta=True)]
    assert "Hello" in "".join(text)
