from __future__ import annotations

import ast
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

import h2o_client.server
from h2o_client.errors import ConfigurationError
from h2o_client.server import BUNDLED_MODEL, serve
from h2o_client.wire.events import Final, Token
from local_service import PATIENCE, at_once
from visitors import FedEngine, Stream, Visitor, echo

ROOT = Path(h2o_client.server.__file__).parent


def test_a_server_listens_from_serve_until_the_end_of_the_block() -> None:
    before = threading.active_count()
    with serve(echo, chat_ui="0.4") as server:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", server.url)
        assert str(server) == server.url
        assert requests.get(f"{server.url}/__data.json", timeout=PATIENCE).status_code == 200
    assert threading.active_count() <= before  # an idle thread of an earlier test may have ended
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{server.url}/__data.json", timeout=PATIENCE)


def test_several_servers_run_side_by_side() -> None:
    with serve(echo, chat_ui="0.4") as one, serve(echo, chat_ui="0.4") as other:
        made = Visitor(one.url, "ada").create()
        assert Visitor(one.url, "ada").page(made)["messages"] == []
        assert Visitor(other.url, "ada").layout()["conversations"] == []


def test_a_server_can_be_closed_twice() -> None:
    server = serve(echo, chat_ui="0.4")
    server.close()
    server.close()


def test_closing_stops_running_answers_and_waits_for_the_engine() -> None:
    engine = FedEngine()
    with serve(engine, chat_ui="0.4") as server:
        visitor = Visitor(server.url)
        answer = Stream(visitor, visitor.create())
        engine.words("one")
        assert answer.text() == "one"
    assert engine.ended.is_set()
    with pytest.raises((OSError, Exception), match=r"IncompleteRead|reset"):
        answer.rest()
    answer.close()


def test_closing_does_not_wait_for_idle_connections() -> None:
    with serve(echo, chat_ui="0.4") as server, requests.Session() as session:
        session.get(f"{server.url}/__data.json", timeout=PATIENCE)
        host, port = server.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=PATIENCE) as silent:
            head = "POST /conversation HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n"
            silent.sendall(f"{head}Content-Type: application/json\r\n\r\n".encode())
            with at_once():
                server.close()
            while silent.recv(1000):  # a request that has arrived is answered
                pass


def test_an_invalid_port_is_a_configuration_error() -> None:
    for port in (-1, 65536):
        with pytest.raises(ConfigurationError, match="Invalid port"):
            serve(echo, port=port, chat_ui="0.4")


def test_a_port_in_use_is_an_os_error() -> None:
    with serve(echo, chat_ui="0.4") as server, pytest.raises(OSError, match=r"in use|assigned"):
        serve(echo, port=int(server.url.rpartition(":")[2]), chat_ui="0.4")


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
def test_an_ipv6_address_is_in_brackets() -> None:
    try:
        server = serve(echo, host="::1", chat_ui="0.4")
    except OSError:
        pytest.skip("no IPv6 loopback here")
    with server:
        assert server.url.startswith("http://[::1]:")
        assert Visitor(server.url).accept().status_code == 200


def test_invalid_http_is_answered_without_a_log_line(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with serve(echo, chat_ui="0.4") as server:
        host, port = server.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=PATIENCE) as client:
            client.sendall(b"\x16\x03\x01 nonsense\r\n\r\n")
            assert client.recv(100).startswith(b"HTTP/1.1 400")
    assert capfd.readouterr() == ("", "")


# The engine that serve() loads itself


class Named:
    """An engine that has a name."""

    model = "mine"

    def __call__(self, turns: Any, parameters: Any, stopped: Any) -> Iterator[Token | Final]:
        return echo(turns, parameters, stopped)


class OwnedEngine:
    """A replacement of the bundled model."""

    model = BUNDLED_MODEL

    def __init__(self) -> None:
        self.closed = False
        engines.append(self)

    def __call__(self, turns: Any, parameters: Any, stopped: Any) -> Iterator[Token | Final]:
        return echo(turns, parameters, stopped)

    def __enter__(self) -> OwnedEngine:
        return self

    def __exit__(self, *_: object) -> None:
        self.closed = True


engines: list[OwnedEngine] = []


@pytest.fixture
def bundled(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[OwnedEngine]]:
    monkeypatch.setattr("h2o_client.server.serving.LlamaEngine", OwnedEngine)
    yield engines
    engines.clear()


@pytest.mark.parametrize(
    ("answers", "name"),
    [("Hello", "scripted"), (echo, "scripted"), (str.upper, "scripted"), (Named(), "mine")],
)
def test_the_list_of_models_names_the_engine(answers: Any, name: str) -> None:
    with serve(answers) as server:
        models = requests.get(f"{server.url}/api/v2/models", timeout=PATIENCE).content
    assert f'"id":"{name}"'.encode() in models


def test_without_an_engine_the_bundled_model_is_loaded_and_freed(
    bundled: list[OwnedEngine],
) -> None:
    with serve(chat_ui="0.4") as server:
        visitor = Visitor(server.url, model=BUNDLED_MODEL)
        made = visitor.create()
        visitor.ask(made, "Hello")
        assert visitor.messages(made)[-1] == ("assistant", "Hello")
        assert not bundled[0].closed
    assert bundled[0].closed


def test_the_model_is_freed_if_the_port_is_in_use(bundled: list[OwnedEngine]) -> None:
    with serve(echo, chat_ui="0.4") as server, pytest.raises(OSError, match=r"in use|assigned"):
        serve(port=int(server.url.rpartition(":")[2]), chat_ui="0.4")
    assert bundled[0].closed


# Imports


def test_importing_the_package_loads_none_of_its_extras() -> None:
    code = (
        "import sys, h2o_client.server; "
        "print([name for name in ('starlette', 'uvicorn', 'xllamacpp') if name in sys.modules])"
    )
    command = [sys.executable, "-c", code]
    printed = subprocess.run(
        command, cwd=ROOT.parent.parent, capture_output=True, text=True, check=True
    )
    assert printed.stdout == "[]\n"


def test_exactly_the_public_names_exist() -> None:
    for name in h2o_client.server.__all__:
        assert getattr(h2o_client.server, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        h2o_client.server.nonsense  # type: ignore[attr-defined]  # noqa: B018


def test_the_server_imports_only_allowed_modules() -> None:
    allowed = {"starlette", "uvicorn", "h11", "msgspec", "xllamacpp", "typing_extensions"}
    own = tuple(f"h2o_client.{name}" for name in ("server", "wire", "errors", "printable"))
    for file in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [each.name for each in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                root = name.partition(".")[0]
                known = root in allowed or root in sys.stdlib_module_names
                assert known or name.startswith(own), f"{file.name} imports {name}"


def test_a_token_needs_only_its_text() -> None:
    assert Token("x") == Token(text="x", special=False)
