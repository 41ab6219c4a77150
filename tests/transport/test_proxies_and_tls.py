"""Requests through proxies and over TLS, on real sockets."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable

import pytest

from h2o_client.config import SessionConfig
from h2o_client.errors import ConfigurationError, TransportError
from h2o_client.transport.call import Woken
from h2o_client.transport.transport import Transport
from h2o_client.wire.request import get
from proxies import LoggingProxy, SocksProxy
from scripted import AtAccept, Exchange, ScriptedServer, certificates
from transport_calls import call, ok, woken_after


def test_tls_with_the_callers_ca_certificate(to: Callable[..., Transport]) -> None:
    certs = certificates()
    context = ssl.create_default_context(cafile=certs.ca)
    with ScriptedServer(ok, tls=certs.server) as server:
        for verify in (certs.ca, context, False):
            with pytest.warns() if verify is False else no_warning():
                assert to(server.url, verify=verify).request(get("/"), call()).status == 200


class no_warning:  # noqa: N801 - stands beside pytest.warns
    def __enter__(self) -> None:
        return None

    def __exit__(self, *exc_info: object) -> None:
        return None


def test_an_untrusted_certificate_is_an_error_and_not_retried(
    to: Callable[..., Transport],
) -> None:
    certs = certificates()
    for context, hint in ((certs.untrusted, "verify="), (certs.other_host, "Use a name")):
        with (
            ScriptedServer(ok, tls=context) as server,
            pytest.raises(TransportError, match=hint) as caught,
        ):
            to(server.url, verify=certs.ca, max_retries=3).request(get("/"), call())
        assert caught.value.permanent
        assert server.connections == 1


def test_the_callers_ssl_context_is_used(to: Callable[..., Transport]) -> None:
    certs = certificates()
    empty = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with (
        ScriptedServer(ok, tls=certs.server) as server,
        pytest.raises(TransportError, match="not trusted"),
    ):
        to(server.url, verify=empty).request(get("/"), call())


def test_https_to_a_plain_http_server_is_explained(to: Callable[..., Transport]) -> None:
    def plain(exchange: Exchange) -> None:
        exchange.receive()
        exchange.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        exchange.cut()

    with (
        ScriptedServer(AtAccept(plain)) as server,
        pytest.raises(TransportError, match=r"Is it https\? If not, use http://"),
    ):
        to(server.url.replace("http:", "https:")).request(get("/"), call())


def test_a_missing_ca_file_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="no such file"):
        Transport(SessionConfig("https://host", verify="/no/such/file.pem"))


@pytest.mark.parametrize("tls", [False, True])
def test_all_requests_use_the_given_proxy(to: Callable[..., Transport], tls: bool) -> None:
    certs = certificates()
    with (
        ScriptedServer(ok, tls=certs.server if tls else None) as server,
        LoggingProxy(login=("me", "secret")) as proxy,
    ):
        transport = to(server.url, proxy=proxy.url_with_login, verify=certs.ca)
        assert transport.request(get("/"), call()).status == 200
        address = server.url.partition("//")[2]
        expected = f"CONNECT {address}" if tls else f"GET {server.url}/"
        assert proxy.lines() == [expected]


def test_a_proxy_of_the_environment_is_used(
    to: Callable[..., Transport], monkeypatch: pytest.MonkeyPatch
) -> None:
    with ScriptedServer(ok) as server, LoggingProxy(hosts={"chat.example": server.port}) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("http_proxy", proxy.url)
        transport = to("http://chat.example:3000")
        assert transport.request(get("/"), call()).status == 200
        assert proxy.lines() == ["GET http://chat.example:3000/"]
        monkeypatch.setenv("HTTP_PROXY", "")
        monkeypatch.setenv("http_proxy", "")
        assert transport.proxies() == {}  # nothing of it stays


def test_an_empty_proxy_disables_the_proxies_of_the_environment(
    to: Callable[..., Transport], monkeypatch: pytest.MonkeyPatch
) -> None:
    with LoggingProxy() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        with pytest.raises(TransportError, match=r"chat\.invalid"):
            to("http://chat.invalid", proxy="").request(get("/"), call())
        assert proxy.lines() == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST.", "[::ffff:127.0.0.1]"])
def test_a_proxy_of_the_environment_is_not_used_for_this_machine(
    host: str, to: Callable[..., Transport], monkeypatch: pytest.MonkeyPatch
) -> None:
    with ScriptedServer(ok) as server, LoggingProxy() as proxy:
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
            monkeypatch.setenv(name.upper(), proxy.url)
        transport = to(f"http://{host}:{server.port}")
        assert transport.proxies() == {}
        if host in ("127.0.0.1", "localhost"):  # other names may not be resolvable
            assert transport.request(get("/"), call()).status == 200
        assert proxy.lines() == []


def test_a_call_through_a_proxy_is_woken_too(to: Callable[..., Transport]) -> None:
    certs = certificates()

    def silent(exchange: Exchange) -> None:
        exchange.until_gone()
        exchange.cut()

    with ScriptedServer(silent, tls=certs.server) as server, LoggingProxy() as proxy:
        waiting = call()
        thread = woken_after(waiting, lambda: server.wait_for(lambda server: server.requests))
        with pytest.raises(Woken):
            to(server.url, proxy=proxy.url, verify=certs.ca).request(get("/"), waiting)
        thread.join()


@pytest.mark.parametrize("tls", [False, True])
def test_a_socks_proxy_is_used(to: Callable[..., Transport], tls: bool) -> None:
    certs = certificates()
    with (
        ScriptedServer(ok, tls=certs.server if tls else None) as server,
        SocksProxy(login=("me", "secret")) as proxy,
    ):
        transport = to(server.url, proxy=proxy.url, verify=certs.ca)
        assert transport.request(get("/"), call()).status == 200
        assert [(each.host, each.port) for each in proxy.log] == [("127.0.0.1", server.port)]


def test_a_socks_proxy_without_pysocks_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("h2o_client.transport.address.find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=r"pip install '\.\[socks\]'"):
        Transport(SessionConfig("http://host", proxy="socks5://localhost:1080"))


@pytest.mark.parametrize("proxy", ["localhost:8080", "ftp://proxy", "http://", "http:/x"])
def test_an_invalid_proxy_is_refused(proxy: str) -> None:
    with pytest.raises(ConfigurationError, match="Invalid proxy"):
        Transport(SessionConfig("http://host", proxy=proxy))


@pytest.mark.parametrize("login", [None, ("me", "wrong")])
def test_a_proxy_that_fails_is_named_without_its_password(
    to: Callable[..., Transport], login: tuple[str, str] | None
) -> None:
    certs = certificates()
    with (
        ScriptedServer(ok, tls=certs.server) as server,
        LoggingProxy(failing=login is None, login=("me", "other")) as proxy,
    ):
        url = proxy.url.replace("://", "://me:wrong@") if login else proxy.url_with_login
        with pytest.raises(TransportError, match="proxy") as caught:
            to(server.url, proxy=url, verify=certs.ca).request(get("/"), call())
    assert "wrong" not in str(caught.value)
    assert "other" not in str(caught.value)


def test_a_407_is_an_error_of_the_proxy(to: Callable[..., Transport]) -> None:
    with (
        ScriptedServer(ok) as server,
        LoggingProxy(login=("me", "other")) as proxy,
        pytest.raises(TransportError, match="proxy") as caught,
    ):
        to(server.url, proxy=proxy.url, max_retries=3).request(get("/"), call())
    assert caught.value.permanent


@pytest.mark.parametrize("says", [b"", b"\x05", b"\x05\x00"], ids=["nothing", "half", "hello"])
def test_a_call_can_be_woken_while_it_waits_for_a_socks_proxy(
    to: Callable[..., Transport], says: bytes, leaks_nothing: None
) -> None:
    connected = threading.Event()

    def silent(exchange: Exchange) -> None:
        exchange.receive()
        exchange.send(says)
        connected.set()
        exchange.gone(exchange.server.patience)

    with ScriptedServer(AtAccept(silent), patience=60) as proxy:
        transport = to("http://chat.example", proxy=proxy.url.replace("http:", "socks5h:"))
        waiting = call(connect=50.0)

        def wake() -> None:
            connected.wait(20)
            waiting.wake()

        thread = threading.Thread(target=wake)
        thread.start()
        began = time.monotonic()
        with pytest.raises(Woken):
            transport.request(get("/"), waiting)
        assert time.monotonic() - began < 20
        thread.join()
