"""The async API against every version of chat-ui, on asyncio, uvloop and trio."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from fake_chatui import FakeChatUi
from fake_checks import MESSAGE, check, every_era, stops
from fake_model import Says
from h2o_client import AsyncH2oSession, Elicitation, GenerationError, UnsupportedError
from local_service import PATIENCE

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("leaks_nothing")]

BACKENDS: list[Any] = [("asyncio", {}), ("trio", {})]
if sys.platform != "win32":
    BACKENDS.append(("asyncio", {"use_uvloop": True}))
    # Its first loop opens descriptors that stay open and must not be counted.
    anyio.run(anyio.sleep, 0, backend_options={"use_uvloop": True})


@pytest.fixture(params=BACKENDS, ids=lambda backend: "uvloop" if backend[1] else backend[0])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


@asynccontextmanager
async def talking(version: str, *says: Says) -> AsyncIterator[tuple[FakeChatUi, AsyncH2oSession]]:
    script = list(says) or (lambda prompt: Says())
    with FakeChatUi(version, answer=script) as fake:
        async with AsyncH2oSession(fake.url) as client:
            yield fake, client
        check(fake)


@every_era
async def test_an_answer_arrives_and_its_conversation_is_deleted(version: str) -> None:
    async with talking(version) as (fake, client):
        assert [token async for token in client.stream("Hi")] == ["Hello", " there"]
        answer = await client.chat("Hi")
        assert (answer.text, answer.finish_reason) == ("Hello there", "stop")
        assert fake.stops == []


@every_era
async def test_turns_share_a_history_and_have_ids(version: str) -> None:
    async with talking(version) as (fake, client), client.conversation(system="Be brief") as chat:
        first = await chat.chat("one")
        second = await chat.chat("two")
        stored = [message.id for message in await chat.messages()]
        assert first.message_id in stored
        assert second.message_id in stored
        assert [content for role, content in fake.prompts[-1].turns if role == "assistant"] == [
            "Hello there"
        ]


@every_era
async def test_a_cancelled_answer_is_stopped_if_possible_and_deleted(version: str) -> None:
    async with talking(version, Says(("a",), holds=True)) as (fake, client):
        with anyio.move_on_after(PATIENCE) as scope:
            async with client.stream("Hi") as reply:
                async for _ in reply:
                    scope.cancel()
        assert scope.cancelled_caught
        assert len(fake.stops) <= int(stops(version))
        assert fake.count("POST", MESSAGE) == 1


@every_era
async def test_stop_ends_the_answer_with_the_text_so_far(version: str) -> None:
    async with talking(version, Says(("a",), holds=True)) as (fake, client):
        async with client.stream("Hi") as reply:
            async for _ in reply:
                await reply.stop()
        assert reply.finish_reason == "stopped"
        assert reply.text.strip() == "a"
        assert len(fake.stops) == int(stops(version))


@every_era
async def test_a_failing_model_is_an_error_with_the_text_so_far(version: str) -> None:
    async with talking(version, Says(("a", "b"), end="error")) as (_, client):
        with pytest.raises(GenerationError) as raised:
            await client.chat("Hi")
        assert raised.value.partial.startswith("ab")


async def test_an_elicitation_is_answered_and_the_answer_continues() -> None:
    says = Says(("Let me look.",), asks=True), Says(("Done", "."))
    async with talking("head", *says) as (_, client), client.stream("Hi") as reply:
        events = [event async for event in reply.events()]
        assert any(isinstance(event, Elicitation) for event in events)
        assert reply.elicitation is not None
        assert reply.answer is None
        await reply.answer_elicitation("accept", {"confirm": "DELETE"})
        assert (await reply.read()).text.endswith("Done.")


async def test_an_unsupported_feature_is_named() -> None:
    async with talking("0.10.0") as (_, client):
        with pytest.raises(UnsupportedError, match="cannot search the web"):
            await client.chat("Hi", web_search=True)


async def test_a_warning_points_to_the_callers_line() -> None:
    with FakeChatUi("0.10.0") as server:
        async with AsyncH2oSession(server.url) as client:
            with pytest.warns(
                UserWarning, match="ignores sampling parameters: temperature"
            ) as warned:
                await client.chat("Hello", temperature=0.5)
            await client.chat("Hello", temperature=0.5)  # once a session
    assert [each.filename for each in warned] == [__file__]


async def test_a_warning_raised_as_an_error_leaves_no_conversation() -> None:
    with FakeChatUi("0.10.0", answer=[Says(("One",), holds=True)]) as server:
        async with AsyncH2oSession(server.url) as client:
            with pytest.raises(UserWarning, match="ignores sampling parameters: temperature"):
                await client.chat("Hello", temperature=0.5)
        server.wait_for(lambda server: not server.conversations)
        assert len(server.stops) == 1
