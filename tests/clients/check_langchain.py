"""langchain-openai, by LangChain's own standard tests.

chat-ui does not support usage, tools and structured output.
"""

from __future__ import annotations

from typing import Any

import pytest
from behind import MODEL, Behind
from langchain_core.language_models import BaseChatModel
from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests


class TestStandard(ChatModelIntegrationTests):
    @pytest.fixture(autouse=True)
    def _behind(self, behind: Behind) -> None:
        self.url = behind.url

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatOpenAI

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"model": MODEL, "base_url": self.url, "api_key": "any"}

    @property
    def model_override_value(self) -> str:
        return MODEL

    @property
    def has_tool_calling(self) -> bool:
        return False

    @property
    def has_structured_output(self) -> bool:
        return False

    @property
    def supports_json_mode(self) -> bool:
        return False

    @property
    def returns_usage_metadata(self) -> bool:
        return False


def test_a_chat_of_several_turns(behind: Behind) -> None:
    model = ChatOpenAI(model=MODEL, base_url=behind.url)
    history: list[Any] = [("system", "Be brief")]
    for text in ("one", "two", "three"):
        history.append(("human", text))
        history.append(model.invoke(history))
    assert [turns[-1][1] for turns in behind.turns[1:]] == ["two", "three"]


async def test_an_async_stream(behind: Behind) -> None:
    model = ChatOpenAI(model=MODEL, base_url=behind.url)
    assert "".join([chunk.content async for chunk in model.astream("Hello")]) == "I heard Hello"
