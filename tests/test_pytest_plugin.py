"""The fixture `h2o_server`, used as in a project of somebody else's, and the server behind it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from h2o_client import GenerationError, H2oSession, IncompleteAnswerError, ServerError
from h2o_client.errors import ConfigurationError
from h2o_client.pytest_plugin import H2oServer
from h2o_client.server import ScriptedAnswer

pytest_plugins = ["pytester"]
ROOT = Path(__file__).parent.parent


@pytest.fixture
def server() -> Iterator[H2oServer]:
    with H2oServer() as server:
        yield server


@pytest.fixture
def client(server: H2oServer) -> Iterator[H2oSession]:
    with H2oSession(server.url, max_retries=0) as client:
        yield client


# The server


def test_until_told_otherwise_it_says_hello(server: H2oServer, client: H2oSession) -> None:
    assert client.chat("Hi").text == "Hello from h2o_server."
    assert str(server) == server.url


def test_it_says_what_it_is_told_in_turn(server: H2oServer, client: H2oSession) -> None:
    server.answers("one", ScriptedAnswer("two", finish_reason="length"))
    said = [client.chat("Hi") for _ in range(3)]
    assert [each.text for each in said] == ["one", "two", "two"]
    assert said[1].finish_reason == "length"
    server.answers("three")
    assert client.chat("Hi").text == "three"


def test_a_function_may_answer(server: H2oServer, client: H2oSession) -> None:
    server.answers(str.upper)
    assert client.chat("quiet").text == "QUIET"


def test_what_it_was_asked_is_there(server: H2oServer, client: H2oSession) -> None:
    with client.conversation() as chat:
        chat.chat("first", temperature=0.5)
        chat.chat("second")
    assert server.prompts == ["first", "second"]
    assert [turn.content for turn in server.asked[1].turns] == [
        "first",
        "Hello from h2o_server.",
        "second",
    ]
    assert server.asked[0].parameters["temperature"] == 0.5
    seen = [(each.method, each.path.split("/")[1], each.status) for each in server.requests]
    assert ("POST", "settings", 200) in seen
    assert ("DELETE", "conversation", 200) in seen


def test_it_fails_with_a_status(server: H2oServer, client: H2oSession) -> None:
    server.fails(503, "Loading", error_type="overloaded", retry_after=7)
    for _ in range(2):
        with pytest.raises(ServerError) as caught:
            client.chat("Hi")
        assert (caught.value.status, caught.value.retry_after) == (503, 7)
        assert caught.value.error_type == "overloaded"
    assert server.prompts == ["Hi", "Hi"]


def test_it_fails_so_many_times_and_recovers(server: H2oServer, client: H2oSession) -> None:
    server.answers("well again")
    server.fails(times=2)
    for _ in range(2):
        with pytest.raises(ServerError):
            client.chat("Hi")
    assert client.chat("Hi").text == "well again"


def test_it_fails_in_mid_stream(server: H2oServer, client: H2oSession) -> None:
    server.fails(error="out of memory", after="so far")
    with pytest.raises(GenerationError, match="out of memory") as caught:
        client.chat("Hi")
    assert caught.value.partial == "so far"


def test_it_breaks_the_connection_off(server: H2oServer, client: H2oSession) -> None:
    server.cuts("so far", times=1)
    with pytest.raises(IncompleteAnswerError) as caught:
        client.chat("Hi")
    assert caught.value.partial == "so far"
    assert client.chat("Hi").text == "Hello from h2o_server."


def test_its_options_are_serve_s() -> None:
    with H2oServer(terms=True, model="mine") as server:
        assert requests.post(f"{server.url}/conversation", timeout=10).status_code == 405
        with H2oSession(server.url) as client:
            assert client.models()[0].id == "mine"


def test_nothing_is_left_of_it(leaks_nothing: None) -> None:
    with H2oServer() as server, H2oSession(server.url) as client:
        client.chat("Hi")


# The fixture


def test_the_fixture_is_a_server_for_each_test(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Alone, whether the plugin of the installed package is registered or not.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile(
        """
        import requests
        urls = []

        def test_one(h2o_server):
            assert requests.get(h2o_server.url, timeout=10).status_code == 200
            assert [each.path for each in h2o_server.requests] == ["/"]
            urls.append(h2o_server.url)

        def test_two(h2o_server):
            assert h2o_server.requests == h2o_server.prompts == []
            try:
                requests.get(urls[0], timeout=10)
            except requests.ConnectionError:
                return
            assert urls[0] == h2o_server.url
        """
    )
    result = pytester.runpytest_inprocess("-p", "h2o_client.pytest_plugin")
    result.assert_outcomes(passed=2)


def test_without_the_extra_using_it_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h2o_client.server.serving", None)
    with pytest.raises(ConfigurationError, match=r'pip install "h2o-chat\[local\]"'):
        H2oServer()


def test_importing_the_plugin_loads_none_of_the_extra() -> None:
    code = (
        "import sys, h2o_client.pytest_plugin; "
        "print([name for name in ('starlette', 'uvicorn', 'xllamacpp') if name in sys.modules])"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert shown.stdout == "[]\n"
