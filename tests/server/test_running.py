"""The server as a program: `run()` and ``python -m h2o_client.server``."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from h2o_client.cli import run as cli
from h2o_client.errors import ConfigurationError
from h2o_client.server import BUNDLED_MODEL, run
from h2o_client.server.__main__ import main
from h2o_client.wire.events import Final, Token
from local_service import PATIENCE
from scripted import Exchange, Routes, ScriptedServer
from visitors import Visitor, echo

ROOT = Path(__file__).parents[2]
Visit = Callable[[Visitor], None]


class OwnedEngine:
    """A replacement of the models that run() loads."""

    loaded: list[OwnedEngine] = []  # noqa: RUF012

    def __init__(self, model_file: object = None) -> None:
        self.model_file = model_file
        self.model = BUNDLED_MODEL if model_file is None else Path(str(model_file)).stem
        self.closed = False
        self.loaded.append(self)

    def __call__(self, turns: Any, parameters: Any, stopped: Any) -> Iterator[Token | Final]:
        return echo(turns, parameters, stopped)

    def __enter__(self) -> OwnedEngine:
        return self

    def __exit__(self, *_: object) -> None:
        self.closed = True


@pytest.fixture(autouse=True)
def _no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("h2o_client.server.llama.LlamaEngine", OwnedEngine)
    monkeypatch.setattr(OwnedEngine, "loaded", [])


@pytest.fixture
def visited(monkeypatch: pytest.MonkeyPatch) -> Callable[[Visit], None]:
    """Call a function with the running server, then end the server with SIGTERM."""

    def by(visit: Visit) -> None:
        def visit_and_stop(said: str, **given: Any) -> None:
            sys.stderr.write(f"{said}\n")
            if not said.startswith("Listening"):
                return
            visit(Visitor(said.removeprefix("Listening on "), model=BUNDLED_MODEL))
            signal.raise_signal(signal.SIGTERM)

        monkeypatch.setattr("h2o_client.server.running.print", visit_and_stop, raising=False)

    return by


def ask_once(visitor: Visitor) -> None:
    made = visitor.create()
    visitor.ask(made, "Hi")
    assert visitor.messages(made)[-1] == ("assistant", "Hi")


def test_it_serves_until_a_signal_and_ends_with_0(
    visited: Callable[[Visit], None], capsys: pytest.CaptureFixture[str]
) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    visited(ask_once)
    assert run(chat_ui="0.4", port=0, quiet=True) == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("Listening on http://127.0.0.1:")
    assert said.err.count("\n") == 1
    assert OwnedEngine.loaded[0].closed
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_off_loopback_it_warns_that_anyone_can_use_it(
    visited: Callable[[Visit], None], capsys: pytest.CaptureFixture[str]
) -> None:
    visited(lambda visitor: None)
    assert run(host="0.0.0.0", port=0, quiet=True) == 0
    listening, warning = capsys.readouterr().err.splitlines()
    assert listening.startswith("Listening on http://0.0.0.0:")
    assert warning.startswith("Warning: Anybody on the network can use this server")
    assert run(host="localhost", port=0, quiet=True) == 0
    assert "Warning" not in capsys.readouterr().err


def test_it_logs_each_request_as_json_unless_quiet(
    visited: Callable[[Visit], None], capsys: pytest.CaptureFixture[str]
) -> None:
    visited(ask_once)
    assert main(["--port", "0", "--chat-ui", "0.4"]) == 0
    _, *lines = capsys.readouterr().err.splitlines()
    records = [json.loads(line) for line in lines]
    assert [(record["method"], record["status"]) for record in records] == [
        ("POST", 200),
        ("POST", 200),
        ("GET", 200),
    ]
    assert set(records[0]) == {"time", "method", "path", "status", "ms", "bytes"}
    assert main(["--port", "0", "--chat-ui", "0.4", "--quiet"]) == 0
    assert capsys.readouterr().err.count("\n") == 1


def test_it_waits_until_a_signal_arrives() -> None:
    timer = threading.Timer(0.7, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    assert main(["--port", "0", "--quiet"]) == 0
    timer.join()


def test_another_model_is_loaded_from_its_file(
    visited: Callable[[Visit], None], tmp_path: Path
) -> None:
    seen: list[object] = []
    visited(lambda visitor: seen.append(visitor.settings()["activeModel"]))
    file = tmp_path / "qwen-1.5b.gguf"
    options = ["--port", "0", "--quiet", "--chat-ui", "0.4", "--model-file", str(file)]
    assert main(options) == 0
    assert main([*options, "--model", "mine"]) == 0
    assert seen == ["qwen-1.5b", "mine"]
    assert OwnedEngine.loaded[0].model_file == str(file)


def test_answers_are_read_from_a_file(visited: Callable[[Visit], None], tmp_path: Path) -> None:
    file = tmp_path / "answers.json"
    file.write_text('["one", "two"]')

    def visit(visitor: Visitor) -> None:
        made = str(
            visitor.send("POST", "/conversation", json={"model": "scripted"}).json()[
                "conversationId"
            ]
        )
        visitor.ask(made, "?"), visitor.ask(made, "?")
        assert [content for _, content in visitor.messages(made)] == ["?", "one", "?", "two"]

    visited(visit)
    options = ["--port", "0", "--quiet", "--chat-ui", "0.4", "--answers", str(file)]
    assert main(options) == 0


def test_an_upstream_answers(visited: Callable[[Visit], None]) -> None:
    def answer(exchange: Exchange) -> None:
        message = {"content": "from far away"}
        exchange.json({"choices": [{"message": message, "finish_reason": "stop"}]})

    def models(exchange: Exchange) -> None:
        exchange.json({"data": [{"id": "qwen"}]})

    def visit(visitor: Visitor) -> None:
        body = {"model": "qwen"}
        made = visitor.send("POST", "/conversation", json=body).json()["conversationId"]
        visitor.ask(made, "?")
        assert visitor.messages(made)[-1] == ("assistant", "from far away")

    visited(visit)
    routes = Routes({("POST", "/v1/chat/completions"): answer, ("GET", "/v1/models"): models})
    with ScriptedServer(routes) as upstream:
        options = ["--port", "0", "--quiet", "--chat-ui", "0.4", "--upstream", upstream.url]
        assert main(options) == 0


def test_the_other_options_reach_the_server(visited: Callable[[Visit], None]) -> None:
    def visit(visitor: Visitor) -> None:
        refused = visitor.send("POST", "/conversation", json={"model": BUNDLED_MODEL})
        assert refused.status_code == 405
        answer = visitor.send("GET", "/", headers={"Host": "box.lan"})
        assert answer.status_code == 200
        assert "SameSite=Lax" in answer.headers["set-cookie"]
        answer = visitor.send(
            "POST",
            "/settings",
            data={"ethicsModalAccepted": "true"},
            headers={"Referer": visitor.url.replace("http:", "https:")},
        )
        assert answer.status_code == 200
        made = visitor.create()
        assert [visitor.ask(made, "x").status_code for _ in range(3)] == [200, 200, 429]

    visited(visit)
    options = "--quiet --chat-ui 0.4 --terms --allow-host box.lan --insecure-cookie --origin https"
    limits = "--max-generations 1 --max-waiting 1 --rate-limit 1 --port 0 --host 127.0.0.1"
    assert main(f"{options} {limits}".split()) == 0


@pytest.mark.parametrize("start", [main, lambda options: cli(["serve", *options])])
def test_it_starts_the_requested_chat_ui(
    visited: Callable[[Visit], None], start: Callable[[list[str]], int]
) -> None:
    seen: list[int] = []
    visited(lambda visitor: seen.append(visitor.send("GET", "/api/models").status_code))
    options = ["--port", "0", "--quiet"]
    for more in ([], ["--chat-ui", "0.4"], ["--chat-ui", "0.9.6"], ["--chat-ui", "latest"]):
        assert start([*options, *more]) == 0
    assert seen == [200, 404, 200, 200]


# Invalid options


def test_an_invalid_version_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--chat-ui", "0.8"])
    assert caught.value.code == 2
    assert cli(["serve", "--chat-ui", "0.8"]) == 2
    assert capsys.readouterr().err.count("Unknown chat-ui version '0.8'. Available: 0.3") == 2
    assert OwnedEngine.loaded == []


def test_invalid_options_are_refused_before_a_model_is_loaded(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(chat_ui="0.8") == 1
    assert main(["--chat-ui", "0.10", "--terms"]) == 1
    said = capsys.readouterr().err.splitlines()
    assert [line.partition(".")[0] for line in said] == [
        "Error: Unknown chat-ui version '0",
        "Error: chat-ui 0",
    ]
    assert OwnedEngine.loaded == []


def test_the_reason_why_it_cannot_start_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def missing(model_file: object) -> None:
        raise ConfigurationError("No model.")

    monkeypatch.setattr("h2o_client.server.llama.LlamaEngine", missing)
    assert main([]) == 1
    assert capsys.readouterr() == ("", "Error: No model.\n")
    for arguments in (
        ["--answers", str(tmp_path / "missing.json")],
        ["--upstream", "nonsense"],
        ["--port", "70000", "--answers", __file__],
    ):
        assert main(arguments) == 1
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.startswith("Error: ")
        assert said.err.count("\n") == 1


def test_a_host_that_does_not_exist_is_an_error_with_the_address(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(host="no.such.host.invalid", port=0) == 1
    said = capsys.readouterr().err
    assert said.startswith("Error: Cannot listen on no.such.host.invalid, port 0: ")
    assert "while attempting" not in said


def test_an_invalid_port_is_an_error_and_frees_the_model(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for port in (70000, -1):
        assert run(port=port) == 1
    assert all(engine.closed for engine in OwnedEngine.loaded)
    assert capsys.readouterr().err.count("Error: ") == 2


def test_several_engines_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(upstream="http://localhost:1", answers="a.json") == 1
    assert "Only one of" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["--upstream", "http://localhost:1", "--answers", "a.json"])


@pytest.mark.parametrize(
    ("option", "number"),
    [("generations", "0"), ("generations", "many"), ("waiting", "-1")],
)
def test_an_invalid_count_is_refused(option: str, number: str) -> None:
    with pytest.raises(SystemExit) as caught:
        main([f"--max-{option}", number])
    assert caught.value.code == 2


def test_without_the_extra_the_error_says_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "answers.json"
    file.write_text('["one"]')
    monkeypatch.setitem(sys.modules, "h2o_client.server.serving", None)
    assert run(answers=file) == 1
    assert "pip install '.[local]'" in capsys.readouterr().err


# In its own process


@contextmanager
def started(*options: str) -> Iterator[tuple[subprocess.Popen[str], Visitor]]:
    command = [sys.executable, "-W", "error", "-m", "h2o_client.server", "--port", "0", *options]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert line.startswith("Listening on http://127.0.0.1:")
        try:
            yield process, Visitor(line.removeprefix("Listening on ").strip())
        finally:
            process.kill()


def ended(process: subprocess.Popen[str], number: int) -> tuple[str, str, int]:
    process.send_signal(number)
    assert process.stderr is not None
    assert process.stdout is not None
    return process.stdout.read(), process.stderr.read(), process.wait(PATIENCE)


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGTERM there")
def test_the_command_serves_the_real_model_and_ends_cleanly() -> None:
    pytest.importorskip("xllamacpp")
    with started("--quiet", "--chat-ui", "0.4") as (process, visitor):
        assert visitor.settings()["activeModel"] == BUNDLED_MODEL
        assert ended(process, signal.SIGTERM) == ("", "", 0)


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGTERM there")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_an_answer_ends_the_server_cleanly(number: int, tmp_path: Path) -> None:
    file = tmp_path / "answers.json"
    file.write_text('[{"text": "one two three four", "pause": 30}]')
    with started("--quiet", "--chat-ui", "0.4", "--answers", str(file)) as (process, visitor):
        made = visitor.create()
        answer = visitor.send(
            "POST",
            f"/conversation/{made}",
            json={"inputs": "?", "stream": True, "options": {}},
            stream=True,
        )
        assert b"one" in next(answer.iter_content(None))
        assert ended(process, number) == ("", "", 0)
        answer.close()
