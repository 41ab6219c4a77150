"""After a complete answer the deletion runs in the background, and nothing is left."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable

import anyio
import pytest

from fake_chatui import FakeChatUi
from h2o_client import AsyncH2oSession, H2oSession
from local_service import PATIENCE, at_once
from scripted import Exchange

pytestmark = pytest.mark.usefixtures("leaks_nothing")
VERSIONS = pytest.mark.parametrize("version", ["0.4", "0.9.4", "head"])


def held(may_go: threading.Event) -> Callable[[Exchange], bool]:
    """Make every DELETE wait."""

    def before(exchange: Exchange) -> bool:
        if exchange.request.method == "DELETE":
            exchange.until(may_go)
        return False

    return before


@VERSIONS
def test_chat_does_not_wait_for_the_deletion(version: str) -> None:
    may_go = threading.Event()
    with FakeChatUi(version, before=held(may_go)) as server:
        with H2oSession(server.url) as client:
            client.chat("Hi")  # returns while the DELETE is held
            assert len(server.conversations) == 1
            may_go.set()
        assert server.conversations == {}


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@VERSIONS
def test_no_task_waits_for_the_deletion(version: str, backend: str) -> None:
    may_go = threading.Event()

    async def chat() -> None:
        async with AsyncH2oSession(server.url) as client:
            await client.chat("Hi")
            assert len(server.conversations) == 1
            may_go.set()

    with FakeChatUi(version, before=held(may_go)) as server:
        anyio.run(chat, backend=backend)
        assert server.conversations == {}


def test_the_number_of_pending_deletions_is_limited() -> None:
    may_go = threading.Event()
    with FakeChatUi("0.10.0", before=held(may_go)) as server:
        with H2oSession(server.url) as client:
            for _ in range(4):
                client.chat("Hi")
            assert len(server.conversations) == 4
            # This one has to wait for its own deletion.
            last = threading.Thread(target=client.chat, args=("Hi",))
            last.start()
            server.wait_for(lambda server: server.count("DELETE") == 2)
            assert last.is_alive()
            may_go.set()
            last.join(PATIENCE)
        assert server.conversations == {}


@VERSIONS
def test_conversations_that_are_being_deleted_are_not_listed(version: str) -> None:
    may_go = threading.Event()
    with FakeChatUi(version, before=held(may_go)) as server, H2oSession(server.url) as client:
        client.chat("Hi", keep=True)
        client.chat("Hi")
        kept = [each.id for each in client.conversations()]
        assert len(kept) == 1
        assert len(server.conversations) == 2
        may_go.set()


def test_one_thread_deletes_for_a_whole_session() -> None:
    with FakeChatUi("0.10.0") as server, H2oSession(server.url) as client:
        for _ in range(5):
            client.chat("Hi")
        server.wait_for(lambda server: not server.conversations)
        names = [each.name for each in threading.enumerate()]
        assert names.count("h2o_client-cleanup") == 1


def test_a_hanging_deletion_delays_close_by_at_most_five_seconds() -> None:
    never = threading.Event()
    with FakeChatUi("0.10.0", before=held(never)) as server:
        client = H2oSession(server.url)
        client.chat("Hi")
        client.chat("Hi")
        with at_once():
            client.close()
        never.set()


def test_the_warning_of_a_hanging_deletion_does_not_name_a_timeout_of_the_caller(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("h2o_client.backend.backend.CLEAN_UP", 0.3)
    never = threading.Event()
    with FakeChatUi("0.10.0", before=held(never)) as server:
        with caplog.at_level(logging.WARNING), H2oSession(server.url) as client:
            client.chat("Hi")
        never.set()
    assert caplog.messages[0].endswith(
        "may be left on the server: the server did not respond in time"
    )
    assert "Timeouts" not in caplog.text


PROGRAM = """
import os, sys
from h2o_client import H2oSession

client = H2oSession(sys.argv[1])
client.chat("Hi")
client.chat("Hi")
if sys.argv[2] == "fork":
    if os.fork() == 0:
        client.chat("Hi")  # the child has a worker of its own
        client.close()
        os._exit(0)
    assert os.wait()[1] == 0
if sys.argv[2] == "multiprocessing":
    import multiprocessing

    child = multiprocessing.get_context("fork").Process(target=client.chat, args=("Hi",))
    child.start()
    child.join()
    assert child.exitcode == 0
if sys.argv[2] == "error":
    raise SystemExit(3)
"""


@pytest.mark.parametrize("how", ["exit", "error", "fork", "multiprocessing"])
def test_the_end_of_the_program_completes_pending_deletions(how: str) -> None:
    forks = how in ("fork", "multiprocessing")
    if forks and not hasattr(os, "fork"):
        pytest.skip("there is no fork")
    may_go = threading.Event()
    with FakeChatUi("0.10.0", before=held(may_go)) as server:
        threading.Timer(0.3, may_go.set).start()
        command = [sys.executable, "-W", "ignore", "-c", PROGRAM, server.url, how]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert (ended.returncode, ended.stderr) == (3 if how == "error" else 0, "")
        assert server.conversations == {}
        assert server.count("POST", "/conversation") == (3 if forks else 2)


FORKING = """
import os, sys
from h2o_client import H2oSession

client = H2oSession(sys.argv[1])
client.chat("Hi")
sys.stdin.readline()
if os.fork() == 0:
    client.close()
    os._exit(0)
os.wait()
print("The child has ended", flush=True)
client.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_does_not_affect_its_parents_deletions() -> None:
    may_go = threading.Event()
    with FakeChatUi("0.10.0", before=held(may_go)) as server:
        command = [sys.executable, "-W", "ignore", "-c", FORKING, server.url]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as program:
            assert program.stdin is not None
            assert program.stdout is not None
            server.wait_for(lambda server: server.count("DELETE") == 1)
            program.stdin.write("\n")
            program.stdin.flush()
            program.stdout.readline()
            may_go.set()
        assert program.returncode == 0
        assert server.count("DELETE") == 1  # it was not repeated
        assert server.conversations == {}
