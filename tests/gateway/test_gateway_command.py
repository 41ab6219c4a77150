"""``h2o-chat gateway``."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from fake_chatui import FakeChatUi
from gateway_front import asking, complete, echoes, text_of, user
from h2o_client.cli import run
from local_service import PATIENCE
from programs import start


def test_it_serves_until_sigterm_and_deletes_its_conversations() -> None:
    with FakeChatUi("head", answer=echoes) as fake:
        words = [sys.executable, "-m", "h2o_client", "gateway", "--url", fake.url, "--port", "0"]
        program = start(words, stderr=subprocess.PIPE, text=True)
        assert program.stderr is not None
        line = program.stderr.readline()
        url = line.split()[2].rstrip(";")
        with asking(url) as client:
            assert text_of(complete(client, user("one"))) == "You said one"
        assert len(fake.conversations) == 1
        program.send_signal(signal.SIGTERM)
        _, log = program.communicate(timeout=PATIENCE)
        assert program.returncode == 0
        assert '"path":"/v1/chat/completions","status":200' in log
        assert not fake.conversations


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--host", "0.0.0.0"), "Without keys"),
        (("--keys", "/nowhere/keys.toml"), "Cannot read the keys"),
        (("--keys", "k", "--cookie", "a=1"), "Only one of --cookie and --keys"),
    ],
)
def test_invalid_options_are_refused(
    arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["gateway", "--url", "http://localhost:1", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_a_port_in_use_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    with FakeChatUi("head") as fake:
        port = fake.url.rpartition(":")[2]
        assert run(["gateway", "--url", fake.url, "--port", port]) == 1
    assert f"Error: Port {port} of 127.0.0.1 is in use." in capsys.readouterr().err
