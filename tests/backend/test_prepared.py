"""A conversation created in advance saves a round trip and is never left on the server."""

from __future__ import annotations

import threading

import anyio
import pytest

from fake_chatui import FakeChatUi
from fake_checks import MESSAGE
from h2o_client import AsyncH2oSession, ConfigurationError, H2oSession
from h2o_client.transport.call import Call
from scripted import Exchange

pytestmark = pytest.mark.usefixtures("leaks_nothing")
VERSIONS = pytest.mark.parametrize("version", ["0.4", "0.7", "0.9.4", "0.10.0", "head"])


def is_prepared(server: FakeChatUi, client: H2oSession) -> None:
    """Return once a conversation is ready."""
    server.wait_for(lambda _: client._backend.prepared.ids())


@VERSIONS
def test_with_a_prepared_conversation_the_message_is_the_first_request(version: str) -> None:
    with FakeChatUi(version) as server:
        with H2oSession(server.url, prepare=1) as client:
            client.chat("One")
            is_prepared(server, client)
            server.wait_for(lambda server: server.count("DELETE") == 1)
            before = len(server.requests)
            client.chat("Two")
            first = server.requests[before]
            assert (first.method, bool(MESSAGE.fullmatch(first.path))) == ("POST", True)
        assert server.conversations == {}


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_async_session_also_prepares_conversations(backend: str) -> None:
    async def work() -> None:
        async with AsyncH2oSession(server.url, prepare=1) as client:
            await client.chat("One")
            await anyio.to_thread.run_sync(is_prepared, server, client.wrapped)
            await client.chat("Two")

    with FakeChatUi("head") as server:
        anyio.run(work, backend=backend)
        assert server.conversations == {}


@VERSIONS
def test_an_unused_prepared_conversation_is_deleted(version: str) -> None:
    with FakeChatUi(version) as server:
        with H2oSession(server.url, prepare=1) as client:
            client.chat("One")
            is_prepared(server, client)
        assert server.conversations == {}
        assert server.count("POST", "/conversation") == 2


def test_a_prompt_for_another_model_does_not_use_a_prepared_conversation() -> None:
    with FakeChatUi("0.10.0") as server:
        with H2oSession(server.url, prepare=1) as client:
            client.chat("One")
            is_prepared(server, client)
            client.chat("Two", model="acme/small")
        assert server.conversations == {}
        assert server.count("POST", "/conversation") >= 3


def test_a_kept_conversation_is_not_a_prepared_one() -> None:
    with FakeChatUi("0.10.0") as server, H2oSession(server.url, prepare=1) as client:
        client.chat("One")
        is_prepared(server, client)
        kept = client.chat("Two", keep=True).conversation_id
        assert kept not in client._backend.prepared.ids()
        listed = [each.id for each in client.conversations()]
        assert listed == [kept]


def test_a_prepared_conversation_that_is_too_old_is_not_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with FakeChatUi("0.10.0") as server:
        with H2oSession(server.url, prepare=1) as client:
            client.chat("One")
            is_prepared(server, client)
            old = client._backend.prepared.ids()
            monkeypatch.setattr("h2o_client.backend.prepared._GOOD_FOR", 0.0)
            assert client.chat("Two").conversation_id not in old
        assert server.conversations == {}


def test_closing_during_the_preparation_leaves_no_conversation() -> None:
    may_go = threading.Event()

    def before(exchange: Exchange) -> bool:
        if (exchange.request.method, exchange.request.path) == ("POST", "/conversation"):
            created.append(exchange)
            if len(created) == 2:
                exchange.until(may_go)
        return False

    created: list[Exchange] = []
    with FakeChatUi("0.10.0", before=before) as server:
        client = H2oSession(server.url, prepare=1)
        client.chat("One")
        server.wait_for(lambda _: len(created) == 2)
        threading.Timer(0.2, may_go.set).start()
        client.close()
        server.wait_for(lambda server: not server.conversations)


def test_a_count_below_zero_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="Invalid prepare -1"):
        H2oSession("http://localhost:1", prepare=-1)


@VERSIONS
def test_a_deleted_prepared_conversation_is_replaced(version: str) -> None:
    with FakeChatUi(version) as server:
        with H2oSession(server.url, prepare=1) as client:
            client.chat("One")
            is_prepared(server, client)
            client.delete_conversations()
            assert client.chat("Two").text == "1 turns, the last: Two"
        assert server.conversations == {}
        assert len(server.prompts) == 2


def test_no_conversation_is_prepared_while_the_session_closes() -> None:
    class ClosedMeanwhile(list[Call]):
        def append(self, call: Call) -> None:
            client._backend.prepared.close()
            super().append(call)

    with FakeChatUi("head") as server:
        with H2oSession(server.url, prepare=1) as client:
            client._backend.prepared._in_progress = ClosedMeanwhile()
            client.chat("One")
        assert server.count("POST", "/conversation") == 1
