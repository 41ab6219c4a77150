"""Set-Cookie, read like in browsers (RFC 6265, 5.2), with variations of servers and proxies."""

from __future__ import annotations

import time
import warnings

import pytest

from h2o_client.config import SessionConfig
from h2o_client.timeouts import Timeouts
from h2o_client.transport.call import Call
from h2o_client.transport.set_cookie import read_set_cookie
from h2o_client.transport.transport import Transport
from h2o_client.wire.request import get
from scripted import Exchange, ScriptedServer

KEPT = {
    "plain": ("hf-chat=abc", "hf-chat=abc"),
    "as chat-ui's": ("hf-chat=abc; Path=/; HttpOnly; Secure; SameSite=None", "hf-chat=abc"),
    "blanks": ("  hf-chat =  abc ;  Path = / ", "hf-chat=abc"),
    "an empty value": ("hf-chat=", "hf-chat="),
    "signs of equality": ("hf-chat=a=b==", "hf-chat=a=b=="),
    "quotes": ('hf-chat="a b"', 'hf-chat="a b"'),
    "commas": ("hf-chat=a,b", "hf-chat=a,b"),
    "an age that is no number": ("hf-chat=abc; Max-Age=soon", "hf-chat=abc"),
    "a long age": ("hf-chat=abc; Max-Age=99999999999999999999", "hf-chat=abc"),
    "a date that is none": ("hf-chat=abc; Expires=tomorrow", "hf-chat=abc"),
    "a date with dashes": ("hf-chat=abc; Expires=Sun, 06-Nov-2094 08:49:37 GMT", "hf-chat=abc"),
    "a date far off": ("hf-chat=abc; Expires=Fri, 31 Dec 9999 23:59:59 GMT", "hf-chat=abc"),
    "an age over a date": (
        "hf-chat=abc; Max-Age=60; Expires=Thu, 01 Jan 1970 00:00:00 GMT", "hf-chat=abc",
    ),
    "a version": ("hf-chat=abc; Version=1", "hf-chat=abc"),
    "its own address as domain": ("hf-chat=abc; Domain=127.0.0.1", "hf-chat=abc"),
    "no domain": ("hf-chat=abc; Domain=", "hf-chat=abc"),
    "a path that is none": ("hf-chat=abc; Path=chat", "hf-chat=abc"),
    "unknown attributes": ("hf-chat=abc; Partitioned; Priority=High; x=\"y;z", "hf-chat=abc"),
    "a port": ('hf-chat=abc; Port="1,2"', "hf-chat=abc"),
    "attributes in any case": ("hf-chat=abc; PATH=/; MAX-AGE=60; SECURE", "hf-chat=abc"),
}  # fmt: skip
IGNORED = {
    "no name": "=abc",
    "no sign of equality": "hf-chat",
    "nothing": "",
    "a control character": "hf-chat=a\x01b",
    "another's domain": "hf-chat=abc; Domain=example.org",
    "a part of an address": "hf-chat=abc; Domain=0.0.1",
    "another's path": "hf-chat=abc; Path=/other",
    "an age that is over": "hf-chat=abc; Max-Age=0",
    "a negative age": "hf-chat=abc; Max-Age=-5",
    "a date that has passed": "hf-chat=abc; Expires=Thu, 01 Jan 1970 00:00:00 GMT",
    "another domain of the name": "hf-chat=abc; Domain=com",
}


def sent_back(said: str) -> str | None:
    """The Cookie header of the request after an answer with that Set-Cookie."""

    def answer(exchange: Exchange) -> None:
        exchange.json({}, headers=[("Set-Cookie", said)])

    with ScriptedServer(answer) as server:
        transport = Transport(SessionConfig(server.url))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for _ in range(2):
                transport.request(get("/settings"), Call(Timeouts()))
        transport.close()
        cookie: str | None = server.requests[1].headers["Cookie"]
        return cookie


@pytest.mark.parametrize(("said", "cookie"), KEPT.values(), ids=KEPT)
def test_cookies_that_browsers_accept_are_accepted(said: str, cookie: str) -> None:
    assert sent_back(said) == cookie


@pytest.mark.parametrize("said", IGNORED.values(), ids=IGNORED)
def test_cookies_that_browsers_ignore_are_ignored(said: str) -> None:
    assert sent_back(said) is None


def test_an_expired_cookie_is_deleted() -> None:
    values = iter(["hf-chat=abc", "hf-chat=; Max-Age=0", "other=1"])

    def answer(exchange: Exchange) -> None:
        exchange.json({}, headers=[("Set-Cookie", next(values))])

    with ScriptedServer(answer) as server:
        transport = Transport(SessionConfig(server.url))
        for _ in range(3):
            transport.request(get("/settings"), Call(Timeouts()))
        transport.close()
        assert [each.headers["Cookie"] for each in server.requests] == [None, "hf-chat=abc", None]


@pytest.mark.parametrize(
    ("attribute", "domain"),
    [
        ("", "chat.example.org"),
        ("chat.example.org", "chat.example.org"),
        (".CHAT.example.org", "chat.example.org"),
        ("example.org", ".example.org"),
        ("org", None),
        ("ample.org", None),
        ("other.example.org", None),
    ],
)
def test_a_domain_is_the_servers_own_or_a_parent(attribute: str, domain: str | None) -> None:
    host = "chat.example.org"
    line = f"hf-chat=abc; Domain={attribute}"
    cookie = read_set_cookie(line, host=host, domain=host, path="/")
    assert (None if cookie is None else cookie.domain) == domain


def test_a_cookie_without_a_path_is_for_the_folder_of_its_request() -> None:
    for path, own in (("/chat/settings", "/chat"), ("/settings", "/"), ("/", "/"), ("", "/")):
        cookie = read_set_cookie("a=b", host="h", domain="h", path=path)
        assert cookie is not None
        assert cookie.path == own


def test_an_age_counts_from_now() -> None:
    cookie = read_set_cookie("a=b; Max-Age=60", host="h", domain="h", path="/")
    assert cookie is not None
    assert 0 < (cookie.expires or 0) - time.time() <= 60
