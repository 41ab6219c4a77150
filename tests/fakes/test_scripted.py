"""scripted.py and proxies.py, tested with raw sockets and with requests."""

from __future__ import annotations

import contextlib
import gc
import os
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator

import pytest
import requests

from local_service import PATIENCE, Over, at_once
from proxies import LoggingProxy, SocksProxy, SocksRequest
from scripted import (
    AtAccept,
    Exchange,
    Framing,
    InTurn,
    Routes,
    Script,
    ScriptedServer,
    certificates,
    chunk,
    endless_headers,
    garbage,
    hang_up,
    hang_up_rudely,
    refusing_port,
    say_nothing,
    unaccepted_port,
)

GET = b"GET /a?b=c HTTP/1.1\r\nHost: here\r\n\r\n"


@pytest.fixture(autouse=True)
def no_proxies_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def ok(exchange: Exchange) -> None:
    exchange.answer(200, b"fine")


def dial(server: ScriptedServer | LoggingProxy | SocksProxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)


def read_all(sock: socket.socket) -> bytes:
    data = b""
    while piece := sock.recv(65536):
        data += piece
    return data


def read_until(sock: socket.socket, end: bytes) -> bytes:
    data = b""
    while not data.endswith(end):
        piece = sock.recv(65536)
        assert piece, f"closed after {data!r}"
        data += piece
    return data


def conversation(script: Script, request: bytes = GET) -> bytes:
    """All received bytes, until the server's FIN."""
    with ScriptedServer(script) as server, dial(server) as sock:
        sock.sendall(request)
        return read_all(sock)


@contextlib.contextmanager
def nothing_left_behind() -> Iterator[None]:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0

    gc.collect()
    before = threading.active_count(), descriptors()
    yield
    gc.collect()
    # Threads of earlier tests may have ended in the meantime.
    assert threading.active_count() <= before[0]
    assert descriptors() <= before[1]


# --- framing, byte by byte ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("framing", "head", "body"),
    [
        (
            "chunked",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked",
            b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n",
        ),
        ("length", b"HTTP/1.1 200 OK\r\nContent-Length: 3", b"abc"),
        ("close", b"HTTP/1.1 200 OK\r\nConnection: close", b"abc"),
        ("http10", b"HTTP/1.0 200 OK", b"abc"),
    ],
)
def test_an_answer_is_framed_as_configured(framing: Framing, head: bytes, body: bytes) -> None:
    def script(exchange: Exchange) -> None:
        exchange.head(framing=framing, length=3 if framing == "length" else None)
        exchange.write(b"ab")
        exchange.write(b"c")
        exchange.end()
        exchange.cut()

    assert conversation(script) == head + b"\r\n\r\n" + body


def test_head_sends_status_and_headers_in_order_and_repeated() -> None:
    def script(exchange: Exchange) -> None:
        exchange.head(404, [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")], framing="close")
        exchange.end()

    assert conversation(script) == (
        b"HTTP/1.1 404 Not Found\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nConnection: close\r\n\r\n"
    )


def test_trailers_extensions_and_false_chunk_sizes_can_be_sent() -> None:
    def script(exchange: Exchange) -> None:
        exchange.head(framing="chunked")
        exchange.send(chunk(b"abc", extension=";x=y"))
        exchange.send(chunk(b"abc", size=20))
        exchange.end(trailers={"X-Sum": "1"})
        exchange.cut()

    body = conversation(script).partition(b"\r\n\r\n")[2]
    assert body == b"3;x=y\r\nabc\r\n14\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n"


def test_a_content_length_that_is_too_large_ends_in_a_cut() -> None:
    def script(exchange: Exchange) -> None:
        exchange.head(framing="length", length=10)
        exchange.write(b"abc")
        exchange.end()

    assert conversation(script).endswith(b"Content-Length: 10\r\n\r\nabc")


def test_a_content_length_that_is_too_small_keeps_the_connection() -> None:
    def script(exchange: Exchange) -> None:
        exchange.head(framing="length", length=1)
        exchange.write(b"abc")
        exchange.end()

    with ScriptedServer([script, ok]) as server, dial(server) as sock:
        sock.sendall(GET)
        assert read_until(sock, b"abc").endswith(b"Content-Length: 1\r\n\r\nabc")
        sock.sendall(GET)
        assert read_until(sock, b"fine")
        assert server.connections == 1


def test_drip_frames_each_piece() -> None:
    def script(exchange: Exchange) -> None:
        exchange.head()
        exchange.drip(b"abcde", size=2)
        exchange.drip(chunk(b"hello"), raw=True)
        exchange.end()
        exchange.cut()

    body = conversation(script).partition(b"\r\n\r\n")[2]
    assert body == b"2\r\nab\r\n2\r\ncd\r\n1\r\ne\r\n5\r\nhello\r\n0\r\n\r\n"


def test_a_head_with_a_pause_is_sent_byte_by_byte() -> None:
    def script(exchange: Exchange) -> None:
        exchange.head(framing="close", pause=0.002)
        exchange.end()

    pieces = []
    with ScriptedServer(script) as server, dial(server) as sock:
        sock.sendall(GET)
        while piece := sock.recv(65536):
            pieces.append(piece)
    whole = b"".join(pieces)
    assert whole == b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
    assert len(pieces) > len(whole) / 3


def test_answer_and_json_send_complete_responses() -> None:
    def plain(exchange: Exchange) -> None:
        exchange.answer(201, b"\xff", content_type="a/b", headers={"X-One": "1"})

    def value(exchange: Exchange) -> None:
        exchange.json({"a": 1}, status=500, headers=[("X-Two", "2")])

    with ScriptedServer([plain, value]) as server, requests.Session() as client:
        first, second = client.get(server.url), client.get(server.url)
    assert (first.status_code, first.content, first.headers["Content-Type"]) == (
        201,
        b"\xff",
        "a/b",
    )
    assert (second.status_code, second.json(), second.headers["X-Two"]) == (500, {"a": 1}, "2")
    assert first.headers["X-One"] == "1"


def test_a_raw_answer_can_be_sent_too() -> None:
    def script(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
        exchange.end()

    with ScriptedServer(script) as server, requests.Session() as client:
        assert [client.get(server.url).text for _ in range(2)] == ["hi", "hi"]
        assert server.connections == 1


# --- requests and the log ----------------------------------------------------------------------


def test_requests_are_logged_completely_and_in_order() -> None:
    def pieces() -> Iterator[bytes]:
        yield b"ab"
        yield b"cd"

    with ScriptedServer(ok) as server, requests.Session() as client:
        client.post(server.url + "/one?x=1", data=b"body", headers={"X-Name": "v"})
        client.post(server.url + "/two", data=pieces())
        client.get(server.url + "/two", headers={"Cookie": "a=1; b=2"})
        client.post(server.url + "/three", json={"k": [1]})
        one, two, get, three = server.requests
    assert (one.method, one.target, one.path, one.query) == ("POST", "/one?x=1", "/one", "x=1")
    assert (one.body, one.headers["x-name"], "X-NAME" in one.headers) == (b"body", "v", True)
    assert two.body == b"abcd"
    assert one.when < two.when < get.when
    assert get.cookies == {"a": "1", "b": "2"}
    assert three.json() == {"k": [1]}
    assert server.paths() == ["POST /one", "POST /two", "GET /two", "POST /three"]
    assert (server.count("POST"), server.count("POST", "/two")) == (3, 1)
    assert server.count("POST", re.compile("/t.*")) == 2


def test_forms_are_read() -> None:
    files: list[tuple[str, tuple[str | None, bytes]]] = [
        ("files", ("base64;a b.bin", b"\r\n\x00\xff\r\n")),
        ("g", (None, b"text")),
    ]
    with ScriptedServer(ok) as server, requests.Session() as client:
        client.post(server.url, data=[("a", "1 &ä"), ("a", "")])
        client.post(server.url, files=files)
        plain, multipart = server.requests
    assert plain.form() == [("a", "1 &ä".encode(), None), ("a", b"", None)]
    assert multipart.form() == [
        ("files", b"\r\n\x00\xff\r\n", "base64;a b.bin"),
        ("g", b"text", None),
    ]


def test_keep_alive_takes_the_next_request_on_the_same_connection() -> None:
    def chunked(exchange: Exchange) -> None:
        exchange.head()
        exchange.end()

    with ScriptedServer([chunked, ok, ok]) as server, requests.Session() as client:
        client.get(server.url)
        client.get(server.url)
        requests.get(server.url)
        assert [request.connection for request in server.requests] == [1, 1, 2]
        assert server.connections == 2


def test_a_client_that_asks_to_close_is_closed() -> None:
    request = b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n"
    assert conversation(ok, request).endswith(b"\r\n\r\nfine")


def test_a_list_of_scripts_is_used_up_in_order() -> None:
    def busy(exchange: Exchange) -> None:
        exchange.answer(503)

    with ScriptedServer([busy, hang_up, ok]) as server:
        assert requests.get(server.url).status_code == 503
        with pytest.raises(requests.ConnectionError):
            requests.get(server.url)
        assert requests.get(server.url).text == "fine"
        assert server.connections == 3


def test_routes_choose_by_method_and_path() -> None:
    seen: list[str] = []

    def delete(exchange: Exchange) -> None:
        assert exchange.match
        seen.append(exchange.match["id"])
        exchange.json({})

    routes = Routes(
        {
            ("POST", "/settings"): [lambda exchange: exchange.answer(429), ok],
            ("DELETE", re.compile(r"/conversation/(?P<id>\w+)")): delete,
        }
    )
    with ScriptedServer(routes) as server:
        answers = [requests.post(server.url + "/settings?x=1").status_code for _ in range(2)]
        assert requests.delete(server.url + "/conversation/abc").ok
        missing = requests.get(server.url + "/settings")
    assert answers == [429, 200]
    assert seen == ["abc"]
    assert (missing.status_code, missing.json()) == (404, {"message": "Not Found"})


# --- how connections end -----------------------------------------------------------------------


def test_cut_is_a_clean_end_and_reset_is_not() -> None:
    def script(exchange: Exchange) -> None:
        exchange.head()
        exchange.write(b"abc")
        exchange.reset() if exchange.request.query else exchange.cut()

    with ScriptedServer(script) as server:
        with dial(server) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert read_all(sock).endswith(b"3\r\nabc\r\n")
        with dial(server) as sock:
            sock.sendall(GET)
            read_until(sock, b"3\r\nabc\r\n")
            with pytest.raises(ConnectionResetError):
                sock.recv(1)


def test_cut_is_clean_though_the_client_is_still_sending() -> None:
    with ScriptedServer(hang_up) as server, dial(server) as sock:
        sock.sendall(b"x" * 100_000)
        assert sock.recv(1) == b""


def test_at_accept_a_script_can_reset_or_read_raw_bytes() -> None:
    seen: list[bytes] = []

    def look(exchange: Exchange) -> None:
        seen.append(exchange.receive())
        exchange.send(b"bye")

    with ScriptedServer([hang_up_rudely, AtAccept(look)]) as server:
        with pytest.raises(ConnectionResetError), dial(server) as sock:  # or at connecting
            sock.recv(1)
        with dial(server) as sock:
            sock.sendall(b"\x16\x03\x01")
            assert read_all(sock) == b"bye"
    assert seen == [b"\x16\x03\x01"]


def test_say_nothing_sends_nothing_until_the_client_leaves() -> None:
    with ScriptedServer(say_nothing) as server:
        with pytest.raises(requests.ReadTimeout):
            requests.get(server.url, timeout=0.1)
        server.wait_for(lambda server: server.open == 0)
        assert (server.connections, server.requests) == (1, [])


def test_garbage_and_endless_headers_are_not_http() -> None:
    with ScriptedServer([garbage, endless_headers]) as server:
        for _ in range(2):
            with pytest.raises(requests.ConnectionError):
                requests.get(server.url, timeout=PATIENCE)


@pytest.mark.parametrize("seconds", [0.0, 0.05])
def test_close_after_closes_an_idle_connection_unannounced(seconds: float) -> None:
    def script(exchange: Exchange) -> None:
        exchange.close_after(seconds)
        exchange.answer(200, b"fine")

    with ScriptedServer(script) as server, dial(server) as sock:
        sock.sendall(GET)
        data = read_all(sock)
        server.wait_for(lambda server: server.open == 0)
    assert data.endswith(b"\r\n\r\nfine")
    assert b"lose" not in data


def test_open_decreases_when_a_client_closes_an_idle_connection() -> None:
    with ScriptedServer(ok) as server:
        with requests.Session() as client:
            client.get(server.url)
            assert server.open == 1
        server.wait_for(lambda server: server.open == 0)


# --- waiting -----------------------------------------------------------------------------------


@pytest.mark.parametrize("tls", [False, True])
def test_gone_reports_whether_the_client_has_left(tls: bool) -> None:
    seen: list[object] = []

    def script(exchange: Exchange) -> None:
        exchange.head()
        exchange.write(b"token")
        seen.append(exchange.gone(0.05))
        with at_once():
            exchange.until_gone()
        seen.append(exchange.gone(0))

    certs = certificates()
    with ScriptedServer(script, tls=certs.server if tls else None) as server:
        with requests.get(server.url, stream=True, verify=certs.ca) as response:
            body = response.iter_content(5)  # kept, because its end would close the connection
            assert next(body) == b"token"
            server.wait_for(lambda _: seen)
        server.wait_for(lambda _: len(seen) == 2)
    assert seen == [False, True]


def test_gone_keeps_what_the_client_sent_meanwhile() -> None:
    def script(exchange: Exchange) -> None:
        assert not exchange.gone(0.1)
        exchange.answer(200, b"fine")

    with ScriptedServer([script, ok]) as server, dial(server) as sock:
        sock.sendall(GET + GET)
        assert read_until(sock, b"fine")
        server.wait_for(lambda server: server.count("GET") == 2)


def test_writing_to_a_client_that_left_ends_the_script_quietly() -> None:
    ended: list[BaseException] = []

    def script(exchange: Exchange) -> None:
        exchange.head()
        try:
            while True:
                exchange.write(b"x" * 1000)
        except Over as over:
            ended.append(over)
            raise

    with ScriptedServer(script) as server:
        with dial(server) as sock:
            sock.sendall(GET)
            sock.recv(1)
        server.wait_for(lambda _: ended)


@pytest.mark.parametrize(
    "wait",
    [
        lambda exchange: exchange.stall(60),
        lambda exchange: exchange.gone(60),
        lambda exchange: exchange.until(threading.Event(), 60),
        lambda exchange: exchange.drip(b"abc", pause=60),
        lambda exchange: [exchange.write(b"x" * 100_000) for _ in range(10_000)],
    ],
    ids=["stall", "gone", "until", "drip", "write"],
)
@pytest.mark.parametrize("tls", [False, True])
def test_leaving_the_block_ends_every_wait_at_once(
    wait: Callable[[Exchange], object], tls: bool
) -> None:
    began = threading.Event()

    def script(exchange: Exchange) -> None:
        exchange.head()
        began.set()
        wait(exchange)

    certs = certificates()
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(
            ScriptedServer(script, tls=certs.server if tls else None, patience=60)
        )
        response = requests.get(server.url, stream=True, verify=certs.ca)
        stack.callback(response.close)
        assert began.wait(PATIENCE)
        with at_once():
            server.stop()


def test_until_waits_for_the_test() -> None:
    event = threading.Event()

    def script(exchange: Exchange) -> None:
        exchange.until(event)
        exchange.answer(200, b"fine")

    with ScriptedServer(script) as server, dial(server) as sock:
        sock.sendall(GET)
        server.wait_for(lambda server: server.requests)
        event.set()
        assert read_until(sock, b"fine")


def test_wait_for_fails_with_the_last_value() -> None:
    with ScriptedServer(ok) as server, pytest.raises(AssertionError, match=r"0 connections.*\[\]"):
        server.wait_for(lambda server: server.requests, seconds=0.05)


# --- failures in a script fail the test --------------------------------------------------------


def wrong(exchange: Exchange) -> None:
    assert exchange.request.body == b"something"


def forgets(exchange: Exchange) -> None:
    exchange.head()


def fails(exchange: Exchange) -> None:
    pytest.fail("on purpose")


def waits_in_vain(exchange: Exchange) -> None:
    exchange.until(threading.Event(), 0.01)


@pytest.mark.parametrize(
    ("script", "error", "message"),
    [
        (wrong, AssertionError, "something"),
        (forgets, AssertionError, "did not end"),
        (fails, pytest.fail.Exception, "on purpose"),
        (waits_in_vain, TimeoutError, "was not set"),
        (InTurn(), AssertionError, "no script is left"),
    ],
)
def test_an_exception_of_a_script_is_raised_at_the_end(
    script: Script, error: type[BaseException], message: str
) -> None:
    with pytest.raises(error, match=message):
        conversation(script)


def test_wait_for_raises_an_exception_of_a_script_at_once() -> None:
    def wait() -> None:
        with ScriptedServer(wrong) as server, dial(server) as sock:
            sock.sendall(GET)
            server.wait_for(lambda _: False)

    with pytest.raises(AssertionError, match="something"), at_once():
        wait()


def test_the_tests_own_failure_is_shown_with_the_scripts() -> None:
    with (
        pytest.raises(AssertionError, match="something") as caught,
        ScriptedServer(wrong) as server,
    ):
        requests.get(server.url)
    assert isinstance(caught.value.__context__, requests.ConnectionError)


def test_a_keyboard_interrupt_is_not_hidden() -> None:
    def interrupt() -> None:
        with ScriptedServer(wrong) as server:
            with contextlib.suppress(requests.ConnectionError):
                requests.get(server.url)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupt()


def test_invalid_http_fails_the_test() -> None:
    with pytest.raises(AssertionError, match="not an HTTP request"):
        conversation(ok, b"\x16\x03\x01\r\n")


# --- nothing is left behind --------------------------------------------------------------------


@pytest.mark.parametrize("tls", [False, True])
def test_no_threads_and_descriptors_are_left(tls: bool) -> None:
    certs = certificates()

    def stalls(exchange: Exchange) -> None:
        exchange.head()
        exchange.write(b"x")
        exchange.stall(60)

    with nothing_left_behind():
        with ScriptedServer(stalls, tls=certs.server if tls else None) as server:
            held = [requests.get(server.url, stream=True, verify=certs.ca) for _ in range(20)]
            assert server.open == 20
        for response in held:
            response.close()


def test_a_server_that_is_never_entered_opens_nothing() -> None:
    with nothing_left_behind():
        ScriptedServer(ok)


def test_stopping_twice_is_stopping_once() -> None:
    with ScriptedServer(ok) as server:
        server.stop()
        server.stop()
        with pytest.raises(ConnectionRefusedError):
            dial(server)


def test_a_hundred_concurrent_clients_are_served() -> None:
    meet = threading.Barrier(100, timeout=PATIENCE)

    def script(exchange: Exchange) -> None:
        meet.wait()
        exchange.answer(200, b"fine")

    with nothing_left_behind(), ScriptedServer(script) as server, contextlib.ExitStack() as stack:
        socks = [stack.enter_context(dial(server)) for _ in range(100)]
        for sock in socks:
            sock.sendall(GET)
        for sock in socks:
            read_until(sock, b"fine")


# --- ports -------------------------------------------------------------------------------------


def test_a_refusing_port_refuses() -> None:
    with refusing_port() as port, pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)


def test_an_unaccepted_port_connects_and_stays_silent() -> None:
    with unaccepted_port() as port, pytest.raises(requests.ReadTimeout):
        requests.get(f"http://127.0.0.1:{port}", timeout=0.1)


def test_a_full_unaccepted_port_accepts_no_connection() -> None:
    with unaccepted_port(full=True) as port, pytest.raises(requests.ConnectTimeout):
        requests.get(f"http://127.0.0.1:{port}", timeout=0.1)


# --- TLS ---------------------------------------------------------------------------------------


def test_tls_works_only_with_the_right_certificate() -> None:
    certs = certificates()
    assert certs is certificates()
    with ScriptedServer(ok, tls=certs.server) as server:
        assert server.url.startswith("https://")
        assert requests.get(server.url, verify=certs.ca).text == "fine"
        assert requests.get(f"https://localhost:{server.port}", verify=certs.ca).text == "fine"
    for context, reason in (
        (certs.other_host, "IP address mismatch|doesn't match"),
        (certs.untrusted, "CERTIFICATE_VERIFY_FAILED"),
    ):
        with ScriptedServer(ok, tls=context) as server:
            with pytest.raises(requests.exceptions.SSLError, match=reason):
                requests.get(server.url, verify=certs.ca)
            assert server.requests == []


@pytest.mark.parametrize("notify", [True, False])
def test_a_cut_on_tls_sends_close_notify_by_default(notify: bool) -> None:
    def script(exchange: Exchange) -> None:
        exchange.head(framing="close")
        exchange.write(b"abc")
        exchange.cut(notify=notify)

    client = ssl.create_default_context(cafile=certificates().ca)
    with (
        ScriptedServer(script, tls=certificates().server) as server,
        dial(server) as plain,
        client.wrap_socket(plain, server_hostname="localhost", suppress_ragged_eofs=False) as sock,
    ):
        sock.sendall(GET)
        read_until(sock, b"abc")
        if notify:
            assert sock.recv(1) == b""
        else:
            with pytest.raises(ssl.SSLEOFError):
                sock.recv(1)


@pytest.mark.parametrize("tls", [False, True])
def test_after_a_cut_the_script_can_wait_for_the_client_to_close(tls: bool) -> None:
    seen: list[bool] = []

    def script(exchange: Exchange) -> None:
        exchange.answer(200, b"fine")
        exchange.cut()
        seen.append(exchange.gone(0.05))
        seen.append(exchange.gone(PATIENCE))

    client = ssl.create_default_context(cafile=certificates().ca)
    with ScriptedServer(script, tls=certificates().server if tls else None) as server:
        with dial(server) as plain, contextlib.ExitStack() as stack:
            sock: socket.socket = plain
            if tls:
                sock = stack.enter_context(client.wrap_socket(plain, server_hostname="localhost"))
            sock.sendall(GET)
            assert read_all(sock).endswith(b"fine")
            server.wait_for(lambda _: seen)
        server.wait_for(lambda _: len(seen) == 2)
    assert seen == [False, True]


def test_a_reset_on_tls_is_a_reset() -> None:
    def script(exchange: Exchange) -> None:
        exchange.head()
        exchange.write(b"abc")
        exchange.reset()

    client = ssl.create_default_context(cafile=certificates().ca)
    with (
        ScriptedServer(script, tls=certificates().server) as server,
        dial(server) as plain,
        client.wrap_socket(plain, server_hostname="localhost") as sock,
    ):
        sock.sendall(GET)
        # Below the ssl module, which on older Pythons calls a reset an EOF (gh-115627).
        with pytest.raises(ConnectionResetError):
            b"".join(iter(lambda: socket.socket.recv(sock, 65536), b""))


def test_at_accept_runs_before_the_tls_handshake() -> None:
    certs = certificates()
    with ScriptedServer([hang_up, say_nothing, ok], tls=certs.server) as server:
        with pytest.raises(requests.ConnectionError):
            requests.get(server.url, verify=certs.ca, timeout=PATIENCE)
        with pytest.raises(requests.Timeout):
            requests.get(server.url, verify=certs.ca, timeout=0.1)
        assert requests.get(server.url, verify=certs.ca).text == "fine"


# --- proxies -----------------------------------------------------------------------------------


def through(url: str) -> dict[str, str]:
    return {"http": url, "https": url}


def test_the_proxy_forwards_and_logs_absolute_requests() -> None:
    def pieces() -> Iterator[bytes]:
        yield b"ab"
        yield b"cd"

    with ScriptedServer(ok) as server, LoggingProxy() as proxy, requests.Session() as client:
        client.proxies = through(proxy.url)
        assert client.post(server.url + "/a?b=c", data=b"body").text == "fine"
        assert client.post(server.url + "/chunked", data=pieces()).text == "fine"
        assert proxy.lines() == [f"POST {server.url}/a?b=c", f"POST {server.url}/chunked"]
        assert proxy.connections == server.connections == 1
    first, second = server.requests
    assert (first.target, first.body, second.body) == ("/a?b=c", b"body", b"abcd")
    assert first.headers["host"] == f"127.0.0.1:{server.port}"
    assert "connection" in proxy.log[0].headers


def test_the_proxy_tunnels_tls() -> None:
    certs = certificates()
    with ScriptedServer(ok, tls=certs.server) as server, LoggingProxy() as proxy:
        with requests.Session() as client:
            client.proxies = through(proxy.url)
            for _ in range(2):
                assert client.get(server.url, verify=certs.ca).text == "fine"
        assert proxy.lines() == [f"CONNECT 127.0.0.1:{server.port}"]
        assert server.connections == 1
        server.wait_for(lambda server: server.open == 0)


def test_the_proxy_resolves_names_that_dns_does_not() -> None:
    certs = certificates()
    with ScriptedServer(ok) as plain, ScriptedServer(ok, tls=certs.other_host) as secure:
        hosts = {"plain.example": plain.port, "chat.example": secure.port}
        with LoggingProxy(hosts=hosts) as proxy, requests.Session() as client:
            client.proxies = through(proxy.url)
            assert client.get("http://plain.example/x").text == "fine"
            assert client.get(plain.url + "/y").text == "fine"  # another host, same connection
            assert client.get("https://chat.example/", verify=certs.ca).text == "fine"
            assert client.get("http://elsewhere.example/").status_code == 502
        assert plain.requests[0].headers["host"] == "plain.example"
        assert plain.paths() == ["GET /x", "GET /y"]


def test_the_proxy_requires_its_login() -> None:
    with ScriptedServer(ok) as server, LoggingProxy(login=("me", "secret")) as proxy:
        without = requests.get(server.url, proxies=through(proxy.url))
        assert (without.status_code, server.requests) == (407, [])
        assert requests.get(server.url, proxies=through(proxy.url_with_login)).text == "fine"
        assert "proxy-authorization" in proxy.log[1].headers
        assert "proxy-authorization" not in server.requests[0].headers


def test_a_failing_proxy_answers_502() -> None:
    with ScriptedServer(ok) as server, LoggingProxy(failing=True) as proxy:
        assert requests.get(server.url, proxies=through(proxy.url)).status_code == 502
        with pytest.raises(requests.exceptions.ProxyError, match="502"):
            requests.get("https://chat.example", proxies=through(proxy.url))
        assert server.connections == 0


def test_a_refused_target_is_a_502() -> None:
    with refusing_port() as port, LoggingProxy() as proxy:
        url = f"http://127.0.0.1:{port}"
        assert requests.get(url, proxies=through(proxy.url)).status_code == 502


@pytest.mark.parametrize("tunnel", [False, True])
@pytest.mark.parametrize("reset", [False, True])
def test_the_proxy_forwards_tokens_at_once_and_the_end_unchanged(tunnel: bool, reset: bool) -> None:
    go_on = threading.Event()

    def script(exchange: Exchange) -> None:
        exchange.head()
        exchange.write(b"token")
        exchange.until(go_on)
        exchange.reset() if reset else exchange.cut()

    with ScriptedServer(script) as server, LoggingProxy() as proxy, dial(proxy) as sock:
        host = f"127.0.0.1:{server.port}"
        if tunnel:
            sock.sendall(f"CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            read_until(sock, b"established\r\n\r\n")
        target = "" if tunnel else f"http://{host}"
        sock.sendall(f"GET {target}/a HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        read_until(sock, b"5\r\ntoken\r\n")
        go_on.set()
        if reset:
            with pytest.raises(ConnectionResetError):
                sock.recv(1)
        else:
            assert sock.recv(1) == b""


@pytest.mark.parametrize("tls", [False, True])
def test_the_server_notices_behind_the_proxy_that_the_client_left(tls: bool) -> None:
    seen: list[bool] = []

    def script(exchange: Exchange) -> None:
        exchange.head()
        exchange.write(b"token")
        seen.append(exchange.gone(PATIENCE))

    certs = certificates()
    with (
        nothing_left_behind(),
        ScriptedServer(script, tls=certs.server if tls else None) as server,
        LoggingProxy() as proxy,
    ):
        with requests.get(
            server.url, stream=True, verify=certs.ca, proxies=through(proxy.url)
        ) as response:
            next(response.iter_content(5))
        server.wait_for(lambda _: seen)
    assert seen == [True]


@pytest.mark.parametrize("tls", [False, True])
def test_a_proxy_stops_at_once_during_a_stream(tls: bool) -> None:
    def script(exchange: Exchange) -> None:
        exchange.head()
        exchange.stall(60)

    certs = certificates()
    with nothing_left_behind(), ScriptedServer(script, tls=certs.server if tls else None) as server:
        with LoggingProxy() as proxy:
            response = requests.get(
                server.url, stream=True, verify=certs.ca, proxies=through(proxy.url)
            )
            with at_once():
                proxy.stop()
        response.close()


def socks_connect(proxy: SocksProxy, sock: socket.socket, address: bytes, port: int) -> int:
    """The code of the reply; the greeting without a login."""
    sock.sendall(b"\x05\x01\x00")
    assert read_until(sock, b"\x05\x00") == b"\x05\x00"
    sock.sendall(b"\x05\x01\x00" + address + port.to_bytes(2, "big"))
    reply = sock.recv(10)
    assert len(reply) == 10
    return reply[1]


@pytest.mark.parametrize(
    ("address", "host", "kind"),
    [
        (b"\x01\x7f\x00\x00\x01", "127.0.0.1", "ipv4"),
        (b"\x03\x09localhost", "localhost", "domain"),
        (b"\x03\x0cchat.example", "chat.example", "domain"),
    ],
)
def test_the_socks_proxy_forwards_and_logs(address: bytes, host: str, kind: str) -> None:
    with ScriptedServer(ok) as server, SocksProxy(hosts={"chat.example": server.port}) as proxy:
        with dial(proxy) as sock:
            assert socks_connect(proxy, sock, address, server.port) == 0
            sock.sendall(GET)
            assert read_until(sock, b"fine")
        assert proxy.log == [SocksRequest(host, server.port, kind, None)]
        assert server.paths() == ["GET /a"]


def test_the_socks_proxy_refuses_with_a_reason() -> None:
    ipv4, ipv6, far = b"\x01\x7f\x00\x00\x01", b"\x04" + b"\x00" * 16, b"\x01\x08\x08\x08\x08"
    with refusing_port() as port:
        for failing, address, code in [
            (False, ipv4, 5),
            (True, ipv4, 1),
            (False, ipv6, 8),
            (False, far, 5),
        ]:
            with SocksProxy(failing=failing) as proxy, dial(proxy) as sock:
                assert socks_connect(proxy, sock, address, port) == code
                assert sock.recv(1) == b""


@pytest.mark.parametrize(("password", "verdict"), [(b"secret", b"\x00"), (b"guess!", b"\x01")])
def test_the_socks_proxy_requires_its_login(password: bytes, verdict: bytes) -> None:
    with SocksProxy(login=("me", "secret")) as proxy:
        with dial(proxy) as sock:
            sock.sendall(b"\x05\x01\x00")
            assert read_all(sock) == b"\x05\xff"
        with dial(proxy) as sock:
            sock.sendall(b"\x05\x02\x00\x02")
            assert sock.recv(2) == b"\x05\x02"
            sock.sendall(b"\x01\x02me\x06" + password)
            assert sock.recv(2) == b"\x01" + verdict


def test_the_socks_proxy_serves_requests() -> None:
    pytest.importorskip("socks")
    certs = certificates()
    with ScriptedServer(ok, tls=certs.other_host) as server:
        with SocksProxy(login=("me", "secret"), hosts={"chat.example": server.port}) as proxy:
            answer = requests.get(
                "https://chat.example", proxies=through(proxy.url), verify=certs.ca
            )
            assert answer.text == "fine"
        assert proxy.log == [SocksRequest("chat.example", 443, "domain", "me")]
