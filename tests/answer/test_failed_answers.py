"""What the client sends again after a failed answer that the server did not store."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fake_chatui import FakeChatUi
from fake_model import Says
from h2o_client import AsyncH2oSession, H2oError, H2oSession, RateLimitError
from scripted import Exchange

pytestmark = pytest.mark.anyio
WHOLE = Says(("All", " of it"))
ENDS = pytest.mark.parametrize("end", ["error", "reset", "eof"])
VERSIONS_OF_2023 = pytest.mark.parametrize("version", ["0.3", "0.4", "0.6"])


def failing(end: str) -> Says:
    return Says(("Some",), end=end)  # type: ignore[arg-type]


def said(server: FakeChatUi) -> list[str]:
    server.wait_for(lambda server: server.stored)
    (conversation,) = server.conversations.values()
    return [each.content for each in conversation.messages if each.role != "system"]


@ENDS
@VERSIONS_OF_2023
def test_retry_sends_only_the_failed_prompt_again(version: str, end: str) -> None:
    answers = [WHOLE, failing(end), failing(end), WHOLE]
    with FakeChatUi(version, answer=answers) as server:
        with H2oSession(server.url) as client, client.conversation() as chat:
            chat.chat("one")
            with pytest.raises(H2oError):
                chat.chat("two")
            with pytest.raises(H2oError):
                chat.retry().read()
            assert chat.retry().read().text == "All of it"
            assert said(server) == ["one", "All of it", "two", "All of it"]
        assert server.violations == []


@ENDS
@pytest.mark.parametrize("by_id", [False, True])
def test_editing_a_failed_prompt_sends_a_new_message(end: str, by_id: bool) -> None:
    with FakeChatUi("0.4", answer=[WHOLE, failing(end), WHOLE]) as server:
        with H2oSession(server.url) as client, client.conversation() as chat:
            chat.chat("one")
            reply = chat.stream("two")
            with pytest.raises(H2oError):
                reply.read()
            chat.edit(reply.message_id if by_id else None, "zwei").read()
            assert said(server) == ["one", "All of it", "zwei", "All of it"]
        assert server.violations == []


async def test_retry_and_edit_work_after_a_failure_in_async_code() -> None:
    with FakeChatUi("0.4", answer=[WHOLE, failing("error"), failing("error"), WHOLE]) as server:
        async with AsyncH2oSession(server.url) as client, client.conversation() as chat:
            await chat.chat("one")
            with pytest.raises(H2oError):
                await chat.chat("two")
            with pytest.raises(H2oError):
                await chat.retry().read()
            await chat.edit(None, "zwei").read()
            assert said(server) == ["one", "All of it", "zwei", "All of it"]
        assert server.violations == []


def test_a_failed_edit_is_sent_again_at_the_same_place() -> None:
    answers = [WHOLE, WHOLE, failing("error"), failing("error"), WHOLE]
    with FakeChatUi("0.4", answer=answers) as server:
        with H2oSession(server.url) as client, client.conversation() as chat:
            chat.chat("one")
            chat.chat("two")
            first = chat.messages()[0].id
            with pytest.raises(H2oError):
                chat.edit(first, "uno").read()
            with pytest.raises(H2oError):
                chat.retry().read()
            chat.edit(None, "eins").read()
            assert said(server) == ["eins", "All of it"]
        assert server.violations == []


def test_edit_without_an_id_edits_the_last_message() -> None:
    with FakeChatUi("0.4") as server:
        with H2oSession(server.url) as client, client.conversation() as chat:
            chat.chat("one")
            chat.chat("two")
            chat.edit(None, "zwei").read()
        assert [each.last for each in server.prompts] == ["one", "two", "zwei"]
        assert server.prompts[-1].turns[0] == ("user", "one")


@ENDS
@VERSIONS_OF_2023
def test_the_system_prompt_is_sent_again_after_a_failed_first_message(
    version: str, end: str
) -> None:
    with FakeChatUi(version, answer=[failing(end), WHOLE, WHOLE, WHOLE]) as server:
        with H2oSession(server.url) as client, client.conversation(system="Be brief") as chat:
            with pytest.raises(H2oError):
                chat.chat("one")
            chat.chat("two")
            chat.messages()
            chat.chat("three")
            chat.chat("four")
        first = "System: Be brief\nUser: {}\nAssistant:"
        asked = [each.last for each in server.prompts]
        assert asked == [first.format("one"), first.format("two"), "three", "four"]


@pytest.mark.parametrize("do", [lambda chat: chat.retry(), lambda chat: chat.edit(None, "uno")])
def test_retrying_a_failed_first_message_includes_the_system_prompt(
    do: Callable[..., object],
) -> None:
    with FakeChatUi("0.4", answer=[failing("error"), WHOLE]) as server:
        with H2oSession(server.url) as client, client.conversation(system="Be brief") as chat:
            with pytest.raises(H2oError):
                chat.chat("one")
            do(chat).read()  # type: ignore[attr-defined]
        assert server.prompts[1].last.startswith("System: Be brief\nUser: ")


class RefusesOne:
    """The server refuses the second message with a rate limit."""

    def __init__(self) -> None:
        self.messages = 0

    def __call__(self, exchange: Exchange) -> bool:
        request = exchange.request
        parts = request.path.split("/")
        if request.method != "POST" or len(parts) != 3 or parts[1] != "conversation":
            return False
        self.messages += 1
        if self.messages != 2:
            return False
        exchange.json({"message": "Too many"}, 429, {"Set-Cookie": "hf-chat=x; Secure"})
        return True


@pytest.mark.parametrize("version", ["0.4", "0.7", "0.8.4", "0.9.4", "0.10.0", "head"])
def test_retry_after_a_refusal_sends_the_refused_message(version: str) -> None:
    with FakeChatUi(version, answer=[WHOLE, WHOLE, WHOLE]) as server:
        server.before = RefusesOne()
        with H2oSession(server.url) as client, client.conversation() as chat:
            chat.chat("one")
            with pytest.raises(RateLimitError):
                chat.chat("two")
            chat.retry().read()
            assert said(server) == ["one", "All of it", "two", "All of it"]
            chat.retry().read()
            assert [each.last for each in server.prompts] == ["one", "two", "two"]
        assert server.violations == []
