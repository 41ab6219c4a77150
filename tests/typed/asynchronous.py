"""A program with the async session and the provider: the types of awaited results."""

from __future__ import annotations

from typing import Literal

from typing_extensions import assert_type

from h2o_client import (
    Answer,
    AsyncConversation,
    AsyncGeneratorProvider,
    AsyncH2oSession,
    AsyncReply,
    AsyncResult,
    H2o,
    H2oSession,
    Message,
    Model,
    Server,
    Settings,
    Timeouts,
    Token,
    User,
)


class Ours(H2o):
    """A provider for the user's own server."""

    url = "http://localhost:3000"
    model = "ours"


async def asks(client: AsyncH2oSession) -> None:
    reply = client.stream("Why is the sky blue?", temperature=0.7)
    assert_type(reply, AsyncReply)
    async for token in reply:
        assert_type(token, str)
    assert_type(await client.stream("Hi"), AsyncReply)
    async with client.stream("Hi", timeout=Timeouts(total=20)) as entered:
        assert_type(entered, AsyncReply)
        assert_type(await entered.read(), Answer)
        await entered.stop()
    assert_type(await client.chat("Hi", max_new_tokens=20), Answer)
    assert_type(reply.text, str)
    assert_type(
        reply.finish_reason,
        Literal["stop", "length", "stopped", "error", "incomplete"] | None,
    )
    async for event in client.stream("Hi").events():
        if isinstance(event, Token):
            assert_type(event.text, str)


async def looks_around(client: AsyncH2oSession) -> None:
    assert_type(await client.models(), list[Model])
    assert_type(await client.settings(), Settings)
    assert_type(await client.user(), User | None)
    assert_type(await client.server(), Server)
    assert_type(client.wrapped, H2oSession)
    async for chat in client.conversations():
        assert_type(chat, AsyncConversation)
        assert_type(chat.title, str | None)


async def talks() -> None:
    async with AsyncH2oSession("http://localhost:3000", max_retries=0) as client:
        assert_type(client, AsyncH2oSession)
        async with client.conversation(system="Be brief.") as chat:
            assert_type(chat, AsyncConversation)
            assert_type(chat.stream("Hi"), AsyncReply)
            assert_type(await chat.chat("Hi"), Answer)
            assert_type(chat.retry(), AsyncReply)
            assert_type(chat.edit("id", "Hello"), AsyncReply)
            assert_type(await chat.messages(), list[Message])
            assert_type(await chat.share(), str)
            await chat.rename("Names")


async def provides() -> None:
    messages = [{"role": "user", "content": "Hi"}]
    result = Ours.create_async_generator(model="", messages=messages, proxy=None, temperature=0.7)
    assert_type(result, AsyncResult)
    async for token in result:
        assert_type(token, str)
    async for token in await Ours.create_async_generator("", messages):
        assert_type(token, str)
    assert_type(await Ours.create_async("", messages), str)
    provider: type[AsyncGeneratorProvider] = Ours
    await provider.create_async(None, "Hi")


async def is_wrong(client: AsyncH2oSession) -> None:
    AsyncH2oSession(url="x")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    AsyncH2oSession(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await client.chat("Hi", temperatur=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    for _ in client.stream("Hi"):  # type: ignore[attr-defined]  # pyright: ignore[reportGeneralTypeIssues, reportUnknownVariableType]
        pass
    with client:  # type: ignore[attr-defined]  # pyright: ignore[reportGeneralTypeIssues]
        pass
    client.chat("Hi").text = ""  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    Ours.create_async_generator()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
