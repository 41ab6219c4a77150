"""An error of the network names the machine that failed, the file or variable, and the reason."""

from __future__ import annotations

import datetime
import errno
import os
import socket
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from h2o_client import ConfigurationError, H2oSession, ProtocolError, TransportError
from h2o_client.config import SessionConfig
from h2o_client.timeouts import Timeouts
from h2o_client.transport.call import Call
from h2o_client.transport.transport import Transport
from h2o_client.wire.request import get
from proxies import LoggingProxy, SocksProxy
from scripted import AtAccept, Exchange, ScriptedServer, certificates, refusing_port
from scripted_chatui import ScriptedChatUi


def ask(url: str, **settings: Any) -> None:
    transport = Transport(SessionConfig(url, **{"max_retries": 0, **settings}))
    try:
        transport.request(get("/"), Call(Timeouts(connect=10, first_token=10, idle=10)))
    finally:
        transport.close()


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer(lambda exchange: exchange.json({})) as made:
        yield made


# The system's reason.


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        (errno.EHOSTUNREACH, "VPN"),
        (errno.ENETUNREACH, "VPN"),
        (errno.EMFILE, "ulimit -n"),
        (errno.EACCES, ""),
        (errno.EADDRNOTAVAIL, ""),
        (errno.ENOBUFS, ""),
    ],
)
def test_a_failed_connection_has_a_reason(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, code: int, hint: str
) -> None:
    class Failing(socket.socket):
        def connect(self, address: object) -> None:
            raise OSError(code, os.strerror(code))

    monkeypatch.setattr(socket, "socket", Failing)
    with pytest.raises(TransportError) as caught:
        ask(server.url)
    monkeypatch.undo()
    said = str(caught.value)
    assert said.startswith(f"The connection to 127.0.0.1:{server.port} failed: {os.strerror(code)}")
    assert hint in said
    assert "Errno" not in said


def test_a_lack_of_file_descriptors_is_reported(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_more(*args: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(socket, "socket", no_more)
    with pytest.raises(TransportError, match="Too many open files"):
        ask(server.url)


def test_a_host_name_without_an_address_is_reported(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: [])
    with pytest.raises(
        TransportError, match=r"Cannot look up the name of .*: the name has no address"
    ):
        ask(server.url)


def test_an_unknown_host_name_has_the_systems_message(monkeypatch: pytest.MonkeyPatch) -> None:
    def not_found(*args: object, **kwargs: object) -> None:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", not_found)
    with pytest.raises(
        TransportError, match=r"Cannot look up the name of chat\.example: Temporary failure in name"
    ):
        ask("http://chat.example")


def test_contradicting_content_lengths_are_a_protocol_error() -> None:
    def two_lengths(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 5\r\n\r\n{}")
        exchange.cut()

    with ScriptedChatUi(message=two_lengths) as server, H2oSession(server.url) as client:
        with pytest.raises(ProtocolError, match=r"headers of .*Content-Length") as caught:
            client.chat("Hello")
        assert caught.value.resendable is False
        assert caught.value.conversation_id is not None


# Proxies.


@pytest.mark.parametrize("scheme", ["http", "https", "socks4", "socks4a", "socks5", "socks5h"])
def test_a_proxy_that_does_not_run_is_named(server: ScriptedServer, scheme: str) -> None:
    with refusing_port() as port, pytest.raises(TransportError) as caught:
        ask(server.url, proxy=f"{scheme}://name:secret@127.0.0.1:{port}")
    said = str(caught.value)
    assert said.startswith(f"The proxy 127.0.0.1:{port} on the way to 127.0.0.1:{server.port} ")
    assert "Connection refused" in said
    assert "secret" not in said


@pytest.mark.parametrize("scheme", ["http", "socks5", "socks5h"])
def test_a_proxy_whose_name_is_wrong_is_named(server: ScriptedServer, scheme: str) -> None:
    with pytest.raises(TransportError, match=r"The proxy no\.such\.proxy\.invalid:1080 .* failed"):
        ask(server.url, proxy=f"{scheme}://no.such.proxy.invalid:1080")


def test_the_message_of_a_socks_proxy_is_shown(server: ScriptedServer) -> None:
    with (
        SocksProxy(failing=True) as proxy,
        pytest.raises(TransportError, match=r"The proxy 127\.0\.0\.1:\d+ .*0x01: General"),
    ):
        ask(server.url, proxy=proxy.url)
    with SocksProxy(login=("ada", "right")) as proxy:
        wrong = proxy.url.replace("right", "wrong")
        with pytest.raises(TransportError, match="SOCKS5 authentication failed") as caught:
            ask(server.url, proxy=wrong)
    assert "wrong" not in str(caught.value)


def test_with_local_lookup_the_error_names_the_server_and_not_the_socks_proxy() -> None:
    with (
        SocksProxy() as proxy,
        pytest.raises(TransportError, match=r"the name of no\.such\.host\.invalid"),
    ):
        ask("http://no.such.host.invalid", proxy=proxy.url.replace("socks5h", "socks5"))


def test_the_message_of_an_http_proxy_is_shown() -> None:
    with (
        LoggingProxy(failing=True) as proxy,
        pytest.raises(TransportError, match="Tunnel connection failed: 502 Bad Gateway"),
    ):
        ask("https://chat.example", proxy=proxy.url)


@pytest.mark.parametrize(
    ("variable", "value", "shown"),
    [
        ("ALL_PROXY", "socks://127.0.0.1:1080/", "ALL_PROXY=socks://127.0.0.1:1080/"),
        ("http_proxy", "socks6://name:secret@host:1", "http_proxy=host:1"),
        ("http_proxy", "http://host:port", "http_proxy=http://host:port"),
        ("http_proxy", "http://", "http_proxy=http://"),
    ],
)
def test_an_invalid_proxy_variable_is_named(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, shown: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError) as caught:
        ask("http://chat.example")
    assert shown in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_proxy_variable_that_needs_pysocks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1080")
    monkeypatch.setitem(sys.modules, "socks", None)
    with pytest.raises(ConfigurationError, match=r"ALL_PROXY=.*extra 'socks'.*pip install"):
        ask("http://chat.example")


def test_changes_of_the_environment_take_effect(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with refusing_port() as port:
        transport = Transport(SessionConfig(server.url, max_retries=0))
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
        transport.proxies()
        monkeypatch.delenv("http_proxy")
        assert transport.proxies() == {}
        transport.close()


# Certificates.


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "no such file"), (b"", "no certificate in PEM"), (b"text", "no certificate")],
)
def test_an_invalid_ca_variable_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    content: bytes | None,
    reason: str,
) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    monkeypatch.setenv(variable, str(path))
    with ScriptedServer([], tls=certificates().server) as server:
        with pytest.raises(ConfigurationError) as caught:
            ask(server.url)
        assert server.connections == 0
    assert f"from {str(path)!r} of {variable}: " in str(caught.value)
    assert reason in str(caught.value)


def test_a_ca_variable_is_ignored_without_tls(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/no/such/file.pem")
    ask(server.url)


def test_a_file_without_a_certificate_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    path.write_text("this is no certificate\n")
    with pytest.raises(ConfigurationError, match=r"ca\.pem': the file has no certificate"):
        Transport(SessionConfig("https://chat.example", verify=str(path)))
    with pytest.raises(ConfigurationError, match="openssl rehash"):
        Transport(SessionConfig("https://chat.example", verify=str(tmp_path)))


def test_a_folder_of_ca_certificates_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "0a1b2c3d.0").write_bytes(Path(certificates().ca).read_bytes())
    Transport(SessionConfig("https://chat.example", verify=str(tmp_path))).close()


def test_the_hint_for_an_expired_certificate_does_not_mention_verify(tmp_path: Path) -> None:
    import trustme

    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    expired = authority.issue_cert("127.0.0.1", not_after=datetime.datetime(2020, 1, 1))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    expired.configure_cert(context)
    with (
        ScriptedServer([], tls=context) as server,
        pytest.raises(TransportError, match=r"has expired\. .*renew") as caught,
    ):
        ask(server.url, verify=str(tmp_path / "ca.pem"))
    assert "verify=" not in str(caught.value)
    assert caught.value.permanent


def test_a_required_client_certificate_is_explained(tmp_path: Path) -> None:
    import trustme

    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    with (
        ScriptedServer([], tls=context) as server,
        pytest.raises(TransportError, match=r"load_cert_chain|the server closed the connection"),
    ):
        ask(server.url, verify=str(tmp_path / "ca.pem"))


def test_a_connection_closed_in_the_tls_handshake_is_reported() -> None:
    def hangs_up(exchange: Exchange) -> None:
        exchange.receive()
        exchange.cut()

    with (
        ScriptedServer(AtAccept(hangs_up)) as server,
        pytest.raises(TransportError, match=r"TLS with .* failed: \w+"),
    ):
        ask(server.url.replace("http:", "https:"))
