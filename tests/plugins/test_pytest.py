"""The fixture `h2o_server`, used like in another project, and its server."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from h2o_client import GenerationError, H2oSession, IncompleteAnswerError, ServerError
from h2o_client.errors import ConfigurationError
from h2o_client.plugins.pytest import H2oServer
from h2o_client.server import ScriptedAnswer

pytest_plugins = ["pytester"]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def server() -> Iterator[H2oServer]:
    with H2oServer(chat_ui="0.4") as server:
        yield server


@pytest.fixture
def client(server: H2oServer) -> Iterator[H2oSession]:
    with H2oSession(server.url, max_retries=0) as client:
        yield client


# The server


def test_by_default_it_says_hello(server: H2oServer, client: H2oSession) -> None:
    assert client.chat("Hi").text == "Hello from h2o_server."
    assert str(server) == server.url


def test_it_gives_the_answers_in_turn(server: H2oServer, client: H2oSession) -> None:
    server.answers("one", ScriptedAnswer("two", finish_reason="length"))
    said = [client.chat("Hi") for _ in range(3)]
    assert [each.text for each in said] == ["one", "two", "two"]
    assert said[1].finish_reason == "length"
    server.answers("three")
    assert client.chat("Hi").text == "three"


def test_a_function_may_answer(server: H2oServer, client: H2oSession) -> None:
    server.answers(str.upper)
    assert client.chat("quiet").text == "QUIET"


def test_the_received_prompts_are_recorded(server: H2oServer, client: H2oSession) -> None:
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


def test_it_fails_a_number_of_times_and_recovers(server: H2oServer, client: H2oSession) -> None:
    server.answers("well again")
    server.fails(times=2)
    for _ in range(2):
        with pytest.raises(ServerError):
            client.chat("Hi")
    assert client.chat("Hi").text == "well again"


def test_it_fails_during_the_stream(server: H2oServer, client: H2oSession) -> None:
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


def test_as_the_current_chat_ui_it_answers_and_fails() -> None:
    with H2oServer() as server, H2oSession(server.url) as client:
        assert client.server().versions == "chat-ui since July 2026"
        assert client.models()[0].id == "h2o_server"
        server.fails(503, "Loading", times=1)
        with pytest.raises(GenerationError, match="Loading"):
            client.chat("Hi")
        assert client.chat("Hi").text == "Hello from h2o_server."


def test_its_options_are_those_of_serve() -> None:
    with H2oServer(chat_ui="0.4", terms=True, model="mine") as server:
        assert requests.post(f"{server.url}/conversation", timeout=60).status_code == 405
        with H2oSession(server.url) as client:
            assert client.models()[0].id == "mine"


def test_no_thread_is_left_after_it(leaks_nothing: None) -> None:
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
            assert requests.get(h2o_server.url, timeout=60).status_code == 200
            assert [each.path for each in h2o_server.requests] == ["/"]
            urls.append(h2o_server.url)

        def test_two(h2o_server):
            assert h2o_server.requests == h2o_server.prompts == []
            try:
                requests.get(urls[0], timeout=60)
            except requests.ConnectionError:
                return
            assert urls[0] == h2o_server.url
        """
    )
    result = pytester.runpytest_inprocess("-p", "h2o_client.plugins.pytest")
    result.assert_outcomes(passed=2)


def test_a_marker_or_a_parameter_chooses_the_version(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile(
        """
        import pytest, requests

        def models(server):
            return requests.get(f"{server.url}/api/models", timeout=60)

        @pytest.mark.h2o_server(chat_ui="0.10", model="mine")
        def test_today(h2o_server):
            assert models(h2o_server).json()[0]["id"] == "mine"

        @pytest.mark.h2o_server(chat_ui="0.4", terms=True)
        def test_of_2023(h2o_server):
            assert requests.post(f"{h2o_server.url}/conversation", timeout=60).status_code == 405

        def test_of_today(h2o_server):
            url = f"{h2o_server.url}/api/v2/models"
            assert requests.get(url, timeout=60).status_code == 200

        @pytest.mark.parametrize("h2o_server", ["0.4", "0.10"], indirect=True)
        def test_both(h2o_server, request):
            expected = 200 if "0.10" in request.node.name else 404
            assert models(h2o_server).status_code == expected
        """
    )
    result = pytester.runpytest_inprocess("-p", "h2o_client.plugins.pytest", "--strict-markers")
    result.assert_outcomes(passed=5)


def said(server: H2oServer, prompt: str) -> list[dict[str, object]]:
    """A response of the current chat-ui to a browser, without keep-alives and padding."""
    with requests.Session() as browser:
        made = browser.post(f"{server.url}/conversation", json={"model": "h2o_server"}, timeout=60)
        path = f"conversation/{made.json()['conversationId']}"
        cookie = {"Cookie": made.headers["set-cookie"].partition(";")[0], "Origin": server.url}
        stored = browser.get(f"{server.url}/api/{path}", headers=cookie, timeout=60).json()
        data = json.dumps({"inputs": prompt, "id": stored["messages"][0]["id"]})
        answer = browser.post(
            f"{server.url}/{path}", files={"data": (None, data)}, headers=cookie, timeout=60
        )
    updates = [json.loads(line) for line in answer.content.split(b"\n") if line.strip()]
    return [
        each for each in updates if each["type"] != "title" and each.get("status") != "keepAlive"
    ]


def test_as_the_current_chat_ui_it_fails_inside_its_stream() -> None:
    with H2oServer(chat_ui="0.10") as server:
        assert said(server, "Hi")[-2]["text"] == "Hello from h2o_server."
        server.fails(503, "Loading", times=1)
        assert said(server, "Hi")[-1] == {
            "type": "status",
            "status": "error",
            "message": "503 Loading",
            "statusCode": 503,
        }
        server.cuts("so far", times=1)
        assert said(server, "Hi")[-1]["message"] == "terminated"
        assert server.prompts == ["Hi", "Hi", "Hi"]


def test_without_the_extra_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h2o_client.server.serving", None)
    with pytest.raises(ConfigurationError, match=r"pip install '\.\[local\]'"):
        H2oServer()


def test_importing_the_plugin_loads_none_of_the_extra() -> None:
    code = (
        "import sys, h2o_client.plugins.pytest; "
        "print([name for name in ('starlette', 'uvicorn', 'xllamacpp') if name in sys.modules])"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert shown.stdout == "[]\n"
