"""v0.3 to v0.6: a late answer that was given up may overwrite later messages.

The server ignores stops like real servers do: every second one until the mark of the first one
expires, and any other that a test chooses. It releases an answer only when the client waits for it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import anyio
import anyio.to_thread
import pytest

from fake_chatui import FakeChatUi
from fake_model import Says
from h2o_client import (
    AsyncH2oSession,
    ConversationBusyError,
    H2oSession,
    Timeouts,
    TransportTimeout,
)
from h2o_client.aio.conversation import AsyncConversation
from h2o_client.conversation import Conversation

pytestmark = pytest.mark.anyio
SLOW = Says(("Some", " words"), holds=True, rest=(" more", " words"))
SILENT = Says((), holds=True, rest=("Late", " words"))
WHOLE = Says(("All", " of it"))
VERSIONS = pytest.mark.parametrize("version", ["0.3", "0.6"])


class Blocking:
    """The calls of a test on a conversation, with the blocking API."""

    def __init__(self, client: H2oSession, **options: Any) -> None:
        self.chat: Conversation = client.conversation(**options)

    async def whole(self, prompt: str, **options: Any) -> str:
        answer = await anyio.to_thread.run_sync(lambda: self.chat.chat(prompt, **options))
        return answer.text

    async def stopped(self, ask: str, *words: Any) -> str:
        def stopped() -> str:
            with getattr(self.chat, ask)(*words) as reply:
                for _ in reply:
                    if reply.text == "Some words":
                        reply.stop()
                return str(reply.text)

        return await anyio.to_thread.run_sync(stopped)

    async def stopped_early(self, server: FakeChatUi, prompt: str) -> str:
        def stop() -> None:
            server.wait_for(lambda server: server.prompts)
            self.chat.stop()

        stopper = threading.Thread(target=stop)
        stopper.start()
        text = await self.whole(prompt)
        stopper.join()
        return text

    async def closed(self, prompt: str) -> None:
        def closed() -> None:
            with self.chat.stream(prompt) as reply:
                next(reply)

        await anyio.to_thread.run_sync(closed)

    async def edited(self, message_id: str, text: str) -> str:
        answer = await anyio.to_thread.run_sync(lambda: self.chat.edit(message_id, text).read())
        return answer.text

    async def messages(self) -> list[Any]:
        return await anyio.to_thread.run_sync(self.chat.messages)


class Async(Blocking):
    """The same calls with the async API."""

    def __init__(self, client: AsyncH2oSession, **options: Any) -> None:
        self.face: AsyncConversation = client.conversation(**options)
        self.chat = self.face.wrapped

    async def whole(self, prompt: str, **options: Any) -> str:
        return (await self.face.chat(prompt, **options)).text

    async def stopped(self, ask: str, *words: Any) -> str:
        async with getattr(self.face, ask)(*words) as reply:
            async for _ in reply:
                if reply.text == "Some words":
                    await reply.stop()
            return str(reply.text)

    async def stopped_early(self, server: FakeChatUi, prompt: str) -> str:
        async with anyio.create_task_group() as group:

            async def stop() -> None:
                await anyio.to_thread.run_sync(server.wait_for, lambda server: server.prompts)
                await self.face.stop()

            group.start_soon(stop)
            return await self.whole(prompt)
        raise AssertionError

    async def closed(self, prompt: str) -> None:
        async with self.face.stream(prompt) as reply:
            await reply.__anext__()

    async def edited(self, message_id: str, text: str) -> str:
        return (await self.face.edit(message_id, text).read()).text

    async def messages(self) -> list[Any]:
        return await self.face.messages()


FACES = pytest.mark.parametrize("face", ["blocking", "async"])


@asynccontextmanager
async def talking(face: str, server: FakeChatUi, **options: Any) -> AsyncIterator[Blocking]:
    """A conversation; when its next message has to wait, the server's model continues."""
    if face == "async":
        async with AsyncH2oSession(server.url) as client:
            talk = Async(client, **options)
            async with talk.face:
                talk.chat.on_wait = server.released.set
                yield talk
        return
    blocking = H2oSession(server.url)
    other = Blocking(blocking, **options)
    other.chat.on_wait = server.released.set
    try:
        yield other
    finally:
        await anyio.to_thread.run_sync(other.chat.close)
        await anyio.to_thread.run_sync(blocking.close)


@pytest.fixture(autouse=True)
def _soon_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("h2o_client.answer.storage._NOTIFIED_AFTER", 0.05)
    monkeypatch.setattr("h2o_client.answer.ending._LATE_TEXT_WITHIN", 0.1)


def said(server: FakeChatUi) -> list[str]:
    """Wait until the server has stored its only conversation, and return the messages."""
    server.wait_for(lambda server: server.stored)
    (conversation,) = server.conversations.values()
    return [each.content for each in conversation.messages]


def is_clean(server: FakeChatUi) -> bool:
    return not [each for each in server.violations if "stop" not in each]


@VERSIONS
@FACES
async def test_an_ignored_stop_loses_no_later_answer(version: str, face: str) -> None:
    # The second stop: the mark of the first one has not expired.
    with FakeChatUi(version, answer=[SLOW, SLOW, WHOLE]) as server:
        async with talking(face, server) as talk:
            assert await talk.stopped("stream", "one") == "Some words"
            talk.chat.on_wait = None  # this stop is obeyed, but late
            assert await talk.stopped("stream", "two") == "Some words"
            talk.chat.on_wait = server.released.set
            assert await talk.whole("three") == "All of it"
            assert [each.content for each in await talk.messages()] == said(server)
            assert said(server) == [
                *("one", "Some words", "two", "Some words more words", "three", "All of it")
            ]
        assert is_clean(server)


@FACES
async def test_a_stop_before_the_first_token_loses_no_later_answer(face: str) -> None:
    with FakeChatUi("0.4", answer=[SILENT, WHOLE]) as server:
        server.deaf = True
        async with talking(face, server) as talk:
            assert await talk.stopped_early(server, "one") == ""
            assert await talk.whole("two") == "All of it"
            assert said(server) == ["one", "Late words", "two", "All of it"]
        assert is_clean(server)


@FACES
async def test_closing_during_an_answer_loses_no_later_answer(face: str) -> None:
    with FakeChatUi("0.4", answer=[SLOW, WHOLE]) as server:
        server.deaf = True
        async with talking(face, server) as talk:
            await talk.closed("one")
            assert await talk.whole("two") == "All of it"
            assert said(server) == ["one", "Some words more words", "two", "All of it"]
        assert is_clean(server)


@FACES
@pytest.mark.parametrize("keep", [False, True])
async def test_a_late_first_token_loses_no_later_answer(face: str, keep: bool) -> None:
    with FakeChatUi("0.4", answer=[SILENT, WHOLE]) as server:
        server.deaf = True
        async with talking(face, server, keep=keep) as talk:
            with pytest.raises(TransportTimeout) as error:
                await talk.whole("one", timeout=Timeouts(first_token=0.3))
            assert (error.value.which, error.value.resendable) == ("first_token", False)
            assert await talk.whole("two") == "All of it"
            assert said(server) == ["one", "Late words", "two", "All of it"]
        assert is_clean(server)
        assert len(server.stops) == 1


@FACES
async def test_stop_retry_stop_edit_loses_no_later_answer(face: str) -> None:
    with FakeChatUi("0.4", answer=[SLOW, SLOW, WHOLE]) as server:
        async with talking(face, server) as talk:
            assert await talk.stopped("stream", "one") == "Some words"
            talk.chat.on_wait = None
            assert await talk.stopped("retry") == "Some words"
            talk.chat.on_wait = server.released.set
            first = server.conversations[talk.chat.id or ""].run
            assert first is not None
            assert await talk.edited(first.user.id, "uno") == "All of it"
            assert said(server) == ["uno", "All of it"]
        assert is_clean(server)


@FACES
async def test_nothing_is_sent_while_an_earlier_answer_is_unfinished(
    face: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("h2o_client.answer.storage._PATIENCE", 0.2)
    with FakeChatUi("0.4", answer=[SLOW, WHOLE]) as server:
        server.deaf = True
        async with talking(face, server) as talk:
            await talk.closed("one")
            talk.chat.on_wait = None
            with caplog.at_level(logging.WARNING), pytest.raises(ConversationBusyError) as busy:
                await talk.whole("two")
            assert "has not ended on the server after 0.2 s" in str(busy.value)
            assert busy.value.resendable is True
            assert "waiting for the end" in caplog.text
            assert [prompt.last for prompt in server.prompts] == ["one"]
            server.released.set()
            assert await talk.whole("two") == "All of it"
        assert is_clean(server)


@FACES
async def test_a_waiting_message_can_be_stopped(face: str) -> None:
    with FakeChatUi("0.4", answer=[SLOW, WHOLE]) as server:
        server.deaf = True
        async with talking(face, server) as talk:
            await talk.closed("one")
            talk.chat.on_wait = talk.chat.stop
            assert await talk.whole("two") == ""
            assert [prompt.last for prompt in server.prompts] == ["one"]
            server.released.set()
            assert await talk.whole("two") == "All of it"


@contextmanager
def two_conversations(server: FakeChatUi, **options: Any) -> Iterator[tuple[Any, Any]]:
    with H2oSession(server.url, **options) as client, client.conversation(keep=True) as first:
        first.on_wait = server.released.set
        first.chat("zero")
        second = client.conversation(first.id)
        second.on_wait = server.released.set
        yield first, second


def test_another_object_for_the_same_conversation_also_waits() -> None:
    with FakeChatUi("0.4", answer=[WHOLE, SLOW, WHOLE]) as server:
        server.deaf = True
        with two_conversations(server) as (first, second):
            with first.stream("one") as reply:
                next(reply)
            assert second.chat("two").text == "All of it"
            assert said(server)[2:] == ["one", "Some words more words", "two", "All of it"]
        assert is_clean(server)


def test_an_abandoned_answer_does_not_count_towards_max_connections() -> None:
    with FakeChatUi("0.4", answer=[SLOW, WHOLE]) as server:
        server.deaf = True
        with H2oSession(server.url, max_connections=1) as client, client.conversation() as chat:
            with chat.stream("one") as reply:
                next(reply)
            assert client.chat("elsewhere").text == "All of it"


def test_closing_the_session_ends_background_reading(leaks_nothing: None) -> None:
    with FakeChatUi("0.4", answer=[SLOW]) as server:
        server.deaf = True
        with (
            H2oSession(server.url) as client,
            client.conversation(keep=True) as chat,
            chat.stream("one") as reply,
        ):
            next(reply)
        assert client._backend.reader.is_reading is False
        server.released.set()
        server.wait_for(lambda server: server.stored)


def test_deleting_a_conversation_ends_background_reading(leaks_nothing: None) -> None:
    with FakeChatUi("0.4", answer=[SLOW]) as server:
        server.deaf = True
        client = H2oSession(server.url)
        with client.conversation() as chat, chat.stream("one") as reply:
            next(reply)
        reader = reply._stream.reader
        assert reader is not None
        response = reader.connection.background
        assert response is not None
        assert response.ended.wait(5)
        assert server.conversations == {}
        client.close()


def test_a_caller_that_does_not_read_slows_the_server_down() -> None:
    words = ("x" * 50_000,) * 200
    with (
        FakeChatUi("0.4", answer=[Says(words)]) as server,
        H2oSession(server.url) as client,
        client.conversation() as chat,
    ):
        reply = chat.stream("one")
        assert next(reply) == words[0]
        assert reply.read().text == "".join(words)
