"""`H2o` called like its ancestor, against the bundled server and its real model."""

from __future__ import annotations

import gc
import json
from collections.abc import AsyncIterator, Iterator

import anyio
import pytest

from h2o_client import (
    AsyncGeneratorProvider,
    AsyncResult,
    ConfigurationError,
    H2o,
    Messages,
)
from h2o_client.dialects.message_requests import DEFAULT_SAMPLING
from h2o_client.server import serve
from local_service import PATIENCE
from proxies import LoggingProxy, SocksProxy
from scripted import ScriptedServer
from scripted_chatui import ID, MODEL, ScriptedChatUi

pytestmark = pytest.mark.anyio

MESSAGE = f"/conversation/{ID}"
GREETING: Messages = [{"role": "user", "content": "Hello"}]


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def real_model() -> Iterator[str]:
    with serve(chat_ui="0.4", secure_cookie=True) as server:
        yield server.url


def at(url: str) -> type[H2o]:
    """The provider, for another server."""
    return type("Elsewhere", (H2o,), {"url": url})


def sent(server: ScriptedServer) -> dict[str, object]:
    (message,) = [each for each in server.requests if each.path == MESSAGE and each.body]
    found = json.loads(message.body)
    assert isinstance(found, dict)
    return found


def test_the_ancestors_names_exist() -> None:
    assert H2o.url == "https://gpt-gm.h2o.ai"
    assert H2o.model == "h2oai/h2ogpt-gm-oasst1-en-2048-falcon-40b-v1"
    assert issubclass(H2o, AsyncGeneratorProvider)
    with pytest.raises(TypeError):
        AsyncGeneratorProvider()  # type: ignore[abstract]


async def test_a_greeting_is_answered(real_model: str) -> None:
    provider = at(real_model)
    answer = ""
    async for token in provider.create_async_generator(
        model="", messages=GREETING, max_new_tokens=20
    ):
        assert isinstance(token, str)
        answer += token
    assert answer.strip()


async def test_a_joke_passes_through_a_proxy_that_sees_every_request(real_model: str) -> None:
    messages = [{"role": "user", "content": "Tell me a joke"}]
    with LoggingProxy() as proxy:
        tokens = [
            token
            async for token in at(real_model).create_async_generator(
                model=None, messages=messages, proxy=proxy.url, max_new_tokens=20
            )
        ]
        assert "".join(tokens).strip()
        asked = [(request.method, request.path) for request in proxy.log]
        hosts = {request.headers["Host"] for request in proxy.log}
    assert hosts == {real_model.removeprefix("http://")}
    assert ("POST", f"{real_model}/settings") in asked
    assert asked[-1][0] == "DELETE"


async def test_a_story_uses_its_parameters(real_model: str) -> None:
    messages = [
        {"role": "system", "content": "You tell stories."},
        {"role": "user", "content": "Tell me a story in one sentence."},
    ]
    generator = await at(real_model).create_async_generator(
        model="", messages=messages, temperature=0.7, max_new_tokens=500
    )
    assert isinstance(generator, AsyncResult)
    async for token in generator:
        assert token
        break
    await generator.aclose()


async def test_callers_parameters_precede_the_ancestors_and_unknown_ones_are_sent() -> None:
    with ScriptedChatUi() as server:
        text = await at(server.url).create_async(
            MODEL, GREETING, temperature=0.7, max_new_tokens=500, watermark=True
        )
        assert text == "Hello there"
        own = {"temperature": 0.7, "max_new_tokens": 500, "watermark": True}
        # A session would keep the server's top_k. The ancestor does not.
        assert sent(server)["parameters"] == {**DEFAULT_SAMPLING, **own}
        assert server.paths()[-1] == f"DELETE {MESSAGE}"


async def test_the_url_is_read_at_each_call_and_the_named_model_is_used() -> None:
    with ScriptedChatUi() as one, ScriptedChatUi() as two:
        provider = at(one.url)
        await provider.create_async("other", GREETING)
        provider.url = two.url
        provider.model = "other"
        await provider.create_async("", GREETING)
        for server in (one, two):
            created = [each.body for each in server.requests if each.path == "/conversation"]
            assert created == [b'{"model":"other"}']


async def test_nothing_is_sent_before_iteration_but_bad_input_is_refused_at_once() -> None:
    with ScriptedChatUi() as server:
        provider = at(server.url)
        result = provider.create_async_generator("", GREETING)
        await result.aclose()
        with pytest.raises(ConfigurationError, match="no user message"):
            provider.create_async_generator("", [])
        with pytest.raises(ConfigurationError, match="Invalid proxy"):
            provider.create_async_generator("", GREETING, proxy="nonsense")
        assert server.requests == []


async def test_leaving_early_deletes_the_conversation() -> None:
    with ScriptedChatUi() as server:

        async def first() -> AsyncIterator[str]:
            async for token in at(server.url).create_async_generator("", GREETING):
                yield token
                break

        assert [token async for token in first()] == ["Hello"]
        gc.collect()
        with anyio.fail_after(PATIENCE):
            while f"DELETE {MESSAGE}" not in server.paths():
                await anyio.sleep(0.01)


async def test_a_socks_proxy_works_too() -> None:
    with ScriptedChatUi() as server, SocksProxy() as proxy:
        text = await at(server.url).create_async("", GREETING, proxy=proxy.url)
        assert text == "Hello there"
        assert proxy.log


async def test_nothing_comes_after_aclose() -> None:
    with ScriptedChatUi() as server:
        generator = at(server.url).create_async_generator(MODEL, GREETING)
        assert await generator.__anext__() == "Hello"
        await generator.aclose()
        assert [token async for token in generator] == []
