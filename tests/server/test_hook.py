"""Access to the server: the Host header, and the site that a request comes from."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from h2o_client.server import Server, serve
from h2o_client.server.hook import host_name, is_loopback
from h2o_client.server.scripted import SCRIPTED
from local_service import PATIENCE
from visitors import Visitor


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serve(
        "Hello", allowed_hosts=["Box.Local"], origin="https://chat.example.org", chat_ui="0.4"
    ) as server:
        yield server


@pytest.fixture
def visitor(server: Server) -> Visitor:
    return Visitor(server.url)


def status(visitor: Visitor, method: str = "GET", **headers: str) -> int:
    path, body = ("/conversation", {"model": SCRIPTED}) if method == "POST" else ("/", None)
    return visitor.send(method, path, json=body, headers=headers).status_code


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:3000",
        "localhost.",
        "app.localhost:80",
        "127.0.0.1",
        "127.0.0.2:9",
        "[::1]:3000",
        "box.local:3000",
        "chat.example.org",
    ],
)
def test_on_loopback_only_its_own_host_names_are_accepted(visitor: Visitor, host: str) -> None:
    assert status(visitor, Host=host) == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:3000", "localhost.evil.example", "192.168.1.5", "[::2]", "x@y"],
)
def test_another_host_name_is_refused_against_dns_rebinding(visitor: Visitor, host: str) -> None:
    answer = visitor.send("GET", "/__data.json", headers={"Host": host})
    assert (answer.status_code, "set-cookie" in answer.headers) == (421, False)
    assert "--allow-host" in answer.text
    assert status(visitor, "POST", Host=host) == 421


def test_a_request_without_a_host_is_not_from_a_browser(server: Server) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as client:
        client.sendall(b"GET /__data.json HTTP/1.0\r\n\r\n")
        assert client.recv(65536).startswith(b"HTTP/1.1 200")


def test_any_host_name_is_accepted_on_request_or_off_loopback() -> None:
    ways: list[dict[str, Any]] = [{"allowed_hosts": ["*"]}, {"host": "0.0.0.0"}]
    for options in ways:
        with serve("Hello", **options) as server:
            visitor = Visitor(f"http://127.0.0.1:{urlsplit(server.url).port}")
            assert status(visitor, Host="box.lan") == 200


def test_host_names_can_also_be_required_off_loopback() -> None:
    with serve("Hello", host="0.0.0.0", allowed_hosts=["box.lan"], chat_ui="0.4") as server:
        visitor = Visitor(f"http://127.0.0.1:{urlsplit(server.url).port}")
        assert status(visitor, Host="box.lan") == 200
        assert status(visitor, Host="evil.example") == 421


@pytest.mark.parametrize("method", ["POST", "DELETE", "PATCH"])
@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://127.0.0.1:1", "http://localhost:{port}", ""]
)
def test_other_sites_change_nothing(visitor: Visitor, method: str, origin: str) -> None:
    headers = {"Origin": origin.format(port=urlsplit(visitor.url).port)}
    answer = visitor.send(method, "/conversation", json={"model": SCRIPTED}, headers=headers)
    assert (answer.status_code, "set-cookie" in answer.headers) == (403, False)
    assert answer.json() == {"error": "Cross-site requests are refused"}


def test_other_sites_links_may_be_followed(visitor: Visitor) -> None:
    assert status(visitor, Origin="https://evil.example") == 200


@pytest.mark.parametrize("origin", ["{url}", "https://{host}", "https://Chat.Example.org"])
def test_its_own_site_is_recognized_by_host_or_origin_with_any_scheme(
    visitor: Visitor, origin: str
) -> None:
    host = urlsplit(visitor.url).netloc
    assert status(visitor, "POST", Origin=origin.format(url=visitor.url, host=host)) == 200


def test_a_cookie_that_is_too_long_has_no_session(visitor: Visitor) -> None:
    longest, too_long = Visitor(visitor.url, "x" * 1024), Visitor(visitor.url, "x" * 1025)
    assert longest.layout()["conversations"] == []
    longest.create(), too_long.create()
    assert len(list(longest.layout()["conversations"])) == 1  # type: ignore[call-overload]
    assert too_long.layout()["conversations"] == []


def test_host_names_are_compared_without_port_case_and_final_dot() -> None:
    assert [host_name(each) for each in ("A.b:80", "[::1]:80", "[::1]", " x. ")] == [
        "a.b",
        "::1",
        "::1",
        "x",
    ]
    assert is_loopback("::1")
    assert not is_loopback("10.0.0.1")
