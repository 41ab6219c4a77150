"""`AsyncH2oSession` and `AsyncConversation`: every public method of the blocking ones, awaited."""

from __future__ import annotations

import inspect
import json
import pickle
import re
from datetime import datetime, timezone
from typing import Any

import anyio
import pytest

from fake_chatui import FakeChatUi
from h2o_client import (
    AsyncConversation,
    AsyncH2oSession,
    AsyncReply,
    ConfigurationError,
    Conversation,
    H2oSession,
    NotFoundError,
    Reply,
    UnsupportedError,
)
from scripted import Exchange, Script
from scripted_chatui import (
    ID,
    LAYOUT,
    MODEL,
    ScriptedChatUi,
    layout,
    page,
    refuses,
    streams,
    tokens,
)

pytestmark = pytest.mark.anyio

MESSAGE = f"/conversation/{ID}"
NOON = datetime(2023, 6, 1, 12, tzinfo=timezone.utc)
FACES = [(H2oSession, AsyncH2oSession), (Conversation, AsyncConversation), (Reply, AsyncReply)]
RENAMED = {"close": "aclose"}
STORED: list[Any] = [
    {"from": "user", "id": "u", "content": "Hi", "createdAt": NOON},
    {"from": "assistant", "id": "a", "content": "Hello there", "createdAt": NOON},
]


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def public(kind: type) -> dict[str, Any]:
    return {name: value for name, value in vars(kind).items() if not name.startswith("_")}


@pytest.mark.parametrize(("blocking", "awaited"), FACES)
async def test_every_public_method_has_an_async_version_with_the_same_parameters(
    blocking: type, awaited: type
) -> None:
    theirs = public(awaited)
    for name, value in public(blocking).items():
        other = theirs.get(RENAMED.get(name, name))
        assert other is not None, f"{awaited.__name__}.{name}"
        assert (other.__doc__ or "").strip(), name
        assert isinstance(value, property) == isinstance(other, property), name
        if callable(value):
            parameters = inspect.signature(value).parameters
            assert inspect.signature(other).parameters == parameters, name


async def test_instance_attributes_are_also_available() -> None:
    with ScriptedChatUi() as server:
        async with AsyncH2oSession(server.url) as client:
            chat = client.conversation()
            for name in (name for name in vars(chat.wrapped) if not name.startswith("_")):
                assert getattr(chat, name) == getattr(chat.wrapped, name), name


async def test_an_async_session_has_the_arguments_and_repr_of_the_blocking_one() -> None:
    ours = inspect.signature(AsyncH2oSession).parameters
    assert ours == inspect.signature(H2oSession).parameters
    with pytest.raises(TypeError):
        AsyncH2oSession("http://localhost:3000", no_such_argument=1)  # type: ignore[call-arg]
    client = AsyncH2oSession("http://name:secret@localhost:3000/chat", model="m")
    assert client.base_url == "http://localhost:3000/chat"
    assert repr(client) == "<AsyncH2oSession http://localhost:3000/chat>"
    await client.aclose()


async def test_a_conversation_of_several_turns() -> None:
    with ScriptedChatUi() as server:
        async with AsyncH2oSession(server.url) as client:
            async with client.conversation() as chat:
                assert (chat.id, chat.title) == (None, None)
                assert repr(chat) == "<AsyncConversation not started>"
                assert (await chat.chat("Hi")).text == "Hello there"
                assert chat.id == ID
                assert [token async for token in chat.retry()] == ["Hello", " there"]
                prompt = (await chat.messages())[0]
                assert prompt.id is not None
                async with chat.edit(prompt.id, "Hey") as reply:
                    assert (await reply.read()).text == "Hello there"
                contents = [each.content for each in await chat.messages()]
                assert contents == ["Hey", "Hello there"]
                with pytest.raises(UnsupportedError):
                    await chat.continue_().read()
                with pytest.raises(TypeError, match="cannot pickle"):
                    pickle.dumps(chat)
                await chat.stop()
            assert server.paths()[-1] == f"DELETE {MESSAGE}"
            with pytest.raises(ConfigurationError, match="closed"):
                await chat.chat("Hi")


async def test_every_method_of_a_conversation_works() -> None:
    def shares(exchange: Exchange) -> None:
        exchange.json({"url": f"https://{exchange.request.headers['Host']}/r/MIAQOXG"})

    def titles(exchange: Exchange) -> None:
        exchange.json({"title": "A title"})

    def done(exchange: Exchange) -> None:
        exchange.answer(200, b"")

    others: dict[tuple[str, str | re.Pattern[str]], Script] = {
        ("PATCH", re.compile(".*")): done,
        ("POST", re.compile(".*/share")): shares,
        ("POST", re.compile(".*/summarize")): titles,
        ("POST", re.compile(".*/vote")): done,
    }
    with ScriptedChatUi(read=page(STORED), others=others) as server:
        async with AsyncH2oSession(server.url) as client:
            chat = client.conversation(ID)
            await chat.rename("Names")
            assert chat.title == "Names"
            assert await chat.share() == f"{server.url}/r/MIAQOXG"
            assert await chat.summarize() == chat.title == "A title"
            await chat.vote(1)
            await chat.vote(-1, "a")
            votes = [each.body for each in server.requests if each.path.endswith("/a/vote")]
            assert votes == [b'{"score":1}', b'{"score":-1}']
            await chat.delete()
            assert server.paths()[-1] == f"DELETE {MESSAGE}"


async def test_a_session_lists_models_and_conversations_and_changes_settings() -> None:
    entries = [{"id": f"{n:024x}", "title": f"T{n}", "model": MODEL} for n in range(3)]
    node = {**LAYOUT, "conversations": entries, "user": {"id": "1", "username": "ada"}}
    with ScriptedChatUi(root=layout(node)) as server:
        async with AsyncH2oSession(server.url) as client:
            found = [chat async for chat in client.conversations()]
            assert [(chat.id, chat.title) for chat in found] == [
                (each["id"], each["title"]) for each in entries
            ]
            assert [model.id for model in await client.models()] == [MODEL, "other"]
            user = await client.user()
            assert user is not None
            assert user.name == "ada"
            assert (await client.server()).versions == "chat-ui v0.3 to v0.6"
            assert (await client.settings()).active_model == MODEL
            await client.update_settings(model="other", share_data=False)
            posted = [each.body for each in server.requests if each.path == "/settings"][-1]
            assert b"activeModel=other" in posted
            assert b"shareConversations" not in posted


async def test_all_conversations_are_deleted_by_a_form() -> None:
    def deleted(exchange: Exchange) -> None:
        exchange.json({"type": "redirect", "status": 303, "location": "/"})

    with ScriptedChatUi(others={("POST", "/conversations"): deleted}) as server:
        async with AsyncH2oSession(server.url) as client:
            await client.delete_conversations()
        assert server.count("POST", "/conversations") == 1


async def test_errors_are_those_of_the_blocking_session() -> None:
    missing = refuses(404, {"message": "Conversation not found"})
    with ScriptedChatUi(missing) as server:
        async with AsyncH2oSession(server.url) as client:
            with pytest.raises(NotFoundError, match="Conversation not found"):
                await client.conversation(ID).chat("Hi")


async def test_a_cancelled_method_ends_its_request(leaks_nothing: None) -> None:
    def silent(exchange: Exchange) -> None:
        exchange.until_gone()

    with ScriptedChatUi(root=silent) as server:
        async with AsyncH2oSession(server.url, max_retries=0) as client:
            with anyio.move_on_after(0.2) as scope:
                await client.models()
            assert scope.cancelled_caught


async def test_concurrent_streams_do_not_mix() -> None:
    def echo(exchange: Exchange) -> None:
        said = json.loads(exchange.request.body)["inputs"]
        streams(tokens(*[f"{said} "] * 50))(exchange)

    with ScriptedChatUi(echo) as server:
        async with AsyncH2oSession(server.url) as client:
            texts: dict[int, str] = {}

            async def ask(number: int) -> None:
                texts[number] = (await client.chat(f"n{number}")).text

            async with anyio.create_task_group() as tasks:
                for number in range(30):
                    tasks.start_soon(ask, number)
        assert texts == {number: f"n{number} " * 50 for number in range(30)}
        assert server.count("DELETE", MESSAGE)  # all have the same id here


async def test_a_dropped_setting_is_warned_about_at_the_callers_line() -> None:
    with FakeChatUi("0.9.4") as server:
        async with AsyncH2oSession(server.url) as client:
            with pytest.warns(UserWarning, match=r"dropped .* noSuchSetting") as warned:
                await client.update_settings(others={"noSuchSetting": 1})
    assert [each.filename for each in warned] == [__file__]
