"""Answers without text."""

from __future__ import annotations

import pytest

from fake_chatui import FakeChatUi
from fake_model import Says
from h2o_client import AsyncH2oSession, H2oSession

pytestmark = pytest.mark.anyio
NOTHING = Says(())
WHOLE = Says(("All", " of it"))


@pytest.mark.parametrize("version", ["0.4", "0.7", "0.10.0"])
def test_an_answer_without_text_is_empty(version: str) -> None:
    with FakeChatUi(version, answer=[NOTHING]) as server:
        with H2oSession(server.url) as client:
            answer = client.chat("  Say nothing.\n")
        assert (answer.text, answer.finish_reason) == ("", "stop")
        assert server.violations == []


async def test_v0_7_repeats_the_prompt_for_an_answer_without_text() -> None:
    with FakeChatUi("0.7", answer=[NOTHING]) as server:
        async with AsyncH2oSession(server.url) as client:
            reply = client.stream("Say nothing.")
            assert [token async for token in reply] == []
            assert reply.text == ""


def test_an_answer_that_equals_the_prompt_is_kept() -> None:
    with (
        FakeChatUi("0.7", answer=[Says(("Say", " this."))]) as server,
        H2oSession(server.url) as client,
    ):
        assert client.chat("Say this.").text == "Say this."


def test_the_next_message_does_not_wait_for_an_answer_without_text() -> None:
    with FakeChatUi("0.7", answer=[NOTHING, WHOLE]) as server:
        with H2oSession(server.url) as client, client.conversation() as chat:
            chat.chat("one")
            before = len(server.requests)
            chat.chat("two")
            assert len(server.requests) - before == 1
            assert [each.content for each in chat.messages()] == ["one", "two", "All of it"]
        assert server.violations == []
