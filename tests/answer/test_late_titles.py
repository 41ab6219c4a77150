"""v0.7 and v0.8: a title slower than its answer is lost if nobody reads it."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import anyio.to_thread
import pytest

from fake_chatui import FakeChatUi
from fake_model import Says
from h2o_client import AsyncH2oSession, H2oSession
from h2o_client.transport.call import Call

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("leaks_nothing")]
LATE = Says(("All", " of it"), title="A late title", late_title=True)
VERSIONS = pytest.mark.parametrize("version", ["0.7", "0.8.4"])


def slow(version: str, *others: Says) -> FakeChatUi:
    server = FakeChatUi(version, answer=[LATE, *others])
    server.titled.clear()
    return server


def has_title(server: FakeChatUi) -> bool:
    return [each.title for each in server.conversations.values()] == ["A late title"]


@VERSIONS
def test_a_late_title_is_read_in_the_background(version: str) -> None:
    with slow(version, Says(("Two",))) as server, H2oSession(server.url) as client:
        with client.conversation(keep=True) as chat:
            reply = chat.stream("one")
            assert reply.read().text == "All of it"
            assert (reply.title, chat.title) == (None, None)
            server.titled.set()
            server.wait_for(has_title)
            assert chat.chat("two").text == "Two"
            assert (reply.title, chat.title) == ("A late title", "A late title")
        assert server.violations == []


@VERSIONS
def test_the_next_message_waits_for_a_late_title(
    version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with slow(version, Says(("Two",))) as server, H2oSession(server.url) as client:
        with client.conversation(keep=True) as chat:
            chat.chat("one")
            response = client._backend.unstored._answers[chat.id or ""].response
            assert response is not None
            wait = response.wait_until_ended

            def waiting(call: Call, seconds: float) -> bool:
                server.titled.set()
                return wait(call, seconds)

            monkeypatch.setattr(response, "wait_until_ended", waiting)
            assert chat.chat("two").text == "Two"
            assert chat.title == "A late title"
        assert server.violations == []


@VERSIONS
def test_closing_the_session_waits_for_a_late_title(
    version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with slow(version) as server:
        with H2oSession(server.url) as client:
            client.chat("one", keep=True)
            close: Callable[[float], None] = client._backend.reader.close

            def closing(seconds: float) -> None:
                server.titled.set()
                close(seconds)

            monkeypatch.setattr(client._backend.reader, "close", closing)
        server.wait_for(has_title)


@VERSIONS
async def test_a_late_title_is_read_in_async_code(version: str) -> None:
    with slow(version) as server:
        async with AsyncH2oSession(server.url) as client:
            answer = await client.chat("one", keep=True)
            assert answer.text == "All of it"
            server.titled.set()
            await anyio.to_thread.run_sync(server.wait_for, has_title)


@VERSIONS
def test_the_wait_for_a_title_is_bounded(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("h2o_client.answer.connection._TITLED_WITHIN", 0.2)
    with slow(version, Says(("Two",))) as server:
        with H2oSession(server.url) as client, client.conversation(keep=True) as chat:
            chat.chat("one")
            assert chat.chat("two").text == "Two"
        server.titled.set()


@VERSIONS
def test_deleting_a_conversation_does_not_wait_for_its_title(version: str) -> None:
    with slow(version) as server, H2oSession(server.url) as client:
        assert client.chat("one").text == "All of it"
        assert client._backend.reader.is_reading is False
        server.titled.set()
        server.wait_for(lambda server: not server.conversations)
