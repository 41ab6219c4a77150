"""A web search of v0.3 to v0.6, whose body never ends."""

from __future__ import annotations

import threading

import pytest

from fake_chatui import FakeChatUi
from h2o_client import AsyncH2oSession, H2oSession, ProtocolError, Timeouts, TransportTimeout
from h2o_client.wire.events import WebSearch
from recordings import recording
from scripted import Exchange, Script
from scripted_chatui import ID, ScriptedChatUi, streams, tokens

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("leaks_nothing")]
VERSIONS = pytest.mark.parametrize("version", ["0.3", "0.4", "0.6"])
SEARCH = f"/conversation/{ID}/web-search"


@VERSIONS
def test_the_search_is_read_up_to_its_result(version: str) -> None:
    with FakeChatUi(version) as server, H2oSession(server.url) as client:
        reply = client.stream("news", web_search=True)
        steps = [each for each in reply.events() if isinstance(each, WebSearch)]
        assert [each.kind for each in steps[:2]] == ["update", "update"]
        assert steps[0].message.startswith("Searching Google: ")
        assert reply.answer is not None
        assert [each.link for each in reply.answer.sources] == ["https://a.example/1"]
        assert server.prompts[0].searched


@VERSIONS
async def test_the_search_is_read_up_to_its_result_in_async_code(version: str) -> None:
    with FakeChatUi(version) as server:
        async with AsyncH2oSession(server.url) as client, client.conversation() as chat:
            answer = await chat.chat("news", web_search=True)
            assert [each.link for each in answer.sources] == ["https://a.example/1"]
            assert (await chat.messages())[-1].sources == ("https://a.example/1",)


@VERSIONS
def test_a_failed_search_is_a_warning(version: str) -> None:
    with FakeChatUi(version) as server, H2oSession(server.url) as client:
        server.searches_fail = True
        with pytest.warns(UserWarning, match=r"web search failed \(An error occurred .* No key"):
            answer = client.chat("news", web_search=True)
        assert answer.sources == ()
        assert answer.text


def searching(search: Script) -> ScriptedChatUi:
    answer = streams(tokens("Hello", " there"))
    return ScriptedChatUi(answer, others={("GET", SEARCH): search})


@pytest.mark.parametrize("version", ["v0.3", "v0.6"])
def test_the_bytes_of_a_real_search_are_read(version: str) -> None:
    recorded = recording(f"{version}-web-search")

    def search(exchange: Exchange) -> None:
        exchange.head(200, {"Content-Type": "application/json"})
        exchange.send(recorded.framed)
        exchange.gone(30)

    with searching(search) as server, H2oSession(server.url) as client:
        assert client.chat("cats", web_search=True).sources[0].link.endswith("__page?n=1")


def test_a_silent_search_times_out() -> None:
    def search(exchange: Exchange) -> None:
        exchange.head(200, {"Content-Type": "application/json"})
        exchange.write(b'{"messages":[]}')
        exchange.gone(30)

    with searching(search) as server, H2oSession(server.url) as client:
        with pytest.raises(TransportTimeout) as error:
            client.chat("cats", web_search=True, timeout=Timeouts(idle=0.3))
        assert (error.value.which, error.value.resendable) == ("idle", True)


def test_a_search_can_be_stopped() -> None:
    begun = threading.Event()

    def search(exchange: Exchange) -> None:
        exchange.head(200, {"Content-Type": "application/json"})
        exchange.write(b'{"messages":[]}')
        begun.set()
        exchange.gone(30)

    with searching(search) as server, H2oSession(server.url) as client:
        chat = client.conversation()

        def stop() -> None:
            assert begun.wait(10)
            chat.stop()

        thread = threading.Thread(target=stop)
        thread.start()
        assert chat.chat("cats", web_search=True).finish_reason == "stopped"
        thread.join()
        assert server.count("POST", f"/conversation/{ID}") == 0
        chat.close()


@pytest.mark.parametrize("body", [b"<html>", b'{"messages":[]}', b'{"messages"'])
def test_a_search_without_a_result_is_a_protocol_error(body: bytes) -> None:
    def search(exchange: Exchange) -> None:
        exchange.answer(200, body)

    with searching(search) as server, H2oSession(server.url) as client:
        with pytest.raises(ProtocolError) as error:
            client.chat("cats", web_search=True)
        assert error.value.resendable is True
