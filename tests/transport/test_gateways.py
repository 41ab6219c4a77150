"""Gateways that respond instead of a chat-ui: proxies, firewalls, redirects."""

from __future__ import annotations

import re
from typing import Any

import pytest

from h2o_client import ConfigurationError, H2oSession, StatusError, TermsNotAcceptedError
from scripted import Exchange, Script, ScriptedServer
from scripted_chatui import ScriptedChatUi

NGINX = (
    b"<html>\r\n<head><title>405 Not Allowed</title></head>\r\n<body>\r\n<center><h1>405 Not "
    b"Allowed</h1></center>\r\n<hr><center>nginx/1.25.3</center>\r\n</body>\r\n</html>\r\n"
)


def moves_to(base: str, status: int) -> Script:
    """Redirect every request to the same path at another address, like nginx's ``return``."""

    def moved(exchange: Exchange) -> None:
        location = base + exchange.request.target
        exchange.answer(status, b"moved", "text/html", {"Location": location})

    return moved


def moves_nowhere(exchange: Exchange) -> None:
    exchange.answer(301, b"moved", "text/html")


KINDS = {
    "found out": {},
    "named": {"server_version": "0.10.0"},
    "named, of 2023": {"server_version": "0.4"},
    "with a cookie": {"server_version": "0.10.0", "cookies": "hf-chat=abc"},
}


@pytest.mark.parametrize("status", [301, 302, 307, 308])
@pytest.mark.parametrize("settings", KINDS.values(), ids=KINDS)
def test_a_redirect_to_another_host_names_it(status: int, settings: dict[str, str]) -> None:
    with (
        ScriptedServer(moves_to("https://chat.example.org", status)) as server,
        H2oSession(server.url, **settings) as client,  # type: ignore[arg-type]
        pytest.raises(ConfigurationError, match=r"Use https://chat\.example\.org\."),
    ):
        client.chat("hello")


@pytest.mark.parametrize("settings", KINDS.values(), ids=KINDS)
def test_a_redirect_to_another_path_names_it(settings: dict[str, str]) -> None:
    with ScriptedServer(moves_to("/chat", 301)) as server:
        client = H2oSession(server.url, **settings)  # type: ignore[arg-type]
        with client, pytest.raises(ConfigurationError, match=f"Use {server.url}/chat\\."):
            client.chat("hello")


def test_a_redirect_during_a_session_names_the_new_address() -> None:
    moved = moves_to("https://chat.example.org", 301)
    with (
        ScriptedChatUi(message=moved) as server,
        H2oSession(server.url) as client,
        pytest.raises(ConfigurationError, match=r"Use https://chat\.example\.org\."),
    ):
        client.chat("hello")


@pytest.mark.parametrize("settings", KINDS.values(), ids=KINDS)
def test_a_redirect_without_a_location_is_not_a_login(settings: dict[str, str]) -> None:
    with (
        ScriptedServer(moves_nowhere) as server,
        H2oSession(server.url, **settings) as client,  # type: ignore[arg-type]
        pytest.raises(StatusError, match="a redirect without a Location") as caught,
    ):
        client.chat("hello")
    assert type(caught.value) is StatusError


def test_a_redirect_to_the_same_address_is_reported() -> None:
    with (
        ScriptedServer(moves_to("", 301)) as server,
        H2oSession(server.url, server_version="0.10.0") as client,
        pytest.raises(StatusError, match="a redirect to the same address") as caught,
    ):
        client.chat("hello")
    assert type(caught.value) is StatusError


@pytest.mark.parametrize("step", ["settings", "create", "message"])
def test_a_405_of_a_gateway_is_not_about_the_terms(step: str) -> None:
    def refuses(exchange: Exchange) -> None:
        exchange.answer(405, NGINX, "text/html", {"Server": "nginx/1.25.3"})

    refused: dict[str, Any] = {step: refuses}
    with (
        ScriptedChatUi(**refused) as server,
        H2oSession(server.url) as client,
        pytest.raises(StatusError, match="405 Not Allowed") as caught,
    ):
        client.chat("hello")
    assert not isinstance(caught.value, TermsNotAcceptedError)
    assert "terms" not in str(caught.value)


@pytest.mark.parametrize("status", [502, 504, 520, 524])
def test_a_running_model_is_stopped_after_a_gateway_timeout(status: int) -> None:
    def gives_up(exchange: Exchange) -> None:
        exchange.answer(status, b"<html><title>a timeout occurred</title></html>", "text/html")

    with ScriptedChatUi(message=gives_up) as server, H2oSession(server.url) as client:
        with pytest.raises(StatusError, match="a timeout occurred") as caught:
            client.chat("hello")
        assert caught.value.resendable is False
        client.close()
        assert server.count("POST", re.compile(".*/stop-generating")) == 1
