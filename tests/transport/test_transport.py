"""The transport on real sockets: framing, timeouts, waking."""

from __future__ import annotations

import gzip
import os
import socket
import threading
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from h2o_client.config import SessionConfig
from h2o_client.errors import ConfigurationError, ProtocolError, TransportError, TransportTimeout
from h2o_client.transport.call import Woken
from h2o_client.transport.response import Response
from h2o_client.transport.transport import Transport
from h2o_client.version import __version__
from h2o_client.wire.request import Request, get, post_form, post_json
from local_service import PATIENCE, at_once
from scripted import (
    AtAccept,
    Exchange,
    Framing,
    Script,
    ScriptedServer,
    certificates,
    endless_headers,
    garbage,
    hang_up,
    refusing_port,
    say_nothing,
    unaccepted_port,
)
from transport_calls import call, cut_in_a_body, ok, woken_after

FRAMINGS: tuple[Framing, ...] = ("chunked", "length", "close", "http10")


def cut_in_the_name_of_http(exchange: Exchange) -> None:
    exchange.send(b"HT")
    exchange.cut()


def cut_in_a_status(exchange: Exchange) -> None:
    exchange.send(b"HTTP/1.1 20")
    exchange.cut()


def another_protocol(exchange: Exchange) -> None:
    exchange.send(b"SSH-2.0")
    exchange.cut()


def test_every_request_has_a_user_agent_a_referer_and_no_compression(
    to: Callable[..., Transport],
) -> None:
    with ScriptedServer(ok) as server:
        to(server.url).request(post_json("/conversation", {"model": "m"}), call())
        headers = server.requests[0].headers
    assert headers["User-Agent"] == f"h2o-chat/{__version__}"
    assert headers["Accept"] == "application/json"
    assert headers["Accept-Encoding"] == "identity"
    assert headers["Origin"] == server.url
    assert headers["Referer"] == server.url + "/"
    assert headers["Content-Type"] == "application/json"


def test_headers_of_the_caller_override_others(to: Callable[..., Transport]) -> None:
    with ScriptedServer(ok) as server:
        to(server.url, headers={"User-Agent": "me", "X-Forwarded-User": "ada"}).request(
            get("/"), call()
        )
        headers = server.requests[0].headers
    assert headers["User-Agent"] == "me"
    assert headers["X-Forwarded-User"] == "ada"


@pytest.mark.parametrize("path", ["", "/", "/chat", "/chat/"])
def test_a_base_url_may_have_a_path(to: Callable[..., Transport], path: str) -> None:
    with ScriptedServer(ok) as server:
        to(server.url + path).request(get("/settings"), call())
        request = server.requests[0]
    assert request.path == path.rstrip("/") + "/settings"
    assert request.headers["Referer"] == server.url + path.rstrip("/") + "/"
    assert request.headers["Origin"] == server.url


@pytest.mark.parametrize(
    "url", ["localhost:3000", "ftp://host", "http://", "http://host:port", "http://h/?a=1"]
)
def test_an_invalid_address_is_refused_before_anything_is_sent(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"address|\?"):
        Transport(SessionConfig(url))


@pytest.mark.parametrize(
    ("url", "meant"),
    [
        ("localhost:3000", "http://localhost:3000"),
        ("chat.example.org/chat/", "https://chat.example.org/chat"),
        ("chat.example.org:8080", "http://chat.example.org:8080"),
        ("3000", "http://localhost:3000"),
        (":3000/", "http://localhost:3000"),
        ("me:secret@chat.example.org", None),
    ],
)
def test_an_address_without_its_scheme_is_suggested_with_one(url: str, meant: str | None) -> None:
    with pytest.raises(ConfigurationError) as raised:
        Transport(SessionConfig(url))
    assert raised.value.suggestion == meant
    assert (f"Did you mean {meant}?" in str(raised.value)) == (meant is not None)


def test_credentials_in_the_address_become_a_header_and_are_not_shown(
    to: Callable[..., Transport],
) -> None:
    with ScriptedServer(ok) as server:
        url = server.url.replace("http://", "http://ada:s3cret%21@")
        transport = to(url)
        transport.request(get("/"), call())
        request = server.requests[0]
    assert request.headers["Authorization"] == "Basic YWRhOnMzY3JldCE="
    assert transport.base_url == server.url
    with pytest.raises(ConfigurationError) as caught:
        Transport(SessionConfig("ftp://ada:s3cret@host"))
    assert "s3cret" not in str(caught.value)


def test_netrc_does_not_replace_the_authorization_of_the_caller(
    to: Callable[..., Transport], tmp_path: os.PathLike[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = os.path.join(tmp_path, "netrc")
    with open(netrc, "w") as file:
        file.write("machine 127.0.0.1 login mallory password hidden\n")
    monkeypatch.setenv("NETRC", netrc)
    with ScriptedServer(ok) as server:
        to(server.url, headers={"Authorization": "Bearer mine"}).request(get("/"), call())
        to(server.url).request(get("/"), call())
        given, none = server.requests
    assert given.headers["Authorization"] == "Bearer mine"
    assert none.headers["Authorization"] is None


def test_connections_are_reused(to: Callable[..., Transport]) -> None:
    with ScriptedServer(ok) as server:
        transport = to(server.url)
        for _ in range(3):
            transport.request(get("/"), call())
        assert server.connections == 1


def test_a_connection_is_reused_after_a_complete_body(
    to: Callable[..., Transport],
) -> None:
    def stream(exchange: Exchange) -> None:
        exchange.head(200)
        exchange.write(b"one\n")
        exchange.write(b"two\n")
        exchange.end()

    with ScriptedServer(stream) as server:
        transport = to(server.url)
        for _ in range(2):
            with transport.open(get("/"), call()) as response:
                assert list(response.iter_lines()) == [b"one", b"two"]
                assert response.finished
        assert server.connections == 1


def test_a_connection_is_closed_after_an_incomplete_body(to: Callable[..., Transport]) -> None:
    def stream(exchange: Exchange) -> None:
        exchange.head(200)
        exchange.write(b"one\n")
        exchange.until_gone()

    with ScriptedServer(stream) as server:
        with to(server.url).open(get("/"), call()) as response:
            assert response.read() == b"one\n"
        server.wait_for(lambda server: server.open == 0)


def test_a_connection_that_was_idle_too_long_is_not_reused(
    to: Callable[..., Transport], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("h2o_client.transport.compat._LONGEST_IDLE", 0.0)
    with ScriptedServer(ok) as server:
        transport = to(server.url)
        transport.request(get("/"), call())
        transport.request(get("/"), call())
        assert server.connections == 2


def test_a_kept_connection_that_the_server_closed_does_not_fail_the_next_request(
    to: Callable[..., Transport],
) -> None:
    def ok_and_close(exchange: Exchange) -> None:
        exchange.close_after(0.0)
        ok(exchange)

    with ScriptedServer(ok_and_close) as server:
        transport = to(server.url)
        transport.request(get("/"), call())
        server.wait_for(lambda server: server.open == 0)
        transport.request(post_json("/conversation", {}), call())
        assert server.connections == 2


def test_after_excess_bytes_the_connection_is_closed(
    to: Callable[..., Transport],
) -> None:
    def too_much(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi more than was promised")
        exchange.cut()

    with ScriptedServer([too_much, ok]) as server:
        transport = to(server.url)
        assert transport.request(get("/"), call()).whole() == b"hi"
        assert transport.request(get("/"), call()).whole() == b'{"ok": true}'


@pytest.mark.parametrize("framing", FRAMINGS)
def test_every_line_is_available_when_its_bytes_have_arrived(
    to: Callable[..., Transport], framing: Framing
) -> None:
    taken = threading.Semaphore(0)

    def stream(exchange: Exchange) -> None:
        exchange.head(200, framing=framing, length=5 * 7)
        for number in range(5):
            exchange.write(b"line %d\n" % number)
            # The next line is sent only after this one was returned.
            assert taken.acquire(timeout=PATIENCE)
        exchange.end()

    with ScriptedServer(stream) as server, to(server.url).open(get("/"), call()) as response:
        lines = []
        for line in response.iter_lines():
            lines.append(line)
            taken.release()
    assert lines == [b"line %d" % number for number in range(5)]


@pytest.mark.parametrize("framing", FRAMINGS)
def test_a_body_that_arrives_byte_by_byte_is_complete(
    to: Callable[..., Transport], framing: Framing
) -> None:
    body = "crlf\r\ncr\rlf\nu2028\u2028stays\u0085\n\nend".encode()

    def stream(exchange: Exchange) -> None:
        exchange.head(200, framing=framing, length=len(body))
        exchange.drip(body)
        exchange.end()

    with ScriptedServer(stream) as server, to(server.url).open(get("/"), call()) as response:
        lines = list(response.iter_lines(carriage_returns=True))
    expected = ["crlf", "cr", "lf", "u2028\u2028stays\u0085", "", "end"]
    assert [line.decode() for line in lines] == expected


def test_a_slow_chunk_header_delays_no_payload(to: Callable[..., Transport]) -> None:
    taken = threading.Event()

    def stream(exchange: Exchange) -> None:
        exchange.head(200)
        exchange.send(b"4\r\none\n\r\n4")
        exchange.until(taken)
        exchange.send(b"\r\ntwo\n\r\n0\r\n\r\n")
        exchange.end() if exchange.ended else exchange.cut()

    with ScriptedServer(stream) as server, to(server.url).open(get("/"), call()) as response:
        lines = response.iter_lines()
        assert next(lines) == b"one"
        taken.set()
        assert list(lines) == [b"two"]


@pytest.mark.parametrize("framing", ["chunked", "length"])
def test_a_cut_body_is_detected_after_its_bytes(
    to: Callable[..., Transport], framing: Framing
) -> None:
    def stream(exchange: Exchange) -> None:
        exchange.head(200, framing=framing, length=100)
        exchange.write(b"one\nhalf")
        exchange.cut()

    with ScriptedServer(stream) as server, to(server.url).open(get("/"), call()) as response:
        lines = response.iter_lines()
        assert [next(lines), next(lines)] == [b"one", b"half"]
        with pytest.raises(TransportError, match="middle of the body"):
            next(lines)
        assert not response.finished


@pytest.mark.parametrize("lie", [b"zz\r\nhello\r\n", b"-5\r\nhello\r\n", b"3\r\nhello\r\n"])
def test_a_wrong_chunk_size_is_a_protocol_error_after_the_valid_payload(
    to: Callable[..., Transport], lie: bytes
) -> None:
    def stream(exchange: Exchange) -> None:
        exchange.head(200)
        exchange.send(b"4\r\none\n\r\n" + lie)
        exchange.until_gone()

    with ScriptedServer(stream) as server, to(server.url).open(get("/"), call()) as response:
        assert response.read().startswith(b"one\n")
        with pytest.raises(ProtocolError, match="framing"):
            response.read()


def test_a_wrong_content_encoding_header_is_ignored(to: Callable[..., Transport]) -> None:
    def lying(exchange: Exchange) -> None:
        exchange.answer(200, b"plain", headers={"Content-Encoding": "gzip"})

    with ScriptedServer(lying) as server:
        assert to(server.url).request(get("/"), call()).whole() == b"plain"


def test_an_endless_response_is_refused(
    to: Callable[..., Transport], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("h2o_client.transport.response._LONGEST_WHOLE", 1 << 16)

    def endless(exchange: Exchange) -> None:
        exchange.head(200)
        for _ in range(10_000):
            exchange.write(b"x" * 4096)

    with ScriptedServer(endless) as server, pytest.raises(ProtocolError, match="MiB"):
        to(server.url).request(get("/"), call())


@pytest.mark.parametrize(
    ("script", "error", "said"),
    [
        (garbage, ProtocolError, "the headers of"),
        (endless_headers, ProtocolError, "the headers of"),
        (hang_up, TransportError, "closed the connection without a response"),
        (cut_in_the_name_of_http, TransportError, "in the middle of the headers"),
        (cut_in_a_status, TransportError, "in the middle of the headers"),
        (another_protocol, ProtocolError, "the headers of"),
        (cut_in_a_body, TransportError, "middle of a response"),
    ],
)
def test_each_broken_response_has_its_error(
    to: Callable[..., Transport], script: Script, error: type[Exception], said: str
) -> None:
    with ScriptedServer([script]) as server, pytest.raises(error, match=said):
        to(server.url).request(post_json("/", {}), call())


def test_a_reset_is_a_transport_error(to: Callable[..., Transport]) -> None:
    def reset(exchange: Exchange) -> None:
        exchange.head(200)
        exchange.write(b"x")
        exchange.reset()

    with (
        ScriptedServer(reset) as server,
        to(server.url).open(get("/"), call()) as response,
        pytest.raises(TransportError, match="broke the connection"),
    ):
        while response.read():
            pass


def test_the_hint_for_a_refused_connection_mentions_the_server(
    to: Callable[..., Transport],
) -> None:
    with (
        refusing_port() as port,
        pytest.raises(TransportError, match="Is the server running") as caught,
    ):
        to(f"http://127.0.0.1:{port}").request(get("/x"), call())
    assert caught.value.url == f"http://127.0.0.1:{port}/x"


def test_an_unknown_host_name_is_reported(to: Callable[..., Transport]) -> None:
    with pytest.raises(TransportError, match="Cannot look up the name"):
        to("http://no-such-host.invalid").request(get("/"), call())


def test_a_connection_that_is_not_made_in_time_times_out(to: Callable[..., Transport]) -> None:
    with unaccepted_port(full=True) as port, pytest.raises(TransportTimeout) as caught:
        to(f"http://127.0.0.1:{port}").request(get("/"), call(connect=0.2))
    assert (caught.value.which, caught.value.seconds) == ("connect", 0.2)


def test_silence_before_the_headers_times_out(to: Callable[..., Transport]) -> None:
    with ScriptedServer([say_nothing]) as server, pytest.raises(TransportTimeout) as caught:
        to(server.url).request(get("/"), call(idle=0.2))
    assert (caught.value.which, caught.value.seconds) == ("idle", 0.2)
    assert isinstance(caught.value, TimeoutError)


def test_slow_headers_time_out(to: Callable[..., Transport]) -> None:
    def dripping(exchange: Exchange) -> None:
        exchange.head(200, {"X-Long": "x" * 4000}, pause=0.01)

    first_token = Request(method="GET", path="/", budget="first_token")
    with (
        ScriptedServer(dripping) as server,
        pytest.raises(TransportTimeout) as caught,
        at_once(),
    ):
        to(server.url).request(first_token, call(first_token=0.3))
    assert caught.value.which == "first_token"


def test_the_total_timeout_applies_while_bytes_arrive(to: Callable[..., Transport]) -> None:
    def dripping(exchange: Exchange) -> None:
        exchange.head(200)
        while not exchange.gone(0.01):
            exchange.write(b"x")

    with ScriptedServer(dripping) as server, pytest.raises(TransportTimeout) as caught:
        to(server.url).request(get("/"), call(total=0.3))
    assert (caught.value.which, caught.value.seconds) == ("total", 0.3)


@pytest.mark.parametrize("tls", [False, True])
def test_a_call_can_be_woken_before_the_headers(to: Callable[..., Transport], tls: bool) -> None:
    def silent(exchange: Exchange) -> None:
        exchange.until_gone()
        exchange.cut()

    certs = certificates()
    with ScriptedServer(silent, tls=certs.server if tls else None) as server:
        waiting = call()
        thread = woken_after(waiting, lambda: server.wait_for(lambda server: server.requests))
        with pytest.raises(Woken):
            to(server.url, verify=certs.ca).request(get("/"), waiting)
        thread.join()


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("framing", FRAMINGS)
def test_a_call_can_be_woken_during_the_body(
    to: Callable[..., Transport], framing: Framing, tls: bool
) -> None:
    def stalls(exchange: Exchange) -> None:
        exchange.head(200, framing=framing, length=100)
        exchange.write(b"x")
        exchange.until_gone()
        exchange.cut()

    certs = certificates()
    reading = threading.Event()
    with ScriptedServer(stalls, tls=certs.server if tls else None) as server:
        waiting = call()
        with to(server.url, verify=certs.ca).open(get("/"), waiting) as response:
            assert response.read() == b"x"
            thread = woken_after(waiting, reading.wait)
            reading.set()
            with pytest.raises(Woken):
                response.read()
            thread.join()


def test_a_call_that_was_woken_earlier_sends_nothing(to: Callable[..., Transport]) -> None:
    with ScriptedServer(ok) as server:
        waiting = call()
        waiting.wake()
        with pytest.raises(Woken):
            to(server.url).request(get("/"), waiting)
        assert server.requests == []


def test_a_late_wake_does_not_affect_the_next_user_of_the_connection(
    to: Callable[..., Transport],
) -> None:
    with ScriptedServer(ok) as server:
        transport = to(server.url)
        first = call()
        transport.request(get("/"), first)
        first.wake()
        assert transport.request(get("/"), call()).status == 200
        assert server.connections == 1


def test_a_redirect_is_returned_and_not_followed(to: Callable[..., Transport]) -> None:
    def redirect(exchange: Exchange) -> None:
        exchange.answer(302, b"", headers={"Location": "https://elsewhere.example/authorize"})

    with ScriptedServer(redirect) as server:
        response = to(server.url).request(get("/"), call())
        assert response.status == 302
        assert response.headers["location"] == "https://elsewhere.example/authorize"
        assert len(server.requests) == 1


def test_a_call_that_was_woken_sends_nothing_and_one_that_sends_is_not_woken() -> None:
    woken, sending = call(), call()
    assert woken.wake_unless_sent() is True
    with pytest.raises(Woken):
        woken.sends()
    sending.sends()
    assert sending.wake_unless_sent() is False
    sending.check()


def test_max_connections_limits_the_open_connections(to: Callable[..., Transport]) -> None:
    go_on = threading.Event()

    def stream(exchange: Exchange) -> None:
        exchange.head(200)
        exchange.write(b"x")
        exchange.until(go_on)
        exchange.end()

    with ScriptedServer(stream) as server:
        transport = to(server.url, max_connections=1)
        first = transport.open(get("/"), call())
        with pytest.raises(TransportTimeout) as caught:
            transport.open(get("/"), call(total=0.3))
        assert caught.value.which == "total"
        with pytest.raises(TransportTimeout) as caught:
            transport.open(get("/"), call(first_token=0.3))
        assert caught.value.which == "first_token"
        go_on.set()
        # Only streamed answers count, because their cleanup must not wait for them.
        assert transport.request(get("/"), call()).whole() == b"x"
        assert first.whole() == b"x"
        assert transport.open(get("/"), call()).whole() == b"x"


def test_waiting_for_a_connection_can_be_woken(to: Callable[..., Transport]) -> None:
    def stream(exchange: Exchange) -> None:
        exchange.head(200)
        exchange.write(b"x")
        exchange.until_gone()

    with ScriptedServer(stream) as server:
        transport = to(server.url, max_connections=1)
        with transport.open(get("/"), call()):
            waiting = call()
            thread = woken_after(waiting, lambda: None)
            with pytest.raises(Woken):
                transport.open(get("/"), waiting)
            thread.join()


@pytest.mark.parametrize("name", ["", "X Key", "X-Key:", "X-K\u00e4", 5, "content-length"])
def test_a_header_whose_name_cannot_be_sent_is_refused(name: object) -> None:
    with pytest.raises(ConfigurationError, match=f"Cannot send the header {name!r}"):
        Transport(SessionConfig("http://host", headers={name: "3"}))  # type: ignore[dict-item]


@pytest.mark.parametrize("value", ["s3cret\r\nb", "s3cret\u4e2d", "s3cret\0", 5])
def test_a_header_that_cannot_be_sent_is_refused_without_showing_it(value: object) -> None:
    with pytest.raises(ConfigurationError, match="Cannot send the header 'X-Key'") as caught:
        Transport(SessionConfig("http://host", headers={"X-Key": value}))  # type: ignore[dict-item]
    assert "s3cret" not in str(caught.value)


def test_a_closed_transport_raises_an_error(to: Callable[..., Transport]) -> None:
    transport = to("http://127.0.0.1:1")
    transport.close()
    with pytest.raises(ConfigurationError, match="closed"):
        transport.request(get("/"), call())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_opens_its_own_connections(to: Callable[..., Transport]) -> None:
    with ScriptedServer(ok) as server:
        transport = to(server.url)
        transport.request(get("/"), call())
        child = os.fork()
        if child == 0:
            status = transport.request(get("/child"), call()).status
            os._exit(0 if status == 200 else 1)
        assert os.waitpid(child, 0)[1] == 0
        transport.request(get("/parent"), call())
        numbers = {each.path: each.connection for each in server.requests}
    assert numbers == {"/": 1, "/child": 2, "/parent": 1}


def test_draining_a_body_is_bounded(to: Callable[..., Transport]) -> None:
    def late(exchange: Exchange) -> None:
        exchange.head(200)
        exchange.write(b"all")
        exchange.until_gone()

    with ScriptedServer(late) as server:
        response: Response = to(server.url).open(get("/"), call())
        assert response.read() == b"all"
        with at_once():
            assert response.drain(0.1) == b""
        assert not response.finished


def test_the_repr_of_a_request_is_its_method_and_path() -> None:
    assert str(get("/a")) == "GET /a"
    assert str(Request(method="POST", path="/b")) == "POST /b"


@pytest.mark.parametrize("status", [100, 102, 103])
def test_interim_responses_are_skipped(to: Callable[..., Transport], status: int) -> None:
    def hinting(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 %d Wait\r\nLink: </a>; rel=preload\r\n\r\n" % status * 3)
        ok(exchange)

    with ScriptedServer(hinting) as server:
        assert to(server.url).request(get("/"), call()).whole() == b'{"ok": true}'


def test_endless_interim_responses_are_an_error(to: Callable[..., Transport]) -> None:
    def hinting(exchange: Exchange) -> None:
        for _ in range(500):
            exchange.send(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        exchange.until_gone()
        exchange.cut()

    with ScriptedServer(hinting) as server, pytest.raises(ProtocolError, match="head"):
        to(server.url).request(get("/"), call())


def test_a_call_can_be_woken_while_it_connects(to: Callable[..., Transport]) -> None:
    with unaccepted_port(full=True) as port:
        waiting = call(connect=PATIENCE)
        timer = threading.Timer(0.2, waiting.wake)
        timer.start()
        with pytest.raises(Woken), at_once():
            to(f"http://127.0.0.1:{port}").request(get("/"), waiting)
        timer.join()


def test_sending_to_a_server_that_does_not_read_times_out(
    to: Callable[..., Transport],
) -> None:
    def deaf(exchange: Exchange) -> None:
        exchange.stall(PATIENCE)
        exchange.cut()

    large = post_json("/conversation", {"model": "x" * 30_000_000})
    with ScriptedServer(AtAccept(deaf)) as server, pytest.raises(TransportTimeout) as caught:
        to(server.url).request(large, call(idle=0.5))
    assert caught.value.which == "idle"


def test_bytes_that_have_arrived_are_read_without_waiting(to: Callable[..., Transport]) -> None:
    go_on = threading.Event()

    def stream(exchange: Exchange) -> None:
        exchange.head(200)
        exchange.write(b"one")
        exchange.until(go_on)
        exchange.write(b"two")
        exchange.end()

    for tls in (False, True):
        go_on.clear()
        certs = certificates()
        with (
            ScriptedServer(stream, tls=certs.server if tls else None) as server,
            to(server.url, verify=certs.ca).open(get("/"), call()) as response,
        ):
            assert response.read() == b"one"
            assert response.ready() == b""
            go_on.set()
            assert response.read() == b"two"
            assert response.read() == b""
            assert response.finished


def test_a_traceback_shows_only_the_innermost_cause(
    to: Callable[..., Transport],
) -> None:
    with refusing_port() as port, pytest.raises(TransportError) as caught:
        to(f"http://127.0.0.1:{port}").request(get("/"), call())
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)


@pytest.mark.parametrize("framing", FRAMINGS)
def test_an_unrequested_compression_is_decoded(
    to: Callable[..., Transport], framing: Framing
) -> None:
    text = b'{"models":"' + b"x" * 200_000 + b'"}'
    body = b"".join(map(gzip.compress, (text[:9], b"", text[9:])))

    def compressed(exchange: Exchange) -> None:
        headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
        exchange.head(200, headers, framing=framing, length=len(body))
        exchange.drip(body, size=len(body) // 3)
        exchange.end()

    with ScriptedServer(compressed) as server:
        whole = to(server.url).request(get("/"), call()).whole()
    assert whole == gzip.decompress(body)


def test_lines_of_a_compressed_stream_are_available_at_once(to: Callable[..., Transport]) -> None:
    read = threading.Event()

    def compressed(exchange: Exchange) -> None:
        deflate = zlib.compressobj(wbits=31)
        exchange.head(200, {"Content-Encoding": "gzip"})
        exchange.write(deflate.compress(b"one\n") + deflate.flush(zlib.Z_SYNC_FLUSH))
        exchange.until(read)
        exchange.write(deflate.compress(b"two\n") + deflate.flush())
        exchange.end()

    with ScriptedServer(compressed) as server:
        response = to(server.url).open(get("/"), call())
        lines = response.iter_lines()
        assert next(lines) == b"one"
        read.set()
        assert list(lines) == [b"two"]
        assert response.finished


def test_an_invalid_compressed_body_is_a_protocol_error(to: Callable[..., Transport]) -> None:
    broken = gzip.compress(b"x")[:10] + b"\xff" * 50
    with (
        ScriptedServer(
            lambda exchange: exchange.answer(200, broken, headers={"Content-Encoding": "gzip"})
        ) as server,
        pytest.raises(ProtocolError, match="the compression of the response"),
    ):
        to(server.url).request(get("/"), call())


@pytest.mark.parametrize(
    ("address", "host", "path"),
    [
        ("例え.テスト", "xn--r8jz45g.xn--zckzah", "/%D1%87%D0%B0%D1%82"),
        ("BÜCHER.example", "xn--bcher-kva.example", "/%D1%87%D0%B0%D1%82"),
    ],
)
def test_names_in_other_scripts_are_sent_as_browsers_write_them(
    to: Callable[..., Transport],
    monkeypatch: pytest.MonkeyPatch,
    address: str,
    host: str,
    path: str,
) -> None:
    real = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda name, *rest: real("127.0.0.1", *rest))
    with ScriptedServer(ok) as server:
        transport = to(f"http://{address}:{server.port}/чат/")
        transport.request(post_form("/settings", []), call())
        request = server.requests[0]
    place = f"http://{host}:{server.port}"
    assert transport.base_url == place + path
    assert request.target == f"{path}/settings"
    assert request.headers["Host"] == f"{host}:{server.port}"
    assert request.headers["Origin"] == place
    assert request.headers["Referer"] == f"{place}{path}/"


def test_a_path_with_blanks_is_sent_as_browsers_write_it(to: Callable[..., Transport]) -> None:
    with ScriptedServer(ok) as server:
        to(f"{server.url}/my chat").request(get("/settings"), call())
        assert server.requests[0].headers["Referer"] == f"{server.url}/my%20chat/"


@pytest.mark.parametrize("zone", ["%eth0", "%25eth0"])
def test_the_zone_of_an_address_is_not_sent(
    to: Callable[..., Transport], monkeypatch: pytest.MonkeyPatch, zone: str
) -> None:
    real = socket.getaddrinfo
    names: list[str] = []

    def resolver(name: str, *rest: Any) -> Any:
        names.append(name)
        return real("127.0.0.1", *rest)

    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    with ScriptedServer(ok) as server:
        to(f"http://[fe80::1{zone}]:{server.port}").request(get("/"), call())
        headers = server.requests[0].headers
    assert names == ["fe80::1%eth0"]
    assert headers["Host"] == f"[fe80::1]:{server.port}"
    assert headers["Origin"] == f"http://[fe80::1]:{server.port}"
    assert headers["Referer"] == f"http://[fe80::1]:{server.port}/"


@pytest.mark.parametrize("host", ["0.0.0.0", "chat.localhost", "LOCALHOST."])
def test_secure_cookies_work_with_every_name_of_this_machine(
    to: Callable[..., Transport], host: str
) -> None:
    def answer(exchange: Exchange) -> None:
        exchange.json({}, headers={"Set-Cookie": "hf-chat=abc; Path=/; Secure"})

    with ScriptedServer(answer) as server:
        transport = to(f"http://{host}:{server.port}")
        for _ in range(2):
            transport.request(get("/"), call())
        assert server.requests[1].headers["Cookie"] == "hf-chat=abc"
