"""A batch's record is on disk before its message is sent."""

from __future__ import annotations

import anyio
import pytest

from fake_chatui import FakeChatUi
from fake_checks import ALL, stops
from fake_model import Says
from fake_store import VERSIONS
from h2o_client import AsyncH2oSession, H2oSession, NotFoundError
from h2o_client.answer.server_run import ResumeToken

every_version = pytest.mark.parametrize("version", ALL)


@every_version
@pytest.mark.anyio
async def test_a_recorded_prompt_is_noted_before_it_is_sent(version: str) -> None:
    noted: list[tuple[str, str | None]] = []
    with FakeChatUi(version) as server:

        def on_send(conversation_id: str, token: str | None) -> None:
            assert conversation_id in server.conversations
            assert not server.prompts
            noted.append((conversation_id, token))

        async with AsyncH2oSession(server.url) as session:
            answer = await session._stream_recorded("Hi", on_send=on_send).read()
            [(conversation_id, token)] = noted
            assert answer.conversation_id == conversation_id
            assert (token is not None) == (VERSIONS[version].is_latest)
            assert conversation_id in server.conversations
            found = await session._find_answer(conversation_id)
            while found.text is None:
                found = await session._find_answer(conversation_id)
            assert (found.text, found.is_taken) == (answer.text, True)
            await session.conversation(conversation_id).delete()
            with pytest.raises(NotFoundError):
                await session._find_answer(conversation_id)
        assert not server.conversations


@every_version
@pytest.mark.anyio
async def test_a_prompt_that_cannot_be_noted_is_not_sent(version: str) -> None:
    def on_send(conversation_id: str, token: str | None) -> None:
        raise OSError("no space left")

    with FakeChatUi(version) as server:
        async with AsyncH2oSession(server.url) as session:
            with pytest.raises(OSError, match="no space left"):
                await session._stream_recorded("Hi", on_send=on_send).read()
        assert not server.prompts
        assert not server.conversations


@every_version
def test_an_empty_conversation_has_no_prompt(version: str) -> None:
    with FakeChatUi(version) as server, H2oSession(server.url) as session:
        conversation = session.conversation(system="Be brief", keep=True)
        conversation_id = conversation.create()
        assert conversation.create() == conversation_id
        assert not session._find_answer(conversation_id).is_taken
        conversation.chat("Hi")
        assert conversation.messages()  # which waits until the answer is stored
        assert session._find_answer(conversation_id).is_taken
        assert len(server.conversations) == 1
        conversation.delete()


@every_version
def test_a_cut_off_answer_is_not_complete(version: str) -> None:
    with (
        FakeChatUi(version, answer=[Says(("a", "b"), end="eof")]) as server,
        H2oSession(server.url) as session,
    ):
        conversation = session.conversation(keep=True)
        conversation.create()
        reply = conversation.stream("Hi")
        try:
            reply.read()
            is_told = False
        except Exception:
            is_told = True
        found = session._find_answer(str(conversation.id))
        assert not is_told or found.text is None
        conversation.delete()


@pytest.mark.anyio
async def test_an_answer_that_was_left_continues_and_can_be_resumed() -> None:
    says = Says(("Hel",), holds=True, rest=("lo",))
    tokens: list[str | None] = []
    with FakeChatUi("head", answer=[says]) as server:
        async with AsyncH2oSession(server.url) as session:
            reply = session._stream_recorded(
                "Hi", on_send=lambda conversation_id, token: tokens.append(token)
            )
            async with reply:
                assert await reply.__anext__() == "Hel"
                await reply.leave()
            assert len(server.conversations) == 1
            server.released.set()
            [token] = tokens
            assert token is not None
            resumed = session.resume(token)
            assert (await resumed.read()).text == "Hello"
            found = await session._find_answer(ResumeToken.read(token).conversation_id)
            assert found.resume_token == token
            await session.conversation(resumed.conversation_id).delete()
        assert not server.stops
        assert not server.conversations


@every_version
@pytest.mark.anyio
async def test_a_cancelled_recorded_prompt_is_stopped_and_its_conversation_is_kept(
    version: str,
) -> None:
    if not stops(version):
        pytest.skip("stops have no effect there")
    noted: list[str] = []
    with FakeChatUi(version, answer=[Says(("Hel",), holds=True)]) as server:
        async with AsyncH2oSession(server.url) as session:
            reply = session._stream_recorded(
                "Hi", on_send=lambda conversation_id, token: noted.append(conversation_id)
            )
            with anyio.CancelScope() as scope:
                async for _ in reply:
                    scope.cancel()
            await anyio.to_thread.run_sync(server.wait_for, lambda fake: fake.stops == noted)
            assert list(server.conversations) == noted
            await session.conversation(noted[0]).delete()
        assert not server.late_stops
