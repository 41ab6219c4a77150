"""`H2oSession.check`: each faulty setup is reported at its step, with its cause and a remedy."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

import pytest

import fake_wire
from fake_chatui import FakeChatUi
from fake_model import Says
from fake_store import VERSIONS
from h2o_client import (
    AsyncH2oSession,
    Check,
    H2oSession,
    ServerError,
    Timeouts,
)
from h2o_client.backend import background
from h2o_client.backend.background import wait_until_empty
from h2o_client.doctor import checks
from h2o_client.server import serve
from h2o_client.transport.call import Call
from local_service import LocalService, Wire, read_request
from proxies import LoggingProxy
from scripted import (
    Exchange,
    Routes,
    Script,
    ScriptedServer,
    certificates,
    hang_up,
    refusing_port,
    say_nothing,
)
from scripted_chatui import LAYOUT, MODEL, ScriptedChatUi, layout, refuses

STEPS = [
    "address",
    "network",
    "TLS",
    "server",
    "version",
    "cookie",
    "terms",
    "login",
    "models",
    "conversation",
    "answer",
    "deletion",
]
NOON = datetime(2023, 6, 1, 12, tzinfo=timezone.utc)
ACCEPTED = {**LAYOUT, "settings": {"activeModel": MODEL, "ethicsModalAcceptedAt": NOON}}


def checked(url: str | None, **arguments: Any) -> list[Check]:
    with H2oSession(url, max_retries=0, **arguments) as client:
        found = list(client.check())
    assert [check.name for check in found] == STEPS
    return found


def failure(found: list[Check]) -> Check:
    (failed,) = [check for check in found if check.status == "failed"]
    behind = found[found.index(failed) + 1 :]
    assert all(check.status == "skipped" for check in behind if check.name != "deletion")
    return failed


@pytest.mark.parametrize("version", VERSIONS)
def test_a_working_server_passes_and_keeps_no_conversation(version: str) -> None:
    with FakeChatUi(version, terms=True) as server:
        found = checked(server.url)
        assert {check.status for check in found if check.name != "TLS"} == {"ok"}
        assert (server.conversations, server.violations) == ({}, [])


def test_steps_come_one_by_one() -> None:
    with FakeChatUi("0.9.4") as server, H2oSession(server.url) as client:
        steps = client.check()
        assert next(steps) == Check("address", "ok", server.url)
        assert server.requests == []
        assert next(steps).name == "network"
        assert server.paths() == ["GET /api/models"]


def test_leaving_the_checks_early_is_cleaned_up_by_the_session() -> None:
    with FakeChatUi("0.9.4") as server:
        with H2oSession(server.url) as client:
            steps = client.check()
            while next(steps).name != "conversation":
                pass
            assert len(server.conversations) == 1
        assert server.conversations == {}


@pytest.mark.parametrize("last", ["terms", "conversation", "answer"])
def test_garbage_collected_checks_are_cleaned_up_at_once(last: str) -> None:
    with FakeChatUi("0.9.4") as server, H2oSession(server.url, accept_terms=False) as client:
        for check in client.check():
            if check.name == last:
                break
        # After the cleanup that is running now.
        wait_until_empty(client._backend.cleanup.pending)
        assert server.count("DELETE") == 1
        assert server.conversations == {}
        assert client.chat("Hello").text
    assert server.conversations == {}


def test_checks_of_a_closed_session_are_not_cleaned_up_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with FakeChatUi("0.9.4") as server:
        with H2oSession(server.url) as client:
            steps = client.check()
            while next(steps).name != "conversation":
                pass
        del steps
        wait_until_empty(background._pending)
        assert server.count("DELETE") == 1
    assert caplog.records == []


def test_a_browsers_cookie_is_reported_and_its_settings_are_kept() -> None:
    with FakeChatUi("0.9.4", login="302") as server:
        cookie = server.browser()
        found = {check.name: check for check in checked(server.url, cookies=cookie)}
        assert found["login"].detail == "logged in as ada"
        assert found["cookie"] == Check("cookie", "ok", "hf-chat is recognized")
        assert found["answer"].status == "ok"


def test_nothing_listens() -> None:
    with refusing_port() as port:
        failed = failure(checked(f"http://127.0.0.1:{port}"))
    assert failed.name == "network"
    assert "refused the connection" in failed.detail
    assert failed.hint == "Is the server running?"


def test_a_name_that_does_not_resolve() -> None:
    failed = failure(checked("http://no-such-host.invalid"))
    assert (failed.name, failed.status) == ("network", "failed")
    assert "Cannot look up the name of no-such-host.invalid" in failed.detail
    assert "Is the address right" in failed.hint


@pytest.mark.parametrize("host", ["a" * 70 + ".example", "a..b"])
def test_a_name_that_no_host_can_have(host: str) -> None:
    failed = failure(checked(f"http://{host}/"))
    assert failed.name == "network"
    assert "Cannot look up the name" in failed.detail


def test_https_to_a_port_that_speaks_http() -> None:
    with serve("Hello") as server:
        failed = failure(checked(server.url.replace("http:", "https:")))
        assert failed == Check(
            "TLS",
            "failed",
            "The server speaks plain http, not https",
            f"Use {server.url}.",
            "TransportError",
        )


class SilentWithoutAnEnd(LocalService):
    """Answer HTTP, and wait for the end of anything else, like some servers."""

    def serve(self, wire: Wire, number: int) -> None:
        if wire.exactly(1) == b"H":
            wire.send(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            wire.fin()
        else:
            while wire.more(self.patience):
                pass


def test_https_to_a_server_of_http_that_waits_for_more() -> None:
    with SilentWithoutAnEnd() as server:
        failed = failure(checked(f"https://127.0.0.1:{server.port}", timeout=0.5))
    assert (failed.name, failed.detail) == ("TLS", "The server speaks plain http, not https")
    assert failed.hint == f"Use http://127.0.0.1:{server.port}."


def test_http_to_a_port_that_speaks_tls() -> None:
    with ScriptedServer(refuses(404, {}), tls=certificates().server, patience=3) as server:
        failed = failure(checked(server.url.replace("https:", "http:")))
        assert failed.name == "server"
        assert failed.hint == f"The port speaks TLS. Use {server.url}."


class BothServer(LocalService):
    """Accept TLS and plain http on one port, and refuse the latter, like nginx."""

    def serve(self, wire: Wire, number: int) -> None:
        if wire.sock.recv(1, socket.MSG_PEEK) == b"\x16":
            wire.start_tls(certificates().server)
        elif read_request(wire, number, self.patience):
            said = b"The plain HTTP request was sent to HTTPS port"
            wire.send(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n" + said)
        wire.fin()


def test_http_to_a_port_that_says_that_it_speaks_tls() -> None:
    with BothServer() as server:
        failed = failure(checked(f"http://127.0.0.1:{server.port}"))
    assert failed.name == "server"
    assert "plain HTTP request" in failed.detail
    assert failed.hint == f"The port speaks TLS. Use https://127.0.0.1:{server.port}."


def test_a_certificate_that_is_not_trusted() -> None:
    with ScriptedServer(refuses(404, {}), tls=certificates().untrusted, patience=3) as server:
        failed = failure(checked(server.url))
    assert failed.name == "TLS"
    assert "is not trusted" in failed.detail
    assert 'verify="/path/to/ca.pem"' in failed.hint


def test_a_certificate_for_another_name_is_reported_with_the_name() -> None:
    with ScriptedServer(refuses(404, {}), tls=certificates().other_host, patience=3) as server:
        failed = failure(checked(server.url, verify=certificates().ca))
    assert failed.name == "TLS"
    assert failed.detail == "The certificate is for chat.example, not for 127.0.0.1"
    assert "verify=" not in failed.hint


def test_a_proxy_that_requires_a_password() -> None:
    def wall(exchange: Exchange) -> None:
        exchange.json({}, status=401, headers={"WWW-Authenticate": 'Basic realm="x"'})

    with ScriptedServer(wall) as server:
        failed = failure(checked(server.url))
    assert failed.name == "login"
    assert "user:password@host" in failed.hint


def test_a_redirect_is_reported_in_one_line() -> None:
    def moved(exchange: Exchange) -> None:
        there = f"https://chat.example{exchange.request.path}"
        exchange.json({}, status=301, headers={"Location": there})

    with ScriptedServer(moved) as server:
        failed = failure(checked(server.url))
    assert failed.detail.endswith("redirects to another address")
    assert failed.hint == "Use https://chat.example."


def test_a_cookie_without_a_login_is_reported() -> None:
    with FakeChatUi("0.9.4") as server:
        found = checked(server.url, cookies="hf-chat=nobodys")
    (login,) = [check for check in found if check.name == "login"]
    assert login.status == "ok"
    assert login.detail.startswith("nobody is logged in with this cookie")


def test_tls_that_is_trusted_passes() -> None:
    with ScriptedChatUi(root=layout(ACCEPTED), tls=certificates().server) as server:
        found = checked(server.url, verify=certificates().ca)
    assert [check.name for check in found if check.status != "ok"] == []
    assert found[2].detail == "the certificate is trusted"


@pytest.mark.parametrize(
    "script",
    [
        lambda exchange: exchange.answer(200, b"<html>Welcome to nginx!</html>", "text/html"),
        refuses(404, {"detail": "Not Found"}),
        lambda exchange: exchange.json([1, 2, 3]),
    ],
)
def test_a_web_server_without_a_chat_ui(script: Script) -> None:
    with ScriptedServer(script) as server:
        failed = failure(checked(server.url))
        assert failed.name == "server"
        assert "does not look like a chat-ui server" in failed.detail
        assert "Is the address right" in failed.hint


def openai_api(wants_key: bool) -> Script:
    """Responses of Ollama and vLLM at /v1, or with a key, of OpenAI."""

    def answer(exchange: Exchange) -> None:
        if wants_key:
            exchange.json({"error": {"message": "Incorrect API key", "type": "x"}}, status=401)
        elif exchange.request.path == "/v1/models":
            exchange.json({"object": "list", "data": [{"id": "qwen", "object": "model"}]})
        else:
            exchange.answer(404, b"404 page not found", "text/plain")

    return answer


@pytest.mark.parametrize("wants_key", [False, True])
@pytest.mark.parametrize("path", ["", "/v1", "/v1/chat/completions"])
def test_an_openai_compatible_api_is_reported_with_a_hint(path: str, wants_key: bool) -> None:
    with ScriptedServer(openai_api(wants_key)) as server:
        failed = failure(checked(server.url + path))
        assert failed.name == "server"
        assert failed.detail.startswith("This is not a chat-ui, but an OpenAI-compatible API")
        if not path.endswith("completions"):
            assert ("it requires a key" if wants_key else "its models: qwen") in failed.detail
        assert failed.hint.endswith(f"h2o-chat serve --upstream {server.url}/v1")


def test_a_cookie_that_the_server_refuses_is_reported() -> None:
    with FakeChatUi("head", login="401") as server:
        failed = failure(checked(server.url, cookies="hf-chat=expired"))
        assert failed.name == "login"
        assert "does not accept the cookie hf-chat" in failed.detail
        assert failed.hint.startswith("The cookie has expired, or belongs to another server")


def test_a_refusal_without_a_reason_is_reported() -> None:
    script: Script = lambda exchange: exchange.answer(401, b"", "text/html")  # noqa: E731
    with ScriptedServer(script) as server:
        assert failure(checked(server.url)).detail == "The server answered 401: no reason given"


class SshServer(LocalService):
    """Send the greeting of sshd."""

    def serve(self, wire: Wire, number: int) -> None:
        wire.send(b"SSH-2.0-OpenSSH_9.2\r\n")
        wire.fin()


def test_a_server_that_does_not_speak_http() -> None:
    with SshServer() as server:
        failed = failure(checked(f"http://127.0.0.1:{server.port}"))
        assert failed.name == "server"
        assert failed.detail.startswith(("Cannot parse", f"127.0.0.1:{server.port}"))


def test_a_server_that_closes_the_connection() -> None:
    with ScriptedServer(hang_up) as server:
        failed = failure(checked(server.url))
        assert failed.name == "server"
        assert "closed the connection without a response" in failed.detail
        assert failed.hint == "Is it http or https?"


@pytest.mark.parametrize("version", ["0.4", "0.9.4", "head"])
@pytest.mark.parametrize("login", ["401", "302", "redirect"])
def test_a_login_wall(version: str, login: Any) -> None:
    with FakeChatUi(version, login=login) as server:
        failed = failure(checked(server.url))
        assert failed.name == "login"
        assert "logged in" in failed.detail or "id.example.org" in failed.detail
        assert "session cookie of a logged-in browser" in failed.hint


@pytest.mark.parametrize("version", ["0.4", "0.7", "0.9.4"])
def test_terms_that_were_not_accepted(version: str) -> None:
    with FakeChatUi(version, terms=True) as server:
        failed = failure(checked(server.url, accept_terms=False))
        assert failed.name == "terms"
        assert "welcome modal" in failed.detail
        assert "accept_terms=True" in failed.hint


def test_terms_that_are_not_required() -> None:
    with FakeChatUi("0.9.6") as server:
        found = {check.name: check for check in checked(server.url, accept_terms=False)}
        assert found["terms"] == Check("terms", "ok", "not accepted, and not needed")
        assert server.conversations == {}


def test_a_secure_cookie_over_http() -> None:
    with ScriptedChatUi() as server:
        with LoggingProxy(hosts={"chat.example": server.port}) as proxy:
            failed = failure(checked(f"http://chat.example:{server.port}", proxy=proxy.url))
        assert failed.name == "cookie"
        assert "unencrypted" in failed.detail
        assert "Use https, or allow it with insecure_cookies=True" in failed.hint


def test_a_proxy_that_removes_the_set_cookie_header() -> None:
    def settings(exchange: Exchange) -> None:
        exchange.json({"type": "redirect", "location": exchange.request.headers["Referer"]})

    def root(exchange: Exchange) -> None:
        exchange.answer(200, fake_wire.page(LAYOUT, None), "application/json")

    routes = Routes({("POST", "/settings"): settings, ("GET", "/__data.json"): root})
    with ScriptedServer(routes) as server:
        failed = failure(checked(server.url))
        assert failed.name == "cookie"
        assert "no session cookie" in failed.detail
        assert "Set-Cookie" in failed.hint


def test_a_proxy_that_removes_the_cookie_header() -> None:
    # The page is always that of a session that has not accepted the terms.
    with ScriptedChatUi(root=layout()) as server:
        failed = failure(checked(server.url))
        assert failed.name == "cookie"
        assert failed.detail == "The server does not recognize its own cookie (hf-chat)"
        assert "remove the Cookie header" in failed.hint


def test_no_models() -> None:
    with ScriptedChatUi(root=layout({**ACCEPTED, "models": []})) as server:
        failed = failure(checked(server.url))
        assert (failed.name, failed.detail) == ("models", "The server lists no models")
        assert "MODELS" in failed.hint


def test_an_unknown_model() -> None:
    with FakeChatUi("0.9.4") as server:
        failed = failure(checked(server.url, model="nobody/nothing"))
        assert failed.name == "models"
        assert failed.detail == "Unknown model 'nobody/nothing'"
        assert failed.hint.startswith("Available: ")


@pytest.mark.parametrize("version", ["0.4", "0.9.4", "0.10.0"])
def test_the_model_server_behind_is_down(version: str) -> None:
    with FakeChatUi(version, answer=[Says((), end="error")]) as server:
        found = checked(server.url)
        failed = failure(found)
        assert failed.name == "answer"
        assert "The model failed" in failed.detail
        assert "the model server behind it" in failed.hint
        assert found[-1] == Check("deletion", "ok", "deleted")
        assert server.conversations == {}


def test_a_model_with_an_empty_answer() -> None:
    with FakeChatUi("0.9.4", answer=[Says(())]) as server:
        failed = failure(checked(server.url))
        assert (failed.name, failed.detail) == ("answer", "The answer is empty")


def test_a_model_that_is_silent_for_too_long() -> None:
    with FakeChatUi("0.9.4", answer=[Says((), holds=True)]) as server:
        failed = failure(checked(server.url, timeout=Timeouts(first_token=0.3)))
        assert failed.name == "answer"
        assert "No first token within 0.3 s" in failed.detail


def test_a_model_that_is_silent_in_the_middle() -> None:
    with FakeChatUi("head", answer=[Says(("Hello",), holds=True)]) as server:
        failed = failure(checked(server.url, timeout=Timeouts(idle=1)))
        assert failed.name == "answer"
        assert "Nothing more came from the server within 1 s" in failed.detail
        assert server.conversations == {}


def test_a_hanging_answer_ends_before_its_timeouts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("h2o_client.doctor.checks._LONGEST", 0.3)
    monkeypatch.setattr("h2o_client.doctor.checks._SILENT", 0.2)
    with FakeChatUi("head", answer=[Says(("Hello",), holds=True)]) as server:
        failed = failure(checked(server.url))
        assert failed.name == "answer"
        said = r"The answer stopped in the middle: nothing came for \d+ s"
        assert re.fullmatch(said, failed.detail)
        assert server.conversations == {}


class Dripping(tuple[str, ...]):
    """Endless tokens, each produced on demand."""

    def __init__(self, given: tuple[str, ...]) -> None:
        self.over = threading.Event()
        self.given = 0

    def __iter__(self) -> Iterator[str]:
        while not self.over.wait(0.02):
            self.given += 1
            yield "word "


@pytest.mark.parametrize("version", ["0.4", "0.9.4", "head"])
def test_a_slow_answer_is_stopped(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("h2o_client.doctor.checks._ENOUGH", 10**9)
    monkeypatch.setattr("h2o_client.doctor.checks._LONGEST", 0.2)
    tokens = Dripping(("word ",))
    with FakeChatUi(version, answer=[Says(tokens)]) as server:
        found = {check.name: check for check in checked(server.url)}
        tokens.over.set()
        assert found["answer"].status == "ok"
        assert found["deletion"].status == "ok"
        assert server.conversations == {}


def test_a_proxy_that_refuses() -> None:
    with FakeChatUi("0.9.4") as server, refusing_port() as port:
        failed = failure(checked(server.url, proxy=f"http://127.0.0.1:{port}"))
        assert failed.name == "network"
        assert failed.detail.startswith(f"The proxy 127.0.0.1:{port} on the way to 127.0.0.1:")
        assert failed.detail.endswith(" failed: Connection refused")
        assert "proxy=" in failed.hint


def test_a_proxy_that_wants_credentials() -> None:
    with FakeChatUi("0.9.4") as server, LoggingProxy(login=("ada", "secret")) as proxy:
        failed = failure(checked(server.url, proxy=proxy.url))
        assert failed.name == "network"
        assert "requires valid credentials" in failed.detail


def test_a_proxy_that_cannot_reach_the_server() -> None:
    with FakeChatUi("0.9.4") as server, LoggingProxy(failing=True) as proxy:
        failed = failure(checked(server.url, proxy=proxy.url))
        assert failed.name == "server"
        assert "502" in failed.detail


def test_a_server_that_is_silent() -> None:
    with ScriptedServer(say_nothing) as server:
        failed = failure(checked(server.url, timeout=0.3))
        assert failed.name == "server"
        assert "Nothing more came from the server within 0.3 s" in failed.detail
        assert "allow more with timeout=" in failed.hint
        assert "database (MongoDB) of the chat-ui may be down" in failed.hint


def test_the_timeouts_of_the_session_apply(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Timeouts] = []

    def noted(timeouts: Timeouts) -> Call:
        told.append(timeouts)
        return Call(timeouts)

    monkeypatch.setattr(checks, "Call", noted)
    with FakeChatUi("0.9.4") as server:
        checked(server.url, timeout=Timeouts(connect=11, first_token=120, idle=90, total=1000))
    assert set(told) == {Timeouts(connect=11, first_token=120, idle=90)}


@pytest.mark.parametrize("version", ["0.4", "0.7", "0.9.1", "0.9.4", "head"])
def test_a_database_that_is_down(version: str) -> None:
    def fails(exchange: Exchange) -> bool:
        exchange.json({"message": "Internal Error"}, status=500)
        return True

    with FakeChatUi(version, before=fails) as server:
        failed = failure(checked(server.url))
        assert (failed.name, failed.kind) == ("server", "ServerError")
        assert "database (MongoDB) of the chat-ui may be down" in failed.hint
        assert len(server.requests) == 2


@pytest.mark.parametrize("version", ["0.9.6", "head"])
def test_models_that_were_not_loaded_when_the_server_started(version: str) -> None:
    def fails(exchange: Exchange) -> bool:
        if exchange.request.path == "/api/models":
            exchange.json({"message": "An error occurred", "errorId": "x"}, status=500)
            return True
        return False

    with FakeChatUi(version, before=fails) as server:
        found = checked(server.url)
        (failed,) = [each for each in found if each.status == "failed"]
        assert failed.name == "models"
        assert "could not load its models" in failed.detail
        assert "OPENAI_BASE_URL" in failed.hint
        with H2oSession(server.url) as client, pytest.raises(ServerError, match="OPENAI_BASE_URL"):
            client.chat("Hello")


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("0.3", "chat-ui v0.3 to v0.6, 0.3"),
        ("0.6", "chat-ui v0.3 to v0.6, 0.5 to 0.6"),
        ("0.7", "chat-ui v0.7"),
        ("0.8.4", "chat-ui v0.8 to v0.9.1, 0.8 to 0.8.4"),
        ("0.9.5", "chat-ui v0.9.2 to v0.9.5, 0.9.5"),
        ("0.9.6", "chat-ui v0.9.6 to v0.10.0"),
        ("head", "chat-ui since July 2026, after 0.10.0"),
    ],
)
def test_the_version_is_shown_as_exactly_as_it_is_known(version: str, said: str) -> None:
    with FakeChatUi(version) as server:
        found = {check.name: check.detail for check in checked(server.url)}
    assert found["version"] == said


@pytest.mark.parametrize(
    ("base", "asked", "found"),
    [
        ("/chat", "", "/chat"),
        ("", "/chat", ""),
        ("/ai/chat", "/ai", "/ai/chat"),
        ("/a", "/a/b/c", "/a"),
    ],
)
def test_a_wrong_base_path(base: str, asked: str, found: str) -> None:
    with FakeChatUi("0.9.4", base=base) as server:
        root = f"http://127.0.0.1:{server.port}"
        failed = failure(checked(root + asked))
        assert failed == Check(
            "server",
            "failed",
            f"No chat-ui answers at {root}{asked}",
            f"Use {root}{found}, where a chat-ui answers.",
            "ConfigurationError",
        )


def test_a_wrong_server_version() -> None:
    with FakeChatUi("0.9.4") as server:
        failed = failure(checked(server.url, server_version="0.4"))
        assert failed.name == "version"
        assert failed.detail.startswith("This is chat-ui ")
        assert failed.hint == "Leave out server_version= to have the version detected."
        assert failed.kind == "ConfigurationError"


@pytest.mark.parametrize(
    ("version", "said", "right"),
    [("0.8.4", "0.9.1", "0.8.2"), ("0.9.1", "0.8", "0.9.0"), ("0.9.5", "0.9.4", "0.9.5")],
)
def test_a_slightly_wrong_server_version(version: str, said: str, right: str) -> None:
    with FakeChatUi(version) as server:
        failed = failure(checked(server.url, server_version=said))
        assert failed.name == "version"
        assert "Leave out server_version=" in failed.hint
        assert {check.status for check in checked(server.url, server_version=right)} == {
            "ok",
            "skipped",
        }


@pytest.mark.parametrize("version", ["0.3", "0.6", "0.7", "0.9.6", "0.10.0", "latest"])
def test_a_correct_server_version(version: str) -> None:
    with FakeChatUi("head" if version == "latest" else version) as server:
        found = checked(server.url, server_version=version)
        assert [check for check in found if check.status == "failed"] == []


def test_a_session_without_an_address() -> None:
    failed = failure(checked(None))
    assert failed.name == "address"
    assert "H2O_CLIENT_URL" in failed.hint


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.anyio
async def test_the_async_version_returns_the_same() -> None:
    with FakeChatUi("0.9.4") as server:
        async with AsyncH2oSession(server.url) as client:
            found = [check async for check in client.check()]
        assert [check.name for check in found] == STEPS
        assert server.conversations == {}
