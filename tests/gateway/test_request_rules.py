"""Access control: keys, hosts, origins, and methods."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from h2o_client.errors import ConfigurationError
from h2o_client.gateway import app, gateway
from h2o_client.server import serve
from local_service import PATIENCE

BODY = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}


@pytest.fixture(scope="module")
def chat_ui() -> Iterator[str]:
    with serve("Hello", chat_ui="latest", model="m") as server:
        yield server.url


@pytest.fixture(scope="module")
def url(chat_ui: str) -> Iterator[str]:
    with gateway(
        chat_ui, allowed_hosts=["chat.example.org"], allowed_origins=["https://app.example.org"]
    ) as running:
        yield running.url


def ask(url: str, headers: dict[str, str] | None = None, **others: Any) -> httpx.Response:
    with httpx.Client(trust_env=False, timeout=PATIENCE) as client:
        method = others.pop("method", "POST")
        path = others.pop("path", "/v1/chat/completions")
        content = others.pop("content", json.dumps(BODY))
        given = {"content-type": "application/json", **(headers or {})}
        return client.request(method, url + path, headers=given, content=content)


def code(response: httpx.Response) -> str:
    found = response.json()["error"]
    assert set(found) == {"message", "type", "param", "code"}
    return str(found["code"])


def test_the_gateway_accepts_its_own_names_with_and_without_the_port(url: str) -> None:
    port = url.rpartition(":")[2]
    for host in ("127.0.0.1", f"127.0.0.1:{port}", f"localhost:{port}", "chat.example.org:443"):
        assert ask(url, {"host": host}).status_code == 200, host


def test_an_allowed_host_may_be_given_with_its_port(chat_ui: str) -> None:
    names = ["Chat.example.org:8443", "fd00::1", "[fd00::2]:8000"]
    with gateway(chat_ui, allowed_hosts=names) as running:
        for host in ("chat.example.org:8443", "[fd00::1]:8000", "[fd00::2]"):
            assert ask(running.url, {"host": host}).status_code == 200, host


@pytest.mark.parametrize("host", ["evil.example.org", "127.0.0.1.example.org", "10.0.0.1", ""])
def test_another_host_is_421(url: str, host: str) -> None:
    response = ask(url, {"host": host})
    assert (response.status_code, code(response)) == (421, "unknown_host")


@pytest.mark.parametrize("path", ["/v1/models", "/health", "/v1/chat/completions"])
@pytest.mark.parametrize(
    "origin",
    ["https://evil.example.org", "null", "http://localhost:1", "https://app.example.org.x"],
)
def test_another_origin_is_403_on_every_path(url: str, path: str, origin: str) -> None:
    method = "POST" if "chat" in path else "GET"
    response = ask(url, {"origin": origin}, method=method, path=path)
    assert (response.status_code, code(response)) == (403, "foreign_origin")
    assert "access-control-allow-origin" not in response.headers
    question = {"origin": origin, "access-control-request-method": "POST"}
    assert ask(url, question, method="OPTIONS", path=path).status_code == 403


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_an_image_in_a_page_of_another_site_does_not_send_a_request(url: str, site: str) -> None:
    headers = {"sec-fetch-site": site, "sec-fetch-mode": "no-cors"}
    response = ask(url, headers, method="GET", path="/v1/models")
    assert (response.status_code, code(response)) == (403, "foreign_origin")


@pytest.mark.parametrize("site", ["none", "same-origin"])
def test_a_browser_may_open_the_gateway_itself(url: str, site: str) -> None:
    response = ask(url, {"sec-fetch-site": site}, method="GET", path="/v1/models")
    assert response.status_code == 200


def test_pages_of_an_allowed_origin_may_send_requests_and_read_responses(url: str) -> None:
    origin = {"origin": "https://app.example.org"}
    question = {
        **origin,
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type",
    }
    allowed = ask(url, question, method="OPTIONS")
    assert allowed.status_code == 204
    assert allowed.headers["access-control-allow-headers"] == "authorization,content-type"
    response = ask(url, origin)
    assert response.status_code == 200
    for each in (allowed, response):
        assert each.headers["access-control-allow-origin"] == "https://app.example.org"
        assert "access-control-allow-credentials" not in each.headers


@pytest.mark.parametrize(
    "kind", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"]
)
def test_a_body_of_another_type_is_415(url: str, kind: str) -> None:
    response = ask(url, {"content-type": kind})
    assert (response.status_code, code(response)) == (415, "unsupported_media_type")


def test_json_may_name_its_charset(url: str) -> None:
    assert ask(url, {"content-type": "application/json; charset=utf-8"}).status_code == 200


def test_unknown_paths_and_methods_have_openais_shape(url: str) -> None:
    assert code(ask(url, path="/v1/embeddings")) == "unknown_url"
    response = ask(url, method="GET", path="/v1/chat/completions")
    assert (response.status_code, code(response)) == (405, "unknown_url")


def test_the_paths_also_work_without_v1(url: str) -> None:
    assert ask(url, path="/chat/completions").status_code == 200
    assert ask(url, method="GET", path="/models").status_code == 200


def test_with_keys_only_health_needs_no_key(chat_ui: str) -> None:
    with gateway(chat_ui, keys={"sk-ada": "hf-chat=ada"}) as running:
        for headers in ({}, {"authorization": "Bearer sk-bob"}, {"authorization": "Basic sk-ada"}):
            response = ask(running.url, headers)
            assert (response.status_code, code(response)) == (401, "invalid_api_key")
        assert ask(running.url, {"authorization": "Bearer sk-ada"}).status_code == 200
        assert ask(running.url, method="GET", path="/v1/models").status_code == 401
        assert ask(running.url, method="GET", path="/health").status_code == 200


def test_another_address_than_loopback_needs_keys(chat_ui: str) -> None:
    for host in ("0.0.0.0", "::", "192.168.1.5", "example.org"):
        with pytest.raises(ConfigurationError, match="keys"):
            gateway(chat_ui, host=host)
    with gateway(chat_ui, host="0.0.0.0", keys={"sk-ada": "hf-chat=ada"}) as running:
        url = running.url.replace("0.0.0.0", "127.0.0.1")
        headers = {"authorization": "Bearer sk-ada", "host": "gateway.example.org"}
        assert ask(url, headers).status_code == 200


@pytest.mark.anyio
async def test_an_application_without_keys_serves_nobody_else_on_the_network(
    chat_ui: str,
) -> None:
    application = app(chat_ui, allowed_hosts=["*"])
    for server, status in ((("10.0.0.1", 80), 403), (("127.0.0.1", 80), 200), (("/s", None), 200)):

        async def at(scope: Any, receive: Any, send: Any, server: Any = server) -> None:
            await application({**scope, "server": server}, receive, send)

        transport = httpx.ASGITransport(app=at)
        async with (
            httpx.AsyncClient(transport=transport, base_url="http://any") as client,
        ):
            assert (await client.get("/v1/models")).status_code == status


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.parametrize(
    "options",
    [
        {"max_conversations": 0},
        {"expire_after": 0},
        {"keys": {"sk": "a=1"}, "cookies": "a=1"},
        {"keys": {"sk": "no cookie and no file"}},
    ],
)
def test_invalid_options_are_configuration_errors(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        app("http://localhost:1", **options)
