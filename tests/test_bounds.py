"""Limits for hostile or broken servers: memory, time, and data sent back to them."""

from __future__ import annotations

import json
import re
import threading
import tracemalloc
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress

import pytest

import fake_wire
from fake_chatui import FakeChatUi
from h2o_client import H2oSession, ProtocolError, Timeouts, TransportError, TransportTimeout
from h2o_client.backend.api_client import ApiClient
from h2o_client.backend.background_reader import BackgroundReader
from h2o_client.config import SessionConfig
from h2o_client.dialects import plain_api
from h2o_client.dialects.endpoint import Endpoint
from h2o_client.dialects.v0_8 import V0_8
from h2o_client.dialects.web_search import WebSearchReader
from h2o_client.timeouts import Clock
from h2o_client.transport.call import Call, Woken
from h2o_client.transport.transport import Transport
from h2o_client.wire import pagedata, superjson
from h2o_client.wire.request import get
from local_service import Over
from scripted import Exchange, Routes, Script, ScriptedServer
from scripted_chatui import LAYOUT, no_such_page

COOKIE = {"hf-chat": "x"}  # with a cookie, the settings are a user's own and are read first
MESSAGE = re.compile("/conversation/[0-9a-f]+")
Opens = Callable[..., H2oSession]


def pages(body: bytes) -> Routes:
    """A server with a root page that accepts settings."""
    return Routes(
        {
            ("GET", "/api/models"): no_such_page,
            ("GET", "/__data.json"): lambda exchange: exchange.answer(200, body),
            ("POST", "/settings"): lambda exchange: exchange.answer(200),
        }
    )


def only(method: str, path: re.Pattern[str], script: Script) -> Callable[[Exchange], bool]:
    """A ``before`` function of `FakeChatUi` for requests to one path only."""

    def before(exchange: Exchange) -> bool:
        request = exchange.request
        if request.method != method or not path.fullmatch(request.path):
            return False
        script(exchange)
        return True

    return before


def page(*values: object) -> bytes:
    node = {"type": "data", "data": list(values)}
    return json.dumps({"type": "data", "nodes": [node]}).encode()


def doubled(depth: int, first: int) -> list[object]:
    return [*([number + 1] * 2 for number in range(first, first + depth)), "x"]


def settings_of(*values: object, prompts: bool) -> bytes:
    """A root page in whose settings the last of ``values`` stands."""
    head = {"settings": 1, "models": 2, "loginRequired": 3, "conversations": 2}
    settings = {"customPrompts" if prompts else "lol": 6}
    return page(head, settings, [4], False, {"id": 5, "name": 5}, "m", {"p": 7}, *values)


def test_settings_that_are_too_large_when_expanded_are_a_protocol_error(
    open_session: Opens,
) -> None:
    for prompts in (True, False):
        with ScriptedServer(pages(settings_of(*doubled(40, 7), prompts=prompts))) as server:
            with pytest.raises(ProtocolError):
                open_session(server.url, server_version="0.7", cookies=COOKIE).chat("Hello")
            assert {each.method for each in server.requests} == {"GET"}


def test_a_document_that_contains_itself_is_a_protocol_error(open_session: Opens) -> None:
    body = page({"settings": 1, "models": 2, "requiresLogin": 3}, {"lol": 4}, [], False, [4])
    for version in (None, "0.4"):
        with ScriptedServer(pages(body)) as server:
            client = open_session(server.url, server_version=version)
            with pytest.raises(ProtocolError):
                client.settings()


def test_settings_are_not_sent_back_larger_than_received(open_session: Opens) -> None:
    body = settings_of(*doubled(12, 7), prompts=False)
    with ScriptedServer(pages(body)) as server:
        client = open_session(server.url, server_version="0.7", cookies=COOKIE)
        with pytest.raises(ProtocolError, match="larger than their page"):
            client.chat("Hello")
        with pytest.raises(ProtocolError, match="larger than their page"):
            client.update_settings(model="m")
        assert {each.method for each in server.requests} == {"GET"}


def test_a_prompt_that_several_models_share_is_sent_back(open_session: Opens) -> None:
    prompts = dict.fromkeys("abc", "Be brief. " * 20)
    settings = {**LAYOUT["settings"], "customPrompts": prompts}  # type: ignore[dict-item]
    layout: Mapping[str, object] = {**LAYOUT, "settings": settings}
    body = fake_wire.page(layout)
    with ScriptedServer(pages(body)) as server:
        client = open_session(server.url, server_version="0.7", cookies=COOKIE)
        client.update_settings(model="other")
        *_, posted = [each for each in server.requests if each.method == "POST"]
    assert json.loads(posted.body)["customPrompts"] == prompts


def test_half_a_surrogate_pair_in_settings_is_sent_back_unchanged(open_session: Opens) -> None:
    layout = {**LAYOUT, "settings": {"note": "\ud83e"}}
    body = fake_wire.page(layout)
    with ScriptedServer(pages(body)) as server:
        client = open_session(server.url, server_version="0.7", cookies=COOKIE)
        client.update_settings(model="other")
        *_, posted = [each for each in server.requests if each.method == "POST"]
    assert json.loads(posted.body)["note"] == "\ud83e"


# Short descriptions of long documents, by their reader.
DECODED: dict[str, tuple[Callable[[bytes], object], bytes]] = {
    "page data": (pagedata.read, page([1, 1], 5)),
    "superjson": (superjson.read, b'{"json":["1"],"meta":{"values":{"0":["number"]}}}'),
    "models": (plain_api.models().read, b'[{"id":"m"}]'),
    "a web search": (WebSearchReader().feed, b'{"messages":[]}'),
    "a conversation": (V0_8.conversation("6b02")[1].read, b'{"messages":[{"from":"user"}]}'),
}


@pytest.mark.parametrize(("read", "body"), DECODED.values(), ids=DECODED)
def test_timeouts_apply_while_a_response_is_decoded(
    read: Callable[[bytes], object], body: bytes
) -> None:
    timeouts = Timeouts(total=1e-6)
    transport = Transport(SessionConfig("http://127.0.0.1:1"))
    call = Call(timeouts)
    call.clock.hold()  # the caller's own time counts for total only
    with pytest.raises(TransportTimeout) as caught:
        ApiClient(transport, timeouts).parse(Endpoint(get("/"), read), body, call)
    assert caught.value.which == "total"
    transport.close()


def test_closing_a_session_ends_the_decoding() -> None:
    transport = Transport(SessionConfig("http://127.0.0.1:1"))
    call = Call(Timeouts())
    call.wake()
    with pytest.raises(Woken):
        ApiClient(transport, Timeouts()).parse(plain_api.models(), b"[{}]", call)
    transport.close()


def test_a_call_waits_for_another_thread_within_its_own_timeouts(open_session: Opens) -> None:
    asked, over = threading.Event(), threading.Event()

    def silent(exchange: Exchange) -> None:
        asked.set()
        exchange.until(over)
        exchange.cut()

    with ScriptedServer(Routes({("GET", "/api/models"): silent})) as server:
        client = open_session(server.url, max_retries=0)

        def fail() -> None:
            with pytest.raises(TransportError):
                client.models()

        first = threading.Thread(target=fail)
        first.start()
        assert asked.wait(10)
        with pytest.raises(TransportTimeout) as caught:
            client.chat("Hello", timeout=Timeouts(first_token=0.1))
        assert caught.value.which == "first_token"
        with pytest.raises(TransportTimeout) as caught:
            client.chat("Hello", timeout=Timeouts(total=0.1))
        assert caught.value.which == "total"
        over.set()
        first.join(10)
        assert server.count("GET") == 1


def superjson_of(value: object) -> bytes:
    return json.dumps({"json": value}).encode()


def test_a_line_of_the_live_list_is_bounded(open_session: Opens) -> None:
    def endless(exchange: Exchange) -> None:
        exchange.head(200, {"Content-Type": "text/event-stream"})
        exchange.send(b"%x\r\n" % (1 << 30) + b"data: ")
        with suppress(OSError):
            for _ in range(1 << 10):
                exchange.send(b"x" * (1 << 20))
        exchange.cut()

    live = re.compile("/api/v2/generations/live")
    with FakeChatUi("head", before=only("GET", live, endless)) as server:
        client = open_session(server.url)
        with pytest.raises(ProtocolError, match="16 MiB"):
            client.running()


def test_the_list_of_running_answers_is_bounded(open_session: Opens) -> None:
    def many(exchange: Exchange) -> None:
        running = [{"conversationId": f"{number:024x}"} for number in range(2000)]
        exchange.head(200, {"Content-Type": "text/event-stream"})
        exchange.write(b"data: " + json.dumps({"running": running}).encode() + b"\n\n")
        exchange.gone(10)

    live = re.compile("/api/v2/generations/live")
    with FakeChatUi("head", before=only("GET", live, many)) as server:
        with pytest.raises(ProtocolError, match="more than 1000"):
            open_session(server.url).running()
        assert not server.count("GET", re.compile("/api/v2/conversations/.*"))


def test_the_list_of_conversations_is_bounded(
    open_session: Opens, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("h2o_client.session._MOST_CONVERSATIONS", 50)

    def page(exchange: Exchange) -> None:
        first = 20 * server.count("GET", re.compile("/api/v2/conversations"))
        entries = [{"id": f"{first + number:024x}", "title": "t"} for number in range(20)]
        exchange.answer(200, superjson_of({"conversations": entries, "hasMore": True}))

    conversations = re.compile("/api/v2/conversations")
    with FakeChatUi("0.10.0", before=only("GET", conversations, page)) as server:
        found = open_session(server.url).conversations()
        assert len([next(found) for _ in range(40)]) == 40
        with pytest.raises(ProtocolError, match="more than 50"):
            next(found)


def test_statuses_that_never_repeat_are_not_kept(open_session: Opens) -> None:
    # 64 of a MiB each, for one character of text.
    def statuses(exchange: Exchange) -> None:
        exchange.head(200, {"Content-Type": "application/jsonl"})
        exchange.write(b'{"type":"stream","token":"x"}\n')
        for number in range(64):
            name = b"%d" % number + b"y" * (1 << 20)
            exchange.write(b'{"type":"status","status":"' + name + b'"}\n')
        exchange.write(b'{"type":"finalAnswer","text":"x","interrupted":false}\n')
        exchange.end()

    with FakeChatUi("head", before=only("POST", MESSAGE, statuses)) as server:
        client = open_session(server.url)
        client.models()
        tracemalloc.start()
        try:
            assert client.chat("Hello").text == "x"
            assert tracemalloc.get_traced_memory()[1] < 32 << 20
        finally:
            tracemalloc.stop()


def test_an_endless_line_takes_bounded_memory_in_the_background() -> None:
    def endless(exchange: Exchange) -> None:
        exchange.head(200, {"Content-Type": "text/event-stream"})
        exchange.write(b"data:{")
        for _ in range(40):
            exchange.write(b"x" * (1 << 20))
        exchange.end()

    with ScriptedServer(endless) as server:
        transport = Transport(SessionConfig(server.url))
        caller = Call(Timeouts())
        reader = BackgroundReader()
        response = reader.open(lambda call: transport.open(get("/"), call), caller)
        response.wait_for_head()
        response.leave(60)
        tracemalloc.start()
        try:
            assert response.wait_until_ended(caller, 60)
            assert tracemalloc.get_traced_memory()[1] < 38 << 20
        finally:
            tracemalloc.stop()
        transport.close()


# Updates of the newest servers, and whether each one restarts the idle timeout.
LIFE = {
    "text": (b'{"type":"stream","token":"x"}', True),
    "text with padding": (b'{"type":"stream","token":"x\\u0000\\u0000"}', True),
    "reasoning": (b'{"type":"reasoning","subtype":"stream","token":"hm"}', True),
    "a tool": (b'{"type":"tool","subtype":"eta","uuid":"u","eta":5}', True),
    "a web search": (b'{"type":"webSearch","subtype":"update","message":"m"}', True),
    "a file": (b'{"type":"file","name":"f","sha":"s","mime":"m"}', True),
    "a route": (b'{"type":"routerMetadata","route":"r","model":"m"}', True),
    "no text": (b'{"type":"stream","token":""}', False),
    "padding": (b'{"type":"stream","token":"\\u0000\\u0000"}', False),
    "no reasoning": (b'{"type":"reasoning","subtype":"stream","token":""}', False),
    "a keepAlive": (b'{"type":"status","status":"keepAlive"}', False),
    "a status": (b'{"type":"status","status":"started"}', False),
    "a made-up status": (b'{"type":"status","status":"working hard"}', False),
    "a title": (b'{"type":"title","title":"T"}', False),
    "something unknown": (b'{"type":"heartbeat"}', False),
    "nothing": (b"", False),
}


def answering(lines: Iterable[bytes]) -> Script:
    def answer(exchange: Exchange) -> None:
        exchange.head(200, {"Content-Type": "application/jsonl"})
        with suppress(Over):
            for line in lines:
                exchange.write(line + b"\n")
            exchange.end()

    return answer


@pytest.mark.parametrize(("line", "lives"), LIFE.values(), ids=LIFE)
def test_signs_of_progress_restart_the_idle_timeout(
    line: bytes, lives: bool, open_session: Opens, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken, renewed = threading.Event(), []
    renew = Clock.renew

    def noted(clock: Clock) -> None:
        if threading.current_thread() is threading.main_thread():  # others delete conversations
            renewed.append(clock.which)
        renew(clock)

    def lines() -> Iterator[bytes]:
        yield LIFE["text"][0]
        assert taken.wait(10)
        yield line
        yield b'{"type":"finalAnswer","text":"x","interrupted":false}'

    with (
        FakeChatUi("0.10.0", before=only("POST", MESSAGE, answering(lines()))) as server,
        open_session(server.url).stream("Hello") as reply,
    ):
        next(reply)
        monkeypatch.setattr(Clock, "renew", noted)
        taken.set()
        reply.read()
    assert renewed.count("idle") == lives


NO_LIFE = {name: line for name, (line, lives) in LIFE.items() if not lives}


@pytest.mark.parametrize("begun", [False, True], ids=["first token", "idle"])
@pytest.mark.parametrize("line", NO_LIFE.values(), ids=NO_LIFE)
def test_other_updates_do_not_restart_the_idle_timeout(
    line: bytes, begun: bool, open_session: Opens
) -> None:
    def lines() -> Iterator[bytes]:
        if begun:
            yield LIFE["text"][0]
        for _ in range(2000):  # 20 s
            yield line
            server.stopping.wait(0.01)

    with FakeChatUi("0.10.0", before=only("POST", MESSAGE, answering(lines()))) as server:
        client = open_session(server.url)
        client.models()
        with pytest.raises(TransportTimeout) as caught:
            client.chat("Hello", timeout=Timeouts(first_token=0.3, idle=0.3))
    assert caught.value.which == ("idle" if begun else "first_token")
    assert caught.value.partial == "x" * begun


def test_a_slow_document_is_read_as_long_as_bytes_arrive(open_session: Opens) -> None:
    def slow(exchange: Exchange) -> None:
        exchange.head(200, {"Content-Type": "application/json"}, framing="length", length=33)
        exchange.drip(b'[{"id":"m","supportsTools":true}]', pause=0.05)
        exchange.end()

    with ScriptedServer(Routes({("GET", "/api/models"): slow})) as server:
        client = open_session(server.url, server_version="0.10.0", timeout=Timeouts(idle=1))
        assert client.models()
