"""`AsyncReply` on real sockets, on asyncio and on trio: ways to read, ends, stops, cancellation."""

from __future__ import annotations

import asyncio
import gc
import pickle
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from fake_chatui import FakeChatUi
from fake_model import Says
from h2o_client import (
    Answer,
    AsyncH2oSession,
    AsyncReply,
    ConfigurationError,
    GenerationError,
    H2oError,
    IncompleteAnswerError,
    ProtocolError,
    RateLimitError,
    Timeouts,
    Token,
    TransportError,
    TransportTimeout,
)
from h2o_client.wire.events import Failure
from h2o_client.wire.tgi import write_failure
from local_service import PATIENCE, at_once
from scripted import Exchange, Framing, Script, ScriptedServer, certificates, unaccepted_port
from scripted_chatui import COOKIE, ID, ScriptedChatUi, refuses, streams, tokens

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("leaks_nothing")]

MESSAGE = f"/conversation/{ID}"
STOP = f"POST {MESSAGE}/stop-generating"
DELETE = f"DELETE {MESSAGE}"
HEAD = {"Content-Type": "text/event-stream", "Set-Cookie": COOKIE}


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@asynccontextmanager
async def asking(
    message: Script, *, stop: Script | None = None, **options: Any
) -> AsyncIterator[tuple[ScriptedServer, AsyncReply]]:
    """An unsent prompt, and a server that answers it with this message route."""
    with ScriptedChatUi(message, stop=stop) as server:
        async with AsyncH2oSession(server.url, max_retries=0) as client:
            yield server, client.stream("Hi", **options)


def stalls(*texts: str, framing: Framing = "chunked") -> Script:
    """Send these tokens, then nothing until the client disconnects."""

    def message(exchange: Exchange) -> None:
        exchange.head(200, HEAD, framing=framing)
        for event in tokens(*texts, end=False):
            exchange.write(event)
        exchange.until_gone()

    return message


def silent(exchange: Exchange) -> None:
    exchange.until_gone()


async def until(condition: Callable[[], bool]) -> bool:
    """Whether the condition becomes true."""
    with anyio.move_on_after(PATIENCE):
        while not condition():
            await anyio.sleep(0.005)
    return condition()


@asynccontextmanager
async def cancelled_when(condition: Callable[[], bool]) -> AsyncIterator[None]:
    """Cancel the block as soon as the condition is true. The block must end at once."""
    with at_once(), anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:

            async def cancel() -> None:
                await until(condition)
                scope.cancel()

            tasks.start_soon(cancel)
            yield
    assert scope.cancelled_caught


async def test_a_reply_can_be_iterated_entered_or_read() -> None:
    # One session for each, because all conversations of this server have the same id.
    with ScriptedChatUi() as server:
        async with AsyncH2oSession(server.url) as client:
            assert [token async for token in client.stream("Hi")] == ["Hello", " there"]
        async with AsyncH2oSession(server.url) as client, client.stream("Hi") as reply:
            assert [token async for token in reply] == ["Hello", " there"]
        async with AsyncH2oSession(server.url) as client:
            assert (await client.stream("Hi").read()).text == "Hello there"
        async with AsyncH2oSession(server.url) as client:
            assert (await client.chat("Hi")).finish_reason == "stop"
        assert server.count("DELETE", MESSAGE) == 4
        assert server.count("POST", f"{MESSAGE}/stop-generating") == 0
        assert server.connections <= 8


async def test_events_yield_everything_and_end_with_the_answer() -> None:
    async with asking(streams(tokens("Hello", " there"))) as (_, reply):
        events = [event async for event in reply.events()]
        assert [event.text for event in events if isinstance(event, Token)][:2] == [
            "Hello",
            " there",
        ]
        assert isinstance(events[-1], Answer)
        assert events[-1] == reply.answer


async def test_events_and_text_can_be_mixed() -> None:
    async with asking(streams(tokens("a", "b"))) as (_, reply):
        assert await reply.__anext__() == "a"
        texts = [event.text for event in [e async for e in reply.events()] if type(event) is Token]
        assert texts == ["b", "<|endoftext|>"]
        assert [token async for token in reply] == []


async def test_arguments_are_checked_at_once_and_nothing_is_sent_before_the_iteration() -> None:
    with ScriptedChatUi() as server:
        async with AsyncH2oSession(server.url) as client:
            reply = client.stream("Hi")
            assert (reply.text, reply.answer, reply.finish_reason) == ("", None, None)
            assert (reply.conversation_id, reply.message_id, reply.title) == ("", None, None)
            assert (reply.model, reply.time_to_first_token, reply.elicitation) == ("", None, None)
            assert repr(reply) == "<AsyncReply not sent>"
            await reply.stop()
            await reply.aclose()
            wrongs: list[dict[str, Any]] = [
                {"messages": " "},
                {"messages": "Hi", "temprature": 1},
                {"messages": "Hi", "temperature": float("nan")},
                {"messages": "Hi", "timeout": -1},
            ]
            for wrong in wrongs:
                with pytest.raises((ConfigurationError, TypeError)):
                    client.stream(**wrong)
            with pytest.raises(ConfigurationError, match="closed"):
                await reply.read()
        assert server.requests == []


async def test_a_reply_shows_its_state() -> None:
    async with asking(streams(tokens("Hello"))) as (_, reply):
        async with reply:
            assert repr(reply) == "<AsyncReply unfinished, 0 characters>"
            await reply.read()
        assert repr(reply) == "<AsyncReply stop, 5 characters>"
        assert (reply.text, reply.conversation_id) == ("Hello", ID)
        assert reply.model
        assert reply.message_id
        assert reply.time_to_first_token is not None
        with pytest.raises(TypeError, match="cannot pickle"):
            pickle.dumps(reply)


def broken(exchange: Exchange) -> None:
    exchange.head(200, HEAD)
    exchange.write(tokens("a", end=False)[0])
    exchange.stall(0.05)
    exchange.reset()


def nonsense(exchange: Exchange) -> None:
    exchange.head(200, HEAD)
    exchange.write(tokens("a", end=False)[0] + b"data:{nope}\n\n")
    exchange.end()


ENDS: dict[str, tuple[Script, type[H2oError], str]] = {
    "cut": (streams(tokens("a", end=False)), IncompleteAnswerError, "a"),
    "closed": (streams(tokens("a", end=False), framing="close"), IncompleteAnswerError, "a"),
    "failed": (
        streams([*tokens("a", end=False), write_failure(Failure("no"))]),
        GenerationError,
        "a",
    ),
    "reset": (broken, TransportError, "a"),
    "nonsense": (nonsense, ProtocolError, "a"),
    "refused": (refuses(429, {"message": "too many"}), RateLimitError, ""),
}


@pytest.mark.parametrize("end", ENDS)
async def test_the_error_of_a_broken_answer_has_the_text_so_far(end: str) -> None:
    script, error, partial = ENDS[end]
    async with asking(script) as (server, reply):
        with pytest.raises(error) as raised:
            [token async for token in reply]
        assert raised.value.partial == partial
        assert server.count("DELETE", MESSAGE) == 1
        if partial:
            with pytest.raises(error):
                await reply.read()


@pytest.mark.parametrize(
    ("script", "timeout", "which", "partial"),
    [
        (stalls("a"), Timeouts(idle=0.5), "idle", "a"),
        (stalls("a"), Timeouts(total=2), "total", "a"),
        (silent, Timeouts(first_token=0.2), "first_token", ""),
    ],
)
async def test_an_expired_timeout_is_named(
    script: Script, timeout: Timeouts, which: str, partial: str
) -> None:
    async with asking(script, timeout=timeout) as (_, reply):
        with pytest.raises(TransportTimeout) as raised, at_once():
            await reply.read()
    assert (raised.value.which, raised.value.partial) == (which, partial)


@pytest.mark.parametrize("framing", ["chunked", "length", "close", "http10"])
async def test_tokens_are_yielded_when_their_bytes_arrive(framing: Framing) -> None:
    taken = threading.Event()
    events = tokens("a", "b", "c")

    def message(exchange: Exchange) -> None:
        size = sum(map(len, events))
        exchange.head(200, HEAD, framing=framing, length=size if framing == "length" else None)
        for event in events:
            exchange.write(event)
            if event is not events[-1]:
                exchange.until(taken)
                taken.clear()
        exchange.end()

    async with asking(message) as (_, reply):
        async for _ in reply:
            taken.set()
        assert reply.text == "abc"


async def test_over_tls_tokens_are_yielded_at_once_even_if_they_share_a_record() -> None:
    certs = certificates()
    events = tokens(*[str(number) for number in range(3000)])

    def message(exchange: Exchange) -> None:
        exchange.head(200, HEAD)
        exchange.write(events[0])
        exchange.stall(0.02)
        exchange.write(b"".join(events[1:-2]))
        exchange.stall(0.02)
        exchange.drip(b"".join(events[-2:]), size=7)
        exchange.end()

    with ScriptedChatUi(message, tls=certs.server) as server:
        async with AsyncH2oSession(server.url, verify=certs.ca) as client:
            found = [token async for token in client.stream("Hi")]
    assert found == [str(number) for number in range(3000)]


async def test_stop_ends_the_answer_without_an_error() -> None:
    stopped = threading.Event()

    def message(exchange: Exchange) -> None:
        exchange.head(200, HEAD)
        exchange.write(tokens("a", end=False)[0])
        exchange.until(stopped)
        exchange.write(tokens(" last", end=False)[0])
        exchange.cut()

    def stop(exchange: Exchange) -> None:
        exchange.answer(200, b"")
        stopped.set()

    async with asking(message, stop=stop) as (server, reply):
        texts = []
        async for token in reply:
            texts.append(token)
            if len(texts) == 1:
                await reply.stop()
        assert texts == ["a", " last"]
        assert reply.finish_reason == "stopped"
        assert server.paths().count(STOP) == 1


async def test_stop_from_another_task_ends_a_wait_for_the_headers() -> None:
    async with asking(silent) as (server, reply), anyio.create_task_group() as tasks:

        async def stop() -> None:
            assert await until(lambda: server.count("POST", MESSAGE) == 1)
            await reply.stop()

        tasks.start_soon(stop)
        with anyio.fail_after(PATIENCE):
            assert (await reply.read()).finish_reason == "stopped"


@pytest.mark.parametrize("script", [stalls("a"), silent], ids=["in mid-stream", "before the head"])
async def test_a_reply_can_be_closed_from_another_task(script: Script) -> None:
    async with asking(script) as (server, reply), anyio.create_task_group() as tasks:
        texts: list[str] = []

        async def close() -> None:
            if script is silent:
                assert await until(lambda: server.count("POST", MESSAGE) == 1)
            else:
                assert await until(lambda: bool(texts))
            await reply.aclose()

        tasks.start_soon(close)
        try:
            with at_once():
                async for token in reply:
                    texts.append(token)
        except ConfigurationError:  # the session was closed before the answer started
            assert not texts
        assert await until(lambda: server.paths()[-1] == DELETE)


@pytest.mark.parametrize("script", [stalls("a"), silent], ids=["in mid-stream", "before the head"])
@pytest.mark.parametrize("entered", [True, False])
async def test_a_cancelled_reader_returns_at_once_and_cleans_up(
    script: Script, entered: bool
) -> None:
    async with asking(script) as (server, reply):
        expected = "" if script is silent else "a"

        def begun() -> bool:
            return server.count("POST", MESSAGE) == 1 and reply.text == expected

        async with cancelled_when(begun):
            if entered:
                async with reply:
                    await reply.read()
            else:
                await reply.read()
        assert await until(lambda: DELETE in server.paths())
        assert server.paths().count(STOP) == 1


async def test_a_later_reader_gets_an_error_with_the_text_of_the_cancelled_reader() -> None:
    async with asking(stalls("a", "b")) as (_, reply):
        async with cancelled_when(lambda: reply.text == "ab"):
            await reply.read()
        assert reply.text == "ab"
        with pytest.raises(IncompleteAnswerError) as raised:
            await reply.read()
        assert raised.value.partial == "ab"


async def test_iterating_after_a_cancellation_does_not_end_like_a_complete_answer() -> None:
    async with asking(stalls("a")) as (_, reply):
        assert await anext(reply) == "a"
        async with cancelled_when(lambda: True):
            await anext(reply)
        for _ in range(2):
            with pytest.raises(IncompleteAnswerError, match="its reader was cancelled") as raised:
                await anext(reply)
            assert raised.value.partial == "a"


async def test_stop_from_another_task_loses_no_text_of_a_waiting_reader(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("h2o_client.answer.ending._LATE_TEXT_WITHIN", PATIENCE)
    stopped = threading.Event()

    def message(exchange: Exchange) -> None:
        exchange.head(200, HEAD)
        exchange.write(tokens("a", end=False)[0])
        exchange.until(stopped)
        for event in tokens("b", "c"):
            exchange.write(event)
        exchange.end()

    def stop(exchange: Exchange) -> None:
        exchange.answer(200, b"")
        stopped.set()

    async with asking(message, stop=stop) as (_, reply), anyio.create_task_group() as tasks:
        assert await anext(aiter(reply)) == "a"
        tasks.start_soon(reply.stop)
        with at_once():
            assert [token async for token in reply] == ["b", "c"]


async def test_a_server_without_a_response_does_not_delay_a_cancelled_reader(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("h2o_client.backend.cleanup._STOP_WITHIN", PATIENCE)
    with ScriptedChatUi(stalls("a"), stop=silent, delete=silent) as server:
        client = AsyncH2oSession(server.url, max_retries=0)
        reply = client.stream("Hi")
        async with cancelled_when(lambda: reply.text == "a"), reply:
            await reply.read()
        server.stop()
        await client.aclose()


async def test_connecting_does_not_delay_a_cancelled_reader() -> None:
    with unaccepted_port(full=True) as port:
        url = f"http://127.0.0.1:{port}"
        async with AsyncH2oSession(url, max_retries=0, timeout=PATIENCE) as client:
            with at_once(), anyio.move_on_after(0.2):
                await client.chat("Hi")
            with at_once(), anyio.move_on_after(0.2):
                await client.models()


async def test_a_dns_lookup_does_not_delay_a_cancelled_reader(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resolving, resolved = threading.Event(), threading.Event()

    def slow(*args: object, **kwargs: object) -> object:
        resolving.set()
        resolved.wait(PATIENCE)
        raise OSError("no such name")

    monkeypatch.setattr("h2o_client.transport.compat.socket.getaddrinfo", slow)
    client = AsyncH2oSession("http://chat.example", max_retries=0)
    async with cancelled_when(resolving.is_set):
        await client.chat("Hi")
    resolved.set()
    await client.aclose()


async def test_a_reply_that_is_not_closed_is_cleaned_up_when_garbage_collected() -> None:
    with ScriptedChatUi(stalls("a")) as server:
        async with AsyncH2oSession(server.url) as client:
            async for _ in client.stream("Hi"):
                break
            gc.collect()
            assert await until(lambda: server.paths()[-2:] == [STOP, DELETE])


async def test_leaving_async_with_early_cleans_up_at_once() -> None:
    async with asking(stalls("a")) as (server, reply):
        async with reply:
            async for _ in reply:
                break
        assert server.paths()[-2:] == [STOP, DELETE]
        assert await until(lambda: server.open <= 1)


async def test_the_callers_exception_is_raised_unchanged() -> None:
    async with asking(stalls("a"), stop=refuses(500, {"message": "no"})) as (server, reply):
        with pytest.raises(ZeroDivisionError):
            async with reply:
                async for _ in reply:
                    raise ZeroDivisionError
        assert DELETE in server.paths()


async def test_sixty_stalled_streams_do_not_block_other_threads() -> None:
    with ScriptedChatUi(silent) as server:
        async with AsyncH2oSession(server.url) as client, anyio.create_task_group() as tasks:
            for _ in range(60):
                tasks.start_soon(client.stream("Hi").read)
            assert await until(lambda: server.count("POST", MESSAGE) == 60)
            with anyio.fail_after(PATIENCE):
                assert await anyio.to_thread.run_sync(lambda: 5) == 5
            tasks.cancel_scope.cancel()


async def test_the_event_loop_keeps_running_during_fast_streams() -> None:
    flood = streams(tokens(*["token"] * 5000))
    with ScriptedChatUi(flood) as server:
        async with AsyncH2oSession(server.url) as client, anyio.create_task_group() as tasks:
            replies = [client.stream("Hi") for _ in range(10)]
            steps: list[int] = []

            async def watch() -> None:
                before = [0] * 10
                while True:
                    await anyio.lowlevel.checkpoint()
                    now = [len(reply.text) for reply in replies]
                    steps.extend(after - length for length, after in zip(before, now, strict=True))
                    before = now

            tasks.start_soon(watch)
            async with anyio.create_task_group() as readers:
                for reply in replies:
                    readers.start_soon(reply.read)
            tasks.cancel_scope.cancel()
    # Each answer has 25,000 characters, too many for one iteration of the event loop.
    assert max(steps) < 5000


async def test_a_consumer_that_stops_reading_slows_the_server_down() -> None:
    sent = 0

    def message(exchange: Exchange) -> None:
        nonlocal sent
        exchange.head(200, HEAD)
        piece = tokens(*["x" * 1000] * 100, end=False)
        while not exchange.gone(0) and sent < 10**8:
            exchange.write(b"".join(piece))
            sent += 100_000

    async with asking(message) as (_, reply), reply:
        await reply.__anext__()
        # The server blocks: the buffers of the kernel and of the client are full.
        before = -1
        while before != sent:
            before = sent
            await anyio.sleep(0.3)
        assert sent < 3 * 10**7
        assert len(reply.text) < 10**6


@pytest.mark.parametrize("how", ["end", "break", "cancel", "fail"])
async def test_twenty_runs_leave_no_conversations(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("h2o_client.answer.storage._READ_BACK_WITHIN", 0.01)
    script = streams(tokens("a", "b")) if how == "end" else stalls("a")
    script = broken if how == "fail" else script
    with ScriptedChatUi(script) as server:
        async with AsyncH2oSession(server.url, max_retries=0) as client:
            for _ in range(20):
                with anyio.move_on_after(0.05 if how == "cancel" else 5):
                    try:
                        async for _ in client.stream("Hi"):
                            if how == "break":
                                break
                    except TransportError:
                        assert how == "fail"
        assert server.conversations == {}
        # One whose answer is lost is sent again. All have the same id here, so that one deletion
        # in the background can stand for several.
        least = 1 if how == "end" else server.count("POST", "/conversation")
        assert server.count("DELETE", MESSAGE) >= least


def test_one_session_serves_one_loop_after_another(leaks_nothing: None) -> None:
    with ScriptedChatUi() as server:
        client = AsyncH2oSession(server.url)

        async def ask() -> str:
            return (await client.chat("Hi")).text

        assert asyncio.run(ask()) == "Hello there"
        assert asyncio.run(ask()) == "Hello there"
        asyncio.run(client.aclose())


def test_a_reply_started_in_one_loop_can_be_read_in_another(leaks_nothing: None) -> None:
    go_on = threading.Event()

    def message(exchange: Exchange) -> None:
        events = tokens("a", "b")
        exchange.head(200, HEAD)
        exchange.write(events[0])
        exchange.until(go_on)
        exchange.write(b"".join(events[1:]))
        exchange.end()

    with ScriptedChatUi(message) as server:
        client = AsyncH2oSession(server.url)
        reply = client.stream("Hi")
        assert asyncio.run(reply.__anext__()) == "a"
        go_on.set()
        assert asyncio.run(reply.read()).text == "ab"
        asyncio.run(client.aclose())


def test_a_reply_left_in_a_closed_loop_is_cleaned_up_by_a_thread(leaks_nothing: None) -> None:
    with ScriptedChatUi(stalls("a")) as server:
        client = AsyncH2oSession(server.url)
        reply: AsyncReply | None = client.stream("Hi")

        async def first() -> str:
            assert reply is not None
            return await reply.__anext__()

        assert asyncio.run(first()) == "a"
        reply = None
        gc.collect()
        server.wait_for(lambda server: server.paths()[-2:] == [STOP, DELETE])
        asyncio.run(client.aclose())


@pytest.mark.anyio
async def test_two_tasks_can_read_one_answer() -> None:
    """Each token goes to one of them, and both learn of the end."""
    says = Says(("a",), holds=True, rest=(" b", " c"))
    with FakeChatUi("0.10.0", answer=lambda _: says) as server:
        async with AsyncH2oSession(server.url) as session:
            reply = session.stream("Hi")
            assert await reply.__anext__() == "a"
            found: list[str] = []

            async def read() -> None:
                found.extend([token async for token in reply])

            with anyio.fail_after(PATIENCE):
                async with anyio.create_task_group() as group:
                    group.start_soon(read)
                    group.start_soon(read)
                    await anyio.wait_all_tasks_blocked()
                    server.released.set()
            assert sorted(found) == [" b", " c"]
            assert (await reply.read()).text == "a b c"
