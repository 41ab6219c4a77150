"""The private names that the transport uses exist, and libraries that replace them work."""

from __future__ import annotations

import asyncio
import http.client
import io
import re
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.contrib.socks import SOCKSConnection
from urllib3.util import connection as urllib3_connection

import fake_wire
from h2o_client import AsyncH2oSession, H2oSession, TransportError, TransportTimeout, chat
from h2o_client.backend.background import wait_until_empty
from h2o_client.config import SessionConfig
from h2o_client.timeouts import Timeouts, monotonic
from h2o_client.transport.call import Call
from h2o_client.transport.compat import Breaker, _is_own, _PacedResponse, _parsed, current
from h2o_client.transport.transport import Transport
from h2o_client.wire.request import get
from scripted import Exchange, ScriptedServer, certificates
from scripted_chatui import ID, LAYOUT, ScriptedChatUi, tokens

URL = "http://chat.example"
STOP = re.compile(".*/stop-generating")


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (http.client, "_read_headers"),
        (http.client.HTTPResponse, "_read_status"),
        (http.client.HTTPResponse, "_check_close"),
        (http.client.HTTPConnection("localhost"), "_buffer"),
        (requests.structures.CaseInsensitiveDict(), "_store"),
        (http.client.HTTPConnection, "response_class"),
        (http.client.HTTPConnection, "_tunnel"),
        (HTTPConnection, "_new_conn"),
        (HTTPConnection("localhost"), "_dns_host"),
        (HTTPConnectionPool, "_get_conn"),
        (HTTPConnectionPool, "_put_conn"),
        (HTTPConnectionPool, "ConnectionCls"),
        (HTTPSConnectionPool, "ConnectionCls"),
        (urllib3.PoolManager(), "pool_classes_by_scheme"),
        (urllib3.PoolManager(), "pools"),
        (urllib3_connection, "create_connection"),
        (urllib3_connection, "allowed_gai_family"),
        (HTTPAdapter, "init_poolmanager"),
        (HTTPAdapter, "proxy_manager_for"),
        (HTTPAdapter, "cert_verify"),
        (HTTPAdapter, "build_connection_pool_key_attributes"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_private_name_in_use_exists(owner: object, name: str) -> None:
    assert hasattr(owner, name)


@pytest.mark.parametrize(
    "head",
    [
        b"\r\n",
        b"Content-Type: text/html\r\nSet-Cookie: a=b\r\nset-cookie:\tc=d \r\nX:\r\n\r\n",
        b"X: with: a colon\nY: \xe9\r\n\n",
        b"X: folded\r\n here\r\nY: 2\r\n\r\n",
        b"X: 1\r\nno colon\r\nY: 2\r\n\r\n",
        b"X : 1\r\nY: a\x0bb\r\nZ: \x85c\r\n: nameless\r\n\r\n",
        b"From me\r\nX: 1\r\r\nY: \0\r\n\r\n",
    ],
)
def test_headers_are_parsed_like_the_parser_for_mails_does(head: bytes) -> None:
    found, expected = _parsed(head.splitlines(True)), http.client.parse_headers(io.BytesIO(head))
    assert found.items() == expected.items()
    assert (not found.defects) == (not expected.defects)


def test_a_response_closes_after_the_garbage_collector_has_closed_its_reader() -> None:
    ours, others = socket.socketpair()
    with ours, others:
        current.call = Call(Timeouts())
        try:
            response = _PacedResponse(ours)
        finally:
            current.call = None
        response.fp.close()
        response.close()
        assert response.isclosed()


def test_connections_of_urllib3_are_recognized_as_its_own() -> None:
    kinds: list[type] = [HTTPConnection, HTTPSConnectionPool.ConnectionCls, SOCKSConnection]
    assert all(map(_is_own, kinds))


def test_a_response_of_urllib3_gives_access_to_its_connection() -> None:
    with ScriptedServer(lambda exchange: exchange.json({})) as server:
        manager = urllib3.PoolManager()
        raw: Any = manager.request("GET", server.url, preload_content=False)
        assert raw._fp.fp.read1(10) == b"{}"
        assert (raw._fp.chunked, raw._fp.length) == (False, 2)
        raw.close()
        manager.clear()


def ask(transport: Transport) -> Any:
    return transport.request(get("/"), Call(Timeouts(connect=5, first_token=5, idle=5)))


# urllib3's own switches.


def test_a_program_that_forces_ipv4_gets_ipv4(monkeypatch: pytest.MonkeyPatch) -> None:
    families: list[int] = []

    def resolver(host: str, port: int, family: int = 0, *args: object, **kwargs: object) -> Any:
        families.append(family)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(urllib3_connection, "allowed_gai_family", lambda: socket.AF_INET)
    with ScriptedServer(lambda exchange: exchange.json({})) as server:
        monkeypatch.setattr(socket, "getaddrinfo", resolver)
        transport = Transport(SessionConfig(f"http://dual.example:{server.port}"))
        assert ask(transport).status == 200
        transport.close()
    assert families == [socket.AF_INET]


def test_a_program_without_ipv6_gets_ipv4(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(urllib3_connection, "HAS_IPV6", False)
    families: list[int] = []
    real = socket.getaddrinfo

    def resolver(host: str, port: int, family: int = 0, *args: Any) -> Any:
        families.append(family)
        return real(host, port, family, *args)

    with ScriptedServer(lambda exchange: exchange.json({})) as server:
        monkeypatch.setattr(socket, "getaddrinfo", resolver)
        transport = Transport(SessionConfig(server.url))
        assert ask(transport).status == 200
        transport.close()
    assert families == [socket.AF_INET]


def test_a_replaced_create_connection_is_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Like programs that resolve names themselves."""
    real = urllib3_connection.create_connection
    asked: list[object] = []

    def create_connection(address: tuple[str, int], *args: Any, **kwargs: Any) -> Any:
        asked.append(address[0])
        return real(("127.0.0.1", address[1]), *args, **kwargs)

    monkeypatch.setattr(urllib3_connection, "create_connection", create_connection)
    with ScriptedServer(lambda exchange: exchange.json({})) as server:
        transport = Transport(SessionConfig(f"http://own.example:{server.port}"))
        assert ask(transport).status == 200
        transport.close()
    assert set(asked) == {"own.example"}


def test_the_socket_options_of_urllib3_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[int] = []
    real = socket.socket.connect

    def connect(self: socket.socket, address: Any) -> None:
        found.append(self.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))
        real(self, address)

    keep_alive = (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    HTTPConnection.default_socket_options.append(keep_alive)
    try:
        with ScriptedServer(lambda exchange: exchange.json({})) as server:
            monkeypatch.setattr(socket.socket, "connect", connect)
            transport = Transport(SessionConfig(server.url))
            ask(transport)
            transport.close()
    finally:
        HTTPConnection.default_socket_options.remove(keep_alive)
    assert found == [1]


# Mocks.

PAGE = fake_wire.page(LAYOUT, None)
BODY = b"".join(tokens("Hello", " there"))


def test_requests_mock_works() -> None:
    import requests_mock

    with requests_mock.Mocker() as mocker:
        mocker.get(f"{URL}/api/models", status_code=404, text="<!doctype html>data-sveltekit")
        mocker.get(f"{URL}/__data.json", content=PAGE)
        mocker.post(f"{URL}/settings", json={"type": "redirect", "location": f"{URL}/"})
        mocker.post(f"{URL}/conversation", json={"conversationId": ID})
        mocker.post(f"{URL}/conversation/{ID}", content=BODY)
        mocker.delete(f"{URL}/conversation/{ID}")
        assert chat("Hello", base_url=URL).text == "Hello there"
        asked = [f"{each.method} {each.path}" for each in mocker.request_history]
        assert asked[-1].lower() == f"delete /conversation/{ID}"


def test_a_mocked_failure_of_a_message_is_not_retried() -> None:
    import responses

    with responses.RequestsMock(assert_all_requests_are_fired=False) as mocker:
        mocker.get(f"{URL}/api/models", status=404, body="<!doctype html>data-sveltekit")
        mocker.get(f"{URL}/__data.json", body=PAGE)
        mocker.post(f"{URL}/settings", json={"type": "redirect", "location": f"{URL}/"})
        mocker.post(f"{URL}/conversation", json={"conversationId": ID})
        broken = mocker.post(
            f"{URL}/conversation/{ID}", body=requests.exceptions.ConnectionError("broken")
        )
        mocker.post(f"{URL}/conversation/{ID}/stop-generating")
        mocker.delete(f"{URL}/conversation/{ID}")
        with pytest.raises(TransportError, match="broken") as caught:
            chat("Hello", base_url=URL)
        assert caught.value.resendable is False
        assert broken.call_count == 1


@pytest.mark.parametrize("tls", [False, True])
def test_a_cassette_of_vcr_is_recorded_and_played_without_a_server(
    tmp_path: Path, tls: bool
) -> None:
    import vcr

    verify = certificates().ca
    recorder = vcr.VCR(record_mode="once", match_on=["method", "path"])
    cassette = str(tmp_path / "chat.yaml")
    with ScriptedChatUi(tls=certificates().server if tls else None) as server:
        url = server.url
        with recorder.use_cassette(cassette), H2oSession(url, verify=verify) as client:
            assert client.chat("Hello").text == "Hello there"
        asked = server.paths()
    with recorder.use_cassette(cassette) as played:
        with H2oSession(url, verify=verify) as client:
            assert client.chat("Hello").text == "Hello there"
        assert played.play_count == len(asked)


def test_a_cassette_of_vcr_plays_in_an_event_loop(tmp_path: Path) -> None:
    import vcr

    recorder = vcr.VCR(record_mode="once", match_on=["method", "path"])
    cassette = str(tmp_path / "chat.yaml")

    async def said(url: str) -> str:
        async with AsyncH2oSession(url) as client:
            return "".join([token async for token in client.stream("Hello")])

    with ScriptedChatUi() as server, recorder.use_cassette(cassette):
        assert asyncio.run(said(server.url)) == "Hello there"
    with recorder.use_cassette(cassette):
        assert asyncio.run(said(server.url)) == "Hello there"


def test_after_a_cassette_the_connections_are_restored(tmp_path: Path) -> None:
    import vcr

    with ScriptedChatUi() as server, H2oSession(server.url) as client:
        with vcr.VCR(match_on=["method", "path"]).use_cassette(str(tmp_path / "chat.yaml")):
            client.chat("Hello")
            wait_until_empty(client._backend.cleanup.pending)  # its deletion
        before = len(server.requests)
        assert client.chat("Hello").text == "Hello there"
        assert len(server.requests) > before


# Frozen clocks.


@pytest.mark.parametrize("frozen", ["2012-01-14", "2100-01-01"])
def test_a_frozen_clock_affects_no_answer(frozen: str) -> None:
    import freezegun

    async def said(client: AsyncH2oSession) -> str:
        return (await client.chat("Hello")).text

    with ScriptedChatUi() as server:
        with freezegun.freeze_time(frozen, auto_tick_seconds=60):
            with H2oSession(server.url) as client:
                assert client.chat("Hello").text == "Hello there"
                assert asyncio.run(said(AsyncH2oSession(server.url))) == "Hello there"
                pooled = client
            during = monotonic()
        with H2oSession(server.url) as client:
            assert client.chat("Hello").text == "Hello there"
        assert asyncio.run(said(AsyncH2oSession(server.url))) == "Hello there"
        assert 0 <= monotonic() - during < 60
        assert pooled.base_url == server.url


# Sockets that wait together.


def drips(exchange: Exchange) -> None:
    exchange.head(200, {"Content-Type": "text/event-stream"})
    for event in tokens(*"abcdefgh", end=False):
        exchange.write(event)
    exchange.gone(exchange.server.patience)


def stops(told: threading.Event) -> Callable[[Exchange], None]:
    def stop(exchange: Exchange) -> None:
        told.set()
        exchange.answer(200)

    return stop


GREEN = """
    import sys
    {patch}
    from h2o_client import H2oSession, TransportTimeout, Timeouts
    url, ca = sys.argv[1:]
    client = H2oSession(url, verify=ca, server_version="0.4")
    with client.stream("left by break") as reply:
        for token in reply:
            break
    reply = client.stream("closed")
    next(reply)
    reply.close()
    try:
        client.chat("timed out", timeout=Timeouts(idle=0.2))
        raise SystemExit("no timeout")
    except TransportTimeout as exc:
        assert exc.which == "idle", exc.which
    try:
        with {timeout}(0.5):
            for token in client.stream("limited"):
                pass
        raise SystemExit("no limit")
    except {timeout}:
        pass
    for _ in range(2):
        spawned = {spawn}(lambda: client.chat("killed"))
        {sleep}(0.2)
        {kill}
    client.close()
    print("done")
"""
EVENTLET = GREEN.format(
    patch=(
        "import warnings; warnings.simplefilter('ignore')\n"
        "    import eventlet; eventlet.monkey_patch()"
    ),
    timeout="eventlet.Timeout",
    spawn="eventlet.spawn",
    sleep="eventlet.sleep",
    kill="spawned.kill()",
)
GEVENT = GREEN.format(
    patch="from gevent import monkey; monkey.patch_all(); import gevent",
    timeout="gevent.Timeout",
    spawn="gevent.spawn",
    sleep="gevent.sleep",
    kill="spawned.kill()",
)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("program", [EVENTLET, GEVENT], ids=["eventlet", "gevent"])
def test_green_sockets_can_be_shut_down(program: str, tls: bool) -> None:
    certificate = certificates()
    with ScriptedChatUi(drips, tls=certificate.server if tls else None) as server:
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program), server.url, certificate.ca],
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert (done.returncode, done.stdout.strip()) == (0, "done"), done.stderr
        made = server.count("POST", "/conversation")
        assert made >= 4
        assert server.count("DELETE") >= made  # one whose response is lost is sent again
        assert server.count("POST", STOP) == server.count("POST", re.compile(f".*/{ID}"))


# Libraries that nest or replace event loops.


def test_an_answer_is_read_in_a_nested_event_loop(leaks_nothing: None) -> None:
    program = """
        import asyncio, sys, nest_asyncio
        nest_asyncio.apply()
        from h2o_client import AsyncH2oSession, H2oSession

        async def said():
            async with AsyncH2oSession(sys.argv[1]) as client:
                return (await client.chat("Hello")).text

        async def main():
            with H2oSession(sys.argv[1]) as client:
                blocking = client.chat("Hello").text
            return blocking, asyncio.get_event_loop().run_until_complete(said())

        print(*asyncio.run(main()))
    """
    with ScriptedChatUi() as server:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", textwrap.dedent(program), server.url],
            capture_output=True,
            text=True,
            timeout=100,
        )
    assert done.stdout.split("\n")[0] == "Hello there Hello there", done.stderr


def test_a_breaker_wakes_a_reader_and_closes_its_descriptor(leaks_nothing: None) -> None:
    one, other = socket.socketpair()
    with one, other:
        breaker = Breaker(one, own=True)
        breaker.off()
        assert one.recv(10) == b""
        breaker.close()
        breaker.off()


# A library that replaces urllib3: urllib3-future, a dependency of niquests.


@pytest.fixture
def other_urllib3(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the pools nor the responses have parts of this package."""
    monkeypatch.setattr("h2o_client.transport.compat._IS_URLLIB3", False)


@pytest.mark.usefixtures("other_urllib3")
@pytest.mark.parametrize("tls", [False, True])
def test_answers_are_read_and_stopped_with_another_urllib3(tls: bool) -> None:
    certificate = certificates()
    for message in (None, drips):
        with (
            ScriptedChatUi(message, tls=certificate.server if tls else None) as server,
            H2oSession(server.url, verify=certificate.ca) as client,
        ):
            reply = client.stream("Hello")
            if message is None:
                assert reply.read().text == "Hello there"
            else:
                assert next(reply) == "a"
                reply.close()
                client.close()
                assert server.count("POST", STOP) == 1
            client.close()
            assert server.count("DELETE") == 1


@pytest.mark.usefixtures("other_urllib3")
def test_timeouts_work_with_another_urllib3() -> None:
    def silent(exchange: Exchange) -> None:
        exchange.gone(exchange.server.patience)

    with ScriptedChatUi(silent, patience=30) as server, H2oSession(server.url) as client:
        with pytest.raises(TransportTimeout) as caught:
            client.chat("Hello", timeout=Timeouts(first_token=0.3))
        assert (caught.value.which, caught.value.seconds) == ("first_token", 0.3)
        assert caught.value.resendable is False


@pytest.mark.usefixtures("other_urllib3")
def test_an_event_loop_works_with_another_urllib3() -> None:
    async def said(url: str) -> str:
        async with AsyncH2oSession(url) as client:
            return "".join([token async for token in client.stream("Hello")])

    with ScriptedChatUi() as server:
        assert asyncio.run(said(server.url)) == "Hello there"
