"""Hostile bytes: every version of the server answers them, and other clients too."""

from __future__ import annotations

import io
import json
import logging
import re
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from urllib.parse import urlsplit

import pytest
from starlette.datastructures import Headers
from starlette.requests import Request

from h2o_client.server import Access, Server, Turn, generation, protocol, serve
from h2o_client.server.access import write_to
from h2o_client.server.failure_log import log_failure
from h2o_client.server.hook import session_of
from h2o_client.server.replies import wants_html
from h2o_client.wire.events import Final, Token
from visitors import FedEngine, Guest, Stream, Visitor

MUCH = 15_000  # the largest value that fits into a head
VERY_MUCH = 1_000_000  # quadratic code takes an hour for this many
UNKNOWN = "/conversation/" + "a" * 24


@pytest.fixture(scope="module", params=["0.4", "latest"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with serve("one two", chat_ui=request.param) as server:
        yield server


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[list[logging.LogRecord]]:
    with caplog.at_level(logging.WARNING):
        yield caplog.records


def connected(server: Server) -> socket.socket:
    parts = urlsplit(server.url)
    return socket.create_connection((parts.hostname, parts.port or 0), timeout=30)


def answered(server: Server, *sent: bytes) -> bytes:
    """The server's whole response to these bytes."""
    with connected(server) as client:
        for each in sent:
            client.sendall(each)
        return b"".join(iter(lambda: client.recv(65536), b""))


def request(server: Server, method: str, path: str, *headers: bytes, body: bytes = b"") -> bytes:
    host = urlsplit(server.url).netloc.encode()
    own = b"Origin: http://%b\r\nReferer: http://%b/\r\nCookie: hf-chat=me\r\n" % (host, host)
    named = b"".join(each + b"\r\n" for each in headers)
    head = b"%b %b HTTP/1.1\r\nHost: %b\r\nConnection: close\r\n" % (
        method.encode(),
        path.encode(),
        host,
    )
    length = b"Content-Length: %d\r\n\r\n" % len(body)
    return answered(server, head + own + named + length + body)


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


# Heads


ACCEPTS = {
    "no slash": b"a" * MUCH,
    "slashes": b"a/" * (MUCH // 2),
    "commas": b"," * MUCH,
    "many types": b"a/b," * (MUCH // 4),
    "blanks": b"a/b" + b" " * MUCH + b"c",
    "blanks before a quality": b"a/b;" + b" " * MUCH + b"q=1",
    "a dot for a quality": b"text/html;q=.",
    "a version for a quality": b"text/html;q=1.2.3",
    "a long quality": b"text/html;q=0." + b"1" * MUCH,
    "a large quality": b"text/html;q=" + b"9" * MUCH,
    "no ASCII": b"\xff\xb2/\x80;q=\xb2",
}


@pytest.mark.parametrize("accept", ACCEPTS.values(), ids=ACCEPTS)
def test_any_accept_header_is_answered(
    server: Server, log: list[logging.LogRecord], accept: bytes
) -> None:
    assert status(request(server, "GET", UNKNOWN, b"Accept: " + accept)) in (404, 405)
    assert status(request(server, "POST", "/settings", b"Accept: " + accept)) == 500
    assert log == []


@pytest.mark.parametrize("piece", [b"a", b"a/", b",", b"a/b,", b" ", b"a/b;q=", b"a ", b";"])
def test_an_accept_header_is_read_in_linear_time(piece: bytes) -> None:
    accept = b"a/b" + piece * (VERY_MUCH // len(piece))
    request = Request({"type": "http", "headers": [(b"accept", accept)]})
    assert wants_html(request, unsaid="application/json")  # it accepts no JSON at all


@pytest.mark.parametrize(
    ("accept", "is_page"),
    [
        (b"text/html;q=.,application/json;q=0.5", True),
        (b"text/html;q=0.4.9,application/json;q=0.5", False),
        (b"text/html;q=.5,application/json;q=0.4", True),
        (b"application/json;q=1.,text/html;q=1.", False),
    ],
)
def test_an_odd_quality_counts_as_its_leading_number(
    server: Server, accept: bytes, is_page: bool
) -> None:
    answer = request(server, "POST", UNKNOWN + "/share", b"Accept: " + accept)
    assert (status(answer), b"<!doctype html>" in answer) == (404, is_page)


COOKIES = {
    "backslashes": b'hf-chat="' + b"\\" * MUCH + b'"',
    "quotes": b'hf-chat="' + b'\\"' * (MUCH // 2) + b'"',
    "percent signs": b"hf-chat=" + b"%" * MUCH,
    "semicolons": b"; " * (MUCH // 2),
    "equals signs": b"=" * MUCH,
}


@pytest.mark.parametrize("cookie", COOKIES.values(), ids=COOKIES)
def test_any_cookie_header_is_answered(server: Server, cookie: bytes) -> None:
    head = b"GET /__data.json HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nCookie: "
    assert status(answered(server, head + cookie + b"\r\n\r\n")) == 200


@pytest.mark.parametrize("piece", [b"\\", b'\\"', b"%", b"; ", b"=", b"hf-chat=;", b'"'])
def test_a_cookie_header_is_read_in_linear_time(piece: bytes) -> None:
    cookie = b'x=1; hf-chat="' + piece * (VERY_MUCH // len(piece))
    assert session_of(Headers(raw=[(b"cookie", cookie)])) in ("", '"')


def test_a_quoted_cookie_is_the_same_session_as_a_bare_one(server: Server) -> None:
    head = b"POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nCookie: x=1; "
    for cookie in (b'hf-chat="me"', b"hf-chat=me", b"hf-chat = me ", b"hf-chat=%6de"):
        sent = b"POST /conversation HTTP/1.1\r\n" + head.partition(b"\r\n")[2] + cookie
        assert b"set-cookie: hf-chat=me;" in answered(server, sent + b"\r\n\r\n")


HEADERS = {
    "a length of many digits": b"Content-Length: " + b"9" * 5000,
    "a referer that is no address": b"Referer: http://[",
    "a referer with no port": b"Referer: http://a:99999999",
    "an origin with no port": b"Origin: http://a:\xb2",
    "a boundary without end": b"Content-Type: multipart/form-data; boundary=" + b"a" * MUCH,
    "a parameter without end": b"Content-Type: multipart/form-data;" + b'a="\\' * (MUCH // 4),
    "a range": b"Range: bytes=" + b"0-1," * (MUCH // 4),
    "a last event": b"Last-Event-ID: " + b"9" * MUCH,
}


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
def test_odd_headers_are_refused_without_a_log_line(
    server: Server, log: list[logging.LogRecord], header: bytes
) -> None:
    for method, path in (("POST", "/settings"), ("POST", UNKNOWN), ("GET", UNKNOWN + "/stream")):
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n".encode()
        if not header.startswith(b"Content-Length"):
            header += b"\r\nContent-Length: 0"
        assert 400 <= status(answered(server, head + header + b"\r\n\r\n")) <= 500
    assert log == []


# Bodies


NESTED = {
    "lists": b"[" * 200_000 + b"]" * 200_000,
    "objects": b'{"a":' * 80_000 + b"1" + b"}" * 80_000,
    "lists that do not end": b"[" * 400_000,
}
POSTS = {
    "0.4": [
        ("POST", "/conversation", b'{"model":"m","x":%b}'),
        ("POST", "{own}", b'{"inputs":"x","options":{},"parameters":{"x":%b}}'),
        ("PATCH", "{own}", b'{"title":"x","y":%b}'),
        ("POST", "{own}/message/x/vote", b'{"score":%b}'),
    ],
    "latest": [
        ("POST", "/conversation", b'{"model":"m","x":%b}'),
        ("PATCH", "{own}", b'{"title":%b}'),
        ("POST", "/settings", b'{"customPrompts":%b}'),
        ("POST", "/api/v2/user/settings", b"%b"),
        ("PATCH", "/api/v2/conversations/{own}", b'{"title":%b}'),
        ("POST", "/api/v2/conversations/import-share", b"%b"),
        ("POST", "{own}/elicitation", b'{"content":{"a":%b}}'),
    ],
}


@pytest.mark.parametrize("nested", NESTED.values(), ids=NESTED)
@pytest.mark.parametrize("chat_ui", POSTS)
def test_deeply_nested_json_is_refused_like_other_invalid_json(
    log: list[logging.LogRecord], chat_ui: str, nested: bytes
) -> None:
    with serve("Hello", chat_ui=chat_ui) as server:
        made = Visitor(server.url, "me").create()
        for method, path, body in POSTS[chat_ui]:
            path = path.replace("/{own}", f"/{made}").replace("{own}", f"/conversation/{made}")
            sent = body % nested
            answer = request(server, method, path, b"Content-Type: application/json", body=sent)
            assert 400 <= status(answer) <= 500, path
    assert log == []


def test_a_nested_prompt_and_a_nested_stop_do_no_harm(log: list[logging.LogRecord]) -> None:
    with serve("Hello", chat_ui="latest") as server:
        guest = Guest(server.url)
        made = guest.create()
        for nested in NESTED.values():
            data = b'{"inputs":"x","y":' + nested + b"}"
            form = {"data": (None, data, "text/plain")}
            origin = {"Origin": server.url}
            answer = guest.send("POST", f"/conversation/{made}", files=form, headers=origin)
            assert answer.status_code == 500
            stop = f"/conversation/{made}/stop-generating"
            assert guest.send("POST", stop, data=b'{"a":' + nested + b"}").status_code == 200
        assert guest.say(made, "Hi").status_code == 200
    assert log == []


def test_an_invalid_http_body_ends_its_connection_silently(
    server: Server, log: list[logging.LogRecord], capfd: pytest.CaptureFixture[str]
) -> None:
    head = b"PUT /nowhere HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    for rest in (b"no length\r\n", b"1;" + b"a" * 300_000, b"0\r\n" + b"a:b\r\n" * 60_000):
        with connected(server) as client:
            client.sendall(head)
            assert client.recv(65536).startswith(b"HTTP/1.1 404")
            client.sendall(rest + b"\r\n\r\n")
            assert closed_by_the_server(client)
    assert log == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("path", ["/nowhere", "/settings", "/conversation", UNKNOWN])
@pytest.mark.parametrize("rest", [b"no length\r\n\r\n", b"1\r\naa\r\n", b"0\r\n b\r\n\r\n"])
def test_a_body_that_begins_with_invalid_http_is_answered_once(
    server: Server, log: list[logging.LogRecord], path: str, rest: bytes
) -> None:
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n".encode()
    for kind in (b"application/json", b"application/x-www-form-urlencoded", b""):
        answer = answered(server, head + b"Content-Type: " + kind + b"\r\n\r\n" + rest)
        assert status(answer) == 400
        assert answer.count(b"HTTP/1.1") == 1
    assert log == []


# Connections that are held


def closed_by_the_server(client: socket.socket) -> bool:
    try:
        while client.recv(65536):
            pass
    except ConnectionError:
        pass
    return True


@pytest.mark.parametrize(
    "begun",
    [
        b"",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ",
        b"POST /conversation HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\nGET / HTTP/1.1\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n",
    ],
    ids=["nothing", "a head", "a body", "a second head", "chunks"],
)
def test_an_endless_request_loses_its_connection(
    monkeypatch: pytest.MonkeyPatch, begun: bytes
) -> None:
    monkeypatch.setattr(protocol, "REQUEST_SECONDS", 0.2)
    with serve("Hello", chat_ui="0.4") as server, connected(server) as client:
        client.sendall(begun)
        assert closed_by_the_server(client)


def test_the_deadline_of_requests_does_not_apply_to_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(protocol, "REQUEST_SECONDS", 0.05)
    engine = FedEngine()
    with serve(engine, chat_ui="0.4") as server:
        visitor = Visitor(server.url)
        stream = Stream(visitor, visitor.create())
        assert engine.begun.wait(30)
        for _ in range(5):
            with connected(server) as idle:
                assert closed_by_the_server(idle)  # the deadline has passed five times
        engine.words("Hello")
        engine.feed.put(Final())
        assert stream.text() == "Hello"
        stream.close()


def test_clients_that_send_no_request_do_not_block_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "MOST_CONNECTIONS", 5)
    with serve("Hello", chat_ui="0.4") as server:
        held = [connected(server) for _ in range(12)]
        for each in held:
            each.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ")
        for _ in range(3):
            assert Visitor(server.url).send("GET", "/").status_code == 200
        assert closed_by_the_server(held[0])  # the one that waited longest was dropped first
        for each in held:
            each.close()


def test_a_running_answer_is_not_dropped_for_new_connections(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(protocol, "MOST_CONNECTIONS", 3)
    engine = FedEngine()
    with serve(engine, chat_ui="0.4") as server:
        visitor = Visitor(server.url)
        stream = Stream(visitor, visitor.create())
        assert engine.begun.wait(30)
        held = [connected(server) for _ in range(6)]
        assert closed_by_the_server(held[0])
        engine.words("still", " here")
        engine.feed.put(Final())
        assert (stream.text(), stream.text()) == ("still", " here")
        stream.close()
        for each in held:
            each.close()


@pytest.mark.parametrize("chat_ui", ["0.4", "latest"])
def test_a_client_that_does_not_read_its_answer_loses_its_connection(
    monkeypatch: pytest.MonkeyPatch, chat_ui: str
) -> None:
    monkeypatch.setattr(protocol, "READ_SECONDS", 0.2)
    with serve(lambda prompt: ["x" * 900_000], chat_ui=chat_ui) as server:
        visitor = Visitor(server.url, "me")
        made = visitor.create()
        if chat_ui == "0.4":
            visitor.ask(made, "Hi")
        else:
            Guest(server.url, "me").say(made, "Hi")
        page = "/__data.json" if chat_ui == "0.4" else ""
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.settimeout(30)
            client.connect(("127.0.0.1", urlsplit(server.url).port))
            head = f"GET /conversation/{made}{page} HTTP/1.1\r\nHost: localhost\r\n".encode()
            wanted = b"Accept: text/html\r\nCookie: hf-chat=me\r\n\r\n"
            client.sendall(head + wanted)
            others = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            for _ in range(20):
                assert status(answered(server, others)) == 200
            assert closed_by_the_server(client)


def test_a_client_that_does_not_read_delays_its_model_for_a_bounded_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(protocol, "READ_SECONDS", 0.2)
    # More than fits into a socket and the queue of tokens.
    monkeypatch.setattr(generation, "_LONGEST_ANSWER", 3 * 10**7)
    ended = threading.Event()

    def endless(
        turns: Sequence[Turn], parameters: Mapping[str, object], stopped: Callable[[], bool]
    ) -> Iterator[Token | Final]:
        try:
            while True:
                yield Token("x" * 1000)
        finally:
            ended.set()

    with serve(endless, chat_ui="0.4") as server:
        visitor = Visitor(server.url)
        stream = Stream(visitor, visitor.create())
        stream.next()
        assert ended.wait(60)
        stream.close()


# Logs


def test_a_path_reaches_the_access_log_as_printable_ascii(server: Server) -> None:
    written = io.StringIO()
    records: list[Access] = []
    with serve("Hello", on_access=records.append, chat_ui="0.4") as logged:
        for path in ("/%1b]0;x%07%1b[2J", "/a%0d%0aFAKE", "/%c2%9b2J", "/%7f", "/%e2%80%ae", "/ü"):
            head = f"GET {path.replace('ü', '%c3%bc')} HTTP/1.1\r\nHost: localhost\r\n"
            answered(logged, head.encode() + b"Connection: close\r\n\r\n")
    write = write_to(written)
    for record in records:
        write(record)
    assert re.fullmatch("[\x20-\x7e\n]+", written.getvalue())
    paths = [json.loads(line)["path"] for line in written.getvalue().splitlines()]
    assert paths == ["/\x1b]0;x\x07\x1b[2J", "/a\r\nFAKE", "/\x9b2J", "/\x7f", "/\u202e", "/ü"]


def test_a_failure_is_logged_without_line_ends_of_its_text(
    caplog: pytest.LogCaptureFixture,
) -> None:
    said = "\x1b]0;owned\x07\n2026-11-29 CRITICAL forged\u202e\x9b" + "x" * 100_000
    try:
        raise ValueError(said)
    except ValueError as exc:
        log_failure("GET /\x1b[2J", exc)
    told = caplog.records[-1].getMessage()
    first, *rest = told.split("\n")
    assert first == "GET /\ufffd[2J failed"
    assert rest[0] == "    Traceback (most recent call last):"
    assert all(line.startswith("    ") and len(line) < 1100 for line in rest)
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", told)
