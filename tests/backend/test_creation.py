"""A conversation that is created after its caller has left is deleted."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable

import anyio
import anyio.to_thread
import pytest

from h2o_client import AsyncH2oSession, ConfigurationError, H2oSession, Timeouts, TransportTimeout
from h2o_client.transport.call import Call, Woken
from scripted import Exchange, ScriptedServer
from scripted_chatui import ID, ScriptedChatUi, creates

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("leaks_nothing")]
PATH = f"/conversation/{ID}"
SOON = Timeouts(idle=0.2)


class Slow:
    """A server that creates a conversation only when the test allows it."""

    def __init__(self) -> None:
        self.asked, self.go_on = threading.Event(), threading.Event()

    def __call__(self, exchange: Exchange) -> None:
        self.asked.set()
        exchange.until(self.go_on)
        exchange.json({"conversationId": ID})


def is_deleted(server: ScriptedServer) -> bool:
    return server.count("DELETE", PATH) == 1


def timed_out(client: H2oSession, slow: Slow) -> None:
    while not slow.asked.is_set():
        with pytest.raises(TransportTimeout) as error:
            client.chat("Hi", timeout=SOON)
        assert (error.value.which, error.value.resendable) == ("idle", True)


def interrupted(client: H2oSession, slow: Slow) -> None:
    def interrupt() -> None:
        assert slow.asked.wait(5)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        client.chat("Hi")
    thread.join()


def stopped(client: H2oSession, slow: Slow) -> None:
    chat = client.conversation()

    def stop() -> None:
        assert slow.asked.wait(5)
        chat.stop()

    thread = threading.Thread(target=stop)
    thread.start()
    assert chat.chat("Hi").finish_reason == "stopped"
    thread.join()


WAYS = pytest.mark.parametrize("overtake", [timed_out, interrupted, stopped])


@WAYS
def test_a_conversation_created_too_late_is_deleted(
    overtake: Callable[[H2oSession, Slow], None],
) -> None:
    slow = Slow()
    with ScriptedChatUi(create=slow) as server, H2oSession(server.url) as client:
        overtake(client, slow)
        slow.go_on.set()
        server.wait_for(is_deleted)
        assert server.count("POST", PATH) == 0


@WAYS
def test_closing_the_session_waits_for_a_creation(
    overtake: Callable[[H2oSession, Slow], None],
) -> None:
    slow = Slow()
    with ScriptedChatUi(create=slow) as server:
        with H2oSession(server.url) as client:
            overtake(client, slow)
            timer = threading.Timer(0.2, slow.go_on.set)
            timer.start()
        assert is_deleted(server)
        timer.join()


async def test_a_conversation_created_for_a_cancelled_task_is_deleted() -> None:
    slow = Slow()
    with ScriptedChatUi(create=slow) as server:
        async with AsyncH2oSession(server.url) as client:
            async with anyio.create_task_group() as group:
                group.start_soon(client.chat, "Hi")
                assert await anyio.to_thread.run_sync(slow.asked.wait, 5)
                group.cancel_scope.cancel()
            slow.go_on.set()
            await anyio.to_thread.run_sync(server.wait_for, is_deleted)
        assert server.count("POST", PATH) == 0


async def test_a_conversation_created_too_late_is_deleted_in_async_code() -> None:
    slow = Slow()
    with ScriptedChatUi(create=slow) as server:
        async with AsyncH2oSession(server.url) as client:
            while not slow.asked.is_set():
                with pytest.raises(TransportTimeout):
                    await client.chat("Hi", timeout=SOON)
            slow.go_on.set()
            await anyio.to_thread.run_sync(server.wait_for, is_deleted)


def test_a_creation_without_a_response_ends_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("h2o_client.backend.backend.CLEAN_UP", 0.3)
    monkeypatch.setattr("h2o_client.backend.creation.CLEAN_UP", 0.3)
    slow = Slow()
    with ScriptedChatUi(create=slow) as server:
        with caplog.at_level(logging.WARNING), H2oSession(server.url) as client:
            timed_out(client, slow)
        assert "may be left on the server" in caplog.text
        slow.go_on.set()


def test_a_refused_creation_causes_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    go_on = threading.Event()

    def refused(exchange: Exchange) -> None:
        exchange.until(go_on)
        exchange.json({"message": "Internal Error"}, 500)

    with ScriptedChatUi(create=refused) as server:
        with caplog.at_level(logging.WARNING), H2oSession(server.url) as client:
            with pytest.raises(TransportTimeout):
                client.chat("Hi", timeout=SOON)
            go_on.set()
        assert caplog.records == []


def test_nothing_is_created_for_a_caller_that_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(work: Callable[[], object]) -> None:
        work()  # the thread is faster than its caller

    monkeypatch.setattr("h2o_client.backend.creation.run_in_standing_thread", run)
    with ScriptedChatUi() as server, H2oSession(server.url) as client:
        call = Call(Timeouts())
        call.wake()
        creations = client._backend.creations
        with pytest.raises(Woken):
            creations.create("a model", None, call)
        assert not creations.are_in_progress
        assert server.requests == []


async def test_a_conversation_whose_creating_task_is_cancelled_is_deleted() -> None:
    created, may_answer = threading.Event(), threading.Event()

    def create(exchange: Exchange) -> None:
        created.set()
        exchange.until(may_answer)
        creates(exchange)

    with ScriptedChatUi(create=create) as server:
        async with AsyncH2oSession(server.url) as session:
            async with anyio.create_task_group() as group:
                group.start_soon(session.conversation().create)
                await anyio.to_thread.run_sync(created.wait)
                group.cancel_scope.cancel()
            may_answer.set()
        # The thread of the creation and the session may both delete it.
        assert server.count("DELETE") in (1, 2)


@pytest.mark.parametrize("end", ["delete", "aclose"])
async def test_a_conversation_that_ends_while_it_is_created_is_deleted(end: str) -> None:
    created, may_answer = threading.Event(), threading.Event()

    def create(exchange: Exchange) -> None:
        created.set()
        exchange.until(may_answer)
        creates(exchange)

    with ScriptedChatUi(create=create) as server:
        async with AsyncH2oSession(server.url) as session:
            conversation = session.conversation()

            async def begin() -> None:
                with pytest.raises(ConfigurationError, match="was closed meanwhile"):
                    await conversation.create()

            async with anyio.create_task_group() as group:
                group.start_soon(begin)
                await anyio.to_thread.run_sync(created.wait)
                await getattr(conversation, end)()
                may_answer.set()
        assert server.count("DELETE") in (1, 2)
