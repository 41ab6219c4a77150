"""Log lines, without secrets."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import traceback
from pathlib import Path

import pytest

from h2o_client import H2oSession, StatusError, TransportError
from scripted_chatui import COOKIE, ScriptedChatUi, refuses

PROGRAM = """
import sys
from h2o_client import H2oSession
with H2oSession(sys.argv[1]) as client:
    client.chat("the prompt")
"""


def run(url: str, level: str) -> str:
    shown = subprocess.run(
        [sys.executable, "-c", PROGRAM, url],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "H2O_CLIENT_LOG": level},
        cwd=Path(__file__).parents[1],
    )
    return shown.stderr


def test_the_environment_variable_turns_on_the_log() -> None:
    with ScriptedChatUi() as server:
        shown = run(server.url, "debug")
        assert "h2o_client DEBUG POST /settings: 200" in shown
        assert "the prompt" not in shown
        assert run(server.url, "") == ""
        assert run(server.url, "nonsense") == ""


def test_a_traceback_has_few_frames_of_the_package_below_debug_level() -> None:
    def frames(level: str) -> int:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, "http://127.0.0.1:1"],
            capture_output=True,
            text=True,
            env={**os.environ, "H2O_CLIENT_LOG": level},
            cwd=Path(__file__).parents[1],
        )
        assert "TransportError: 127.0.0.1:1 refused the connection" in done.stderr
        assert 'File "<string>", line 5' in done.stderr
        return done.stderr.count('  File "')

    assert frames("") <= 4
    assert frames("debug") > 8


@pytest.mark.parametrize("method", ["models", "server", "settings", "user"])
def test_tracebacks_of_other_requests_have_few_frames_too(method: str) -> None:
    with H2oSession("http://127.0.0.1:1") as client, pytest.raises(TransportError) as caught:
        getattr(client, method)()
    assert len(traceback.extract_tb(caught.value.__traceback__)) <= 4


def test_no_secret_is_logged_or_in_an_error(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    failing = refuses(500, {"message": "Internal Error"}, {"Set-Cookie": COOKIE})
    with ScriptedChatUi(failing) as server, caplog.at_level(logging.DEBUG):
        client = H2oSession(
            server.url.replace("://", "://me:c4nary@"),
            cookies="hf-chat=c4nary",
            headers={"X-Key": "c4nary"},
        )
        with client, pytest.raises(StatusError) as caught:
            client.chat("Hi")
    for shown in (caplog.text, repr(client), repr(caught.value), str(caught.value)):
        assert "c4nary" not in shown
