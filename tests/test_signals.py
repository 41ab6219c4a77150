"""An exception of a signal handler reaches the caller unchanged, and everything is cleaned up.

Task queues and timeout decorators end a job by raising an exception in a handler: a plain Exception
(Celery, RQ), or a TimeoutError, which is also a network failure.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from h2o_client import AsyncH2oSession, ConfigurationError, H2oSession, Reply
from h2o_client.backend.cleanup import Cleanup
from h2o_client.config import SessionConfig
from h2o_client.server import serve
from h2o_client.timeouts import Timeouts
from h2o_client.transport.call import Call
from h2o_client.transport.transport import Transport
from h2o_client.wire.request import get
from scripted import AtAccept, Exchange, ScriptedServer, say_nothing
from scripted_chatui import ID, ScriptedChatUi, creates, tokens

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGALRM")


class SoftTimeLimitExceeded(Exception):
    """Like Celery's exception."""


KINDS = (SoftTimeLimitExceeded, TimeoutError, ConnectionResetError)


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def limit(request: pytest.FixtureRequest) -> Iterator[type[Exception]]:
    """The exception that the handler of SIGALRM raises."""
    kind: type[Exception] = request.param

    def handler(*_: object) -> None:
        raise kind("the time limit")

    former = signal.signal(signal.SIGALRM, handler)
    yield kind
    signal.signal(signal.SIGALRM, former)


def ring() -> None:
    os.kill(os.getpid(), signal.SIGALRM)


def ring_before_the_head(exchange: Exchange) -> None:
    ring()
    exchange.until_gone()


def ring_in_mid_body(exchange: Exchange) -> None:
    exchange.head()
    exchange.write(b"half")
    ring()
    exchange.until_gone()


def asked(transport: Transport) -> object:
    return transport.request(get("/"), Call(Timeouts(connect=20, first_token=20, idle=20)))


@pytest.mark.parametrize("script", [ring_before_the_head, ring_in_mid_body])
def test_a_request_interrupted_by_a_handler_is_not_retried(
    limit: type[Exception], script: Callable[[Exchange], None], leaks_nothing: None
) -> None:
    with ScriptedServer(script) as server:
        transport = Transport(SessionConfig(server.url))
        with pytest.raises(limit, match="the time limit") as caught:
            asked(transport)
        assert type(caught.value) is limit
        assert server.count("GET") == 1
        transport.close()


def test_a_handler_interrupts_connecting(
    limit: type[Exception], monkeypatch: pytest.MonkeyPatch, leaks_nothing: None
) -> None:
    class Connecting(socket.socket):
        def connect(self, address: object) -> None:
            signal.raise_signal(signal.SIGALRM)

    with ScriptedServer([]) as server:
        transport = Transport(SessionConfig(server.url))
        monkeypatch.setattr(socket, "socket", Connecting)
        with pytest.raises(limit, match="the time limit"):
            asked(transport)
        monkeypatch.undo()
        transport.close()


# ssl leaves a socket whose handshake is interrupted to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_handler_interrupts_a_handshake(limit: type[Exception], leaks_nothing: None) -> None:
    def listening(exchange: Exchange) -> None:
        exchange.receive()
        ring()
        say_nothing(exchange)

    with ScriptedServer([AtAccept(listening)]) as server:
        transport = Transport(SessionConfig(server.url.replace("http:", "https:")))
        with pytest.raises(limit, match="the time limit"):
            asked(transport)
        transport.close()


def test_a_handler_interrupts_a_wait_before_a_retry(
    limit: type[Exception], leaks_nothing: None
) -> None:
    def busy(exchange: Exchange) -> None:
        exchange.answer(503, headers={"Retry-After": "30"})
        ring()

    with ScriptedServer(busy) as server:
        transport = Transport(SessionConfig(server.url))
        with pytest.raises(limit, match="the time limit"):
            asked(transport)
        assert server.count("GET") == 1
        transport.close()


@pytest.fixture
def told() -> threading.Event:
    return threading.Event()


def engine_that_rings(told: threading.Event) -> Callable[[str], Iterator[str]]:
    """Send a few words, raise the signal, and continue until it is stopped."""

    def engine(prompt: str) -> Iterator[str]:
        yield "one "
        ring()
        for _ in range(600):
            if told.wait(0.05):
                return
            yield "more "

    return engine


@pytest.mark.parametrize("chat_ui", ["0.4", "0.10", "latest"])
def test_a_time_limit_ends_an_answer(
    limit: type[Exception], chat_ui: str, told: threading.Event
) -> None:
    with (
        serve(engine_that_rings(told), chat_ui=chat_ui) as server,
        H2oSession(server.url) as client,
    ):
        with pytest.raises(limit, match="the time limit"):
            for _ in client.stream("x"):
                pass
        assert list(client.conversations()) == []
        told.set()


@pytest.mark.parametrize("chat_ui", ["0.4", "latest"])
def test_a_time_limit_ends_an_answer_in_an_event_loop(
    limit: type[Exception], chat_ui: str, told: threading.Event
) -> None:
    async def job(url: str) -> None:
        async with AsyncH2oSession(url) as client:
            async for _ in client.stream("x"):
                pass

    with serve(engine_that_rings(told), chat_ui=chat_ui) as server:
        with pytest.raises(limit, match="the time limit"):
            asyncio.run(job(server.url))
        told.set()
        with H2oSession(server.url) as client:
            assert list(client.conversations()) == []


def test_a_handler_interrupts_a_stop_that_the_main_thread_waits_for(
    limit: type[Exception],
) -> None:
    with ScriptedServer(ring_before_the_head) as server:
        transport = Transport(SessionConfig(server.url))
        with pytest.raises(limit, match="the time limit"):
            Cleanup(transport).stop("6b02c9d11306e1473508e3f3")
        transport.close()


STOPPED = re.compile(".*/stop-generating")


@pytest.fixture
def on_alarm() -> Iterator[list[Callable[[], object]]]:
    """Set the action of the handler of SIGALRM, for one signal."""
    work: list[Callable[[], object]] = []

    def handler(*_: object) -> None:
        work.pop()()

    former = signal.signal(signal.SIGALRM, handler)
    yield work
    signal.signal(signal.SIGALRM, former)


@pytest.mark.parametrize("what", ["session, before the head", "session", "reply"])
def test_a_handler_may_close_at_once_and_the_answer_is_stopped_before_it_is_deleted(
    on_alarm: list[Callable[[], object]], what: str, told: threading.Event, leaks_nothing: None
) -> None:
    def answers(exchange: Exchange) -> None:
        if what != "session, before the head":
            exchange.head(200, {"Content-Type": "text/event-stream"})
            exchange.write(tokens("Hello", end=False)[0])
            exchange.until(told)
        ring()
        exchange.gone(exchange.server.patience)

    with ScriptedChatUi(message=answers, patience=60) as server:
        client = H2oSession(server.url, timeout=60)
        replies: list[Reply] = []
        on_alarm.append(lambda: replies[0].close() if what == "reply" else client.close())
        replies.append(client.stream("x"))
        for _ in replies[0]:
            told.set()
        assert replies[0].finish_reason == "stopped"
        client.close()
        done = [each for each in server.requests if each.method == "DELETE" or "stop" in each.path]
        assert [each.method for each in done] == ["POST", "DELETE"]
        # Nothing has waited for a reader that cannot continue.
        asked = next(each for each in server.requests if each.path.endswith(ID))
        assert done[-1].when - asked.when < 4


def test_a_handler_may_close_while_a_conversation_is_created(
    on_alarm: list[Callable[[], object]], leaks_nothing: None
) -> None:
    def rings(exchange: Exchange) -> None:
        ring()
        creates(exchange)

    with ScriptedChatUi(create=rings) as server:
        client = H2oSession(server.url, timeout=60)
        on_alarm.append(client.close)
        with suppress(ConfigurationError):  # the session is closed by then
            client.chat("x")
        client.close()
        assert server.count("DELETE") in (1, 2)  # the creation and the session may both delete it
        assert server.count("POST", re.compile(f".*/{ID}")) == 0
