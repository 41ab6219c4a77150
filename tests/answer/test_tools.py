"""Answers of models that use the tools of their server (v0.9.6 and later)."""

from __future__ import annotations

import pytest

from cutting import BreakingPath, Cut
from fake_chatui import FakeChatUi
from fake_checks import check, talking, versions
from fake_model import Says
from h2o_client import Answer, AsyncH2oSession, H2oSession
from h2o_client.wire.events import Tool
from ways import Way

LOOKS = Says(("Let me ", "look. "), tool=("It ", "is 5."))
TEXT = "Let me look. It is 5."


@versions((0, 9, 6))
def test_text_before_a_tool_call_is_part_of_the_answer(version: str) -> None:
    # The final answer has only the text after the tool. The server stores and shows the whole text.
    with talking(version, answer=[LOOKS, Says(("Yes",)), LOOKS]) as (server, client):
        with client.conversation() as chat:
            reply = chat.stream("Hello")
            events = list(reply.events())
            assert [each.kind for each in events if isinstance(each, Tool)] == [
                "call",
                "eta",
                "result",
            ]
            assert isinstance(events[-1], Answer)
            assert events[-1].text == reply.text == TEXT
            assert chat.messages()[-1].content == TEXT
            assert chat.chat("And?").text == "Yes"
        assert [each[1] for each in server.prompts[1].turns] == ["Hello", TEXT, "And?"]
        assert client.chat("Hello").text == TEXT


@pytest.mark.anyio
async def test_it_is_part_of_the_answer_in_async_code() -> None:
    with FakeChatUi("head", answer=[LOOKS]) as server:
        async with AsyncH2oSession(server.url) as client:
            assert (await client.chat("Hello")).text == TEXT
        check(server)


@pytest.mark.parametrize("expire", [False, True])
@pytest.mark.parametrize("at", [250, 700, 1100])
def test_it_is_part_of_a_resumed_answer(at: int, expire: bool) -> None:
    with FakeChatUi("head", answer=[LOOKS]) as server:
        server.logs_expire = expire
        with (
            BreakingPath(server.port, Way([Cut(at, "reset")])) as path,
            H2oSession(path.url, server_version="latest") as client,
        ):
            reply = client.stream("Hello")
            assert "".join(reply) == TEXT
            assert (reply.text, reply.resumed) == (TEXT, 1)
            assert reply.read().text == TEXT
        check(server)


def test_text_before_an_elicitation_is_kept() -> None:
    asks = Says(("Let me ", "look. "), asks=True)
    with talking("head", answer=[asks, Says((), tool=("It ", "is 5."))]) as (_, client):
        reply = client.stream("Hello")
        assert "".join(reply) == "Let me look. "
        reply.answer_elicitation("accept", {"confirm": "DELETE"})
        assert "".join(reply) == "It is 5."
        assert reply.read().text == reply.text == TEXT


@pytest.mark.parametrize("late", [0.0, 0.3])
def test_text_read_from_the_store_is_not_repeated(late: float) -> None:
    # Until the server has stored the second run, it reports that the first one has ended. Of the
    # stored answer, the text before the elicitation has already been returned.
    asks = Says(("Let me ", "look. "), asks=True)
    says = [asks, Says((), tool=("It ", "is 5."))]
    with FakeChatUi("head", answer=says) as server:
        with (
            BreakingPath(server.port, Way([None, Cut(450, "reset")])) as path,
            H2oSession(path.url, server_version="latest") as client,
        ):
            reply = client.stream("Hello")
            assert "".join(reply) == "Let me look. "
            server.logs_expire, server.late = True, late
            reply.answer_elicitation("accept", {"confirm": "DELETE"})
            assert "".join(reply) == "It is 5."
            assert reply.read().text == TEXT
        check(server)
