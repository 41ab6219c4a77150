"""Faults on real sockets with every API: the error, the text, the requests, and the cleanup.

`faults.py` has the table of faults of a message. Here are the faults before a message, and the
retries.
"""

from __future__ import annotations

import re
import threading
import tracemalloc
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from typing import Any

import anyio
import pytest

from fake_chatui import FakeChatUi
from fake_checks import MESSAGE
from faults import EVENTS, FAULTS, LINES, Fault, Language, Scene, flood
from h2o_client import (
    AsyncH2oSession,
    AuthenticationError,
    ConfigurationError,
    H2oError,
    H2oSession,
    ProtocolError,
    RateLimitError,
    ServerError,
    StatusError,
    Timeouts,
    TransportError,
    TransportTimeout,
)
from h2o_client.backend.api_client import ApiClient
from h2o_client.transport.call import Call
from h2o_client.transport.response import Response
from local_service import at_once
from obstacles import CREATION, MODELS, OBSTACLES, SETTINGS, asked, never, on_the_way, reset
from scripted import (
    Exchange,
    Script,
    ScriptedServer,
    hang_up,
    refusing_port,
)

pytestmark = pytest.mark.usefixtures("leaks_nothing", "reads_back_soon")

FACES = ("blocking", "asyncio", "trio")
every_face = pytest.mark.parametrize("face", FACES)


@pytest.fixture
def paused(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The delays before retries, in seconds. They are only recorded here."""
    seconds: list[float] = []
    pause = Call.pause

    def noted(call: Call, wait: float) -> None:
        seconds.append(wait)
        pause(call, 0)

    monkeypatch.setattr(Call, "pause", noted)
    return seconds


@pytest.mark.parametrize(
    ("face", "language"),
    [("blocking", EVENTS), ("blocking", LINES), ("asyncio", EVENTS), ("trio", LINES)],
    ids=["blocking, events", "blocking, lines", "asyncio, events", "trio, lines"],
)
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_raises_its_error_and_nothing_is_lost_or_sent_twice(
    name: str, language: Language, face: str
) -> None:
    fault = FAULTS[name]
    scene = Scene(language)

    def message(exchange: Exchange) -> bool:
        if exchange.request.method != "POST" or not MESSAGE.fullmatch(exchange.request.path):
            return False
        fault.play(exchange, scene)
        return True

    with ScriptedServer(never) as elsewhere, FakeChatUi(language.version, before=message) as server:
        scene.elsewhere = elsewhere.url
        if fault.error is None:
            answer = asked(face, server.url, scene, fault.timeout)
            assert scene.text == fault.partial
            assert answer.finish_reason == "stop"
        else:
            with pytest.raises(H2oError) as caught:
                asked(face, server.url, scene, fault.timeout)
            check_error(caught.value, fault, scene)
        assert server.count("POST", MESSAGE) == 1
        assert len(server.stops) == fault.stops
        assert server.conversations == {}
        assert elsewhere.connections == 0


@every_face
@pytest.mark.parametrize(
    ("said", "piece"),
    [(0, EVENTS.alive), (1, EVENTS.alive), (1, b"\n")],
    ids=["comments first", "comments", "blank lines"],
)
def test_a_flood_without_text_does_not_extend_the_timeout(
    said: int, piece: bytes, face: str
) -> None:
    which = ("first_token", "idle")[said]
    with (
        flooding(EVENTS, piece, said=said) as server,
        pytest.raises(TransportTimeout) as caught,
        at_once(),
    ):
        asked(face, server.url, Scene(EVENTS), Timeouts(**{which: 0.5}))
    assert caught.value.which == which


@pytest.mark.parametrize("language", [EVENTS, LINES], ids=["events", "lines"])
@pytest.mark.parametrize("how", ["close", "stop", "break"])
def test_a_flood_does_not_delay_leaving_an_answer(how: str, language: Language) -> None:
    with flooding(language, language.said[1]) as server, H2oSession(server.url) as session:
        reply = session.stream("Hi")
        assert next(reply) == "Hello"
        with at_once():
            if how == "break":
                del reply
                server.wait_for(lambda server: server.count("DELETE"))
            else:
                getattr(reply, how)()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("language", [EVENTS, LINES], ids=["events", "lines"])
def test_a_flood_does_not_delay_a_task_that_leaves_an_answer(
    language: Language, backend: str
) -> None:
    async def leave() -> None:
        async with AsyncH2oSession(server.url) as session, session.stream("Hi") as reply:
            async for _ in reply:
                break

    with flooding(language, language.said[1]) as server, at_once():
        anyio.run(leave, backend=backend)


@every_face
@pytest.mark.parametrize("language", [EVENTS, LINES], ids=["events", "lines"])
def test_an_endless_line_takes_bounded_memory(language: Language, face: str) -> None:
    opening = language.said[0] + language.token(b"?").partition(b"?")[0]
    with flooding(language, b"x" * 1000, opening=opening) as server:
        tracemalloc.start()
        with pytest.raises(ProtocolError, match="a line of over") as caught:
            asked(face, server.url, Scene(language))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert caught.value.partial == "Hello"
    assert peak < 48 << 20


def flooding(
    language: Language, piece: bytes, *, said: int = 1, opening: bytes | None = None
) -> FakeChatUi:
    """A server that sends some words and then repeats ``piece``."""

    def message(exchange: Exchange) -> bool:
        if exchange.request.method != "POST" or not MESSAGE.fullmatch(exchange.request.path):
            return False
        exchange.head(200, language.head, framing="close")
        exchange.send(b"".join(language.said[:said]) if opening is None else opening)
        flood(exchange, piece)
        return True

    return FakeChatUi(language.version, before=message)


def check_error(error: H2oError, fault: Fault, scene: Scene) -> None:
    assert type(error) is fault.error, repr(error)
    assert error.partial == scene.text == fault.partial
    assert error.conversation_id
    if fault.resendable is not None:
        assert error.resendable is fault.resendable
    for name, value in fault.facts.items():
        assert getattr(error, name) == value


# Faults before a message is sent


@every_face
@pytest.mark.usefixtures("paused")
@pytest.mark.parametrize("name", OBSTACLES)
def test_a_failure_before_the_message_sends_no_message(name: str, face: str) -> None:
    obstacle = OBSTACLES[name]
    with ExitStack() as stack:
        url, client, server = obstacle.open(stack)
        with pytest.raises(H2oError, match=obstacle.says or None) as caught:
            asked(face, url, Scene(LINES), **client)
        error = caught.value
        assert type(error) is obstacle.error, repr(error)
        assert (error.partial, error.conversation_id) == ("", None)
        assert error.resendable is obstacle.resendable
        if server is not None:
            assert server.count("POST", MESSAGE) == 0
            assert server.count("POST", "/conversation") == obstacle.creations
            assert server.count("DELETE") == 0
        if isinstance(server, FakeChatUi):
            assert server.conversations == {}


@every_face
@pytest.mark.parametrize("status", [200, 302, 303, 307])
@pytest.mark.parametrize(
    ("version", "words", "error"),
    [
        ("0.4", r"GET /__data\.json", AuthenticationError),
        ("0.4", SETTINGS, AuthenticationError),
        ("0.4", CREATION, AuthenticationError),
        ("0.10.0", MODELS, ConfigurationError),  # nothing there looks like a chat-ui
        ("0.10.0", SETTINGS, AuthenticationError),
        ("0.10.0", CREATION, AuthenticationError),
    ],
)
def test_a_redirect_to_another_host_is_an_error_and_is_not_followed(
    version: str, words: str, error: type[H2oError], status: int, face: str
) -> None:
    def redirect(exchange: Exchange) -> None:
        if status == 200:
            exchange.json({"type": "redirect", "status": 302, "location": place})
        else:
            exchange.answer(status, b"", headers={"Location": place})

    with ScriptedServer(never) as elsewhere, ExitStack() as stack:
        place = f"{elsewhere.url}/authorize?client_id=chat&state=s3cret"
        url, _, server = on_the_way(words, redirect, version)(stack)
        with pytest.raises(error) as caught:
            asked(face, url, Scene(LINES))
        assert "s3cret" not in str(caught.value)
        assert server is not None
        assert server.count("POST", MESSAGE) == 0
        assert elsewhere.connections == 0


# Retries

VERSIONS = pytest.mark.parametrize("version", ["0.4", "0.7", "0.9.1", "0.9.4", "0.10.0", "head"])


def failing_once(words: str, fail: Script) -> tuple[list[str], Callable[[Exchange], bool]]:
    """Make the first request of each kind fail. The list contains the failed ones."""
    failed: list[str] = []

    def before(exchange: Exchange) -> bool:
        asked_for = f"{exchange.request.method} {exchange.request.path}"
        if re.fullmatch(words, asked_for) is None or asked_for in failed:
            return False
        failed.append(asked_for)
        fail(exchange)
        return True

    return failed, before


@VERSIONS
@pytest.mark.parametrize("fail", [reset, lambda exchange: exchange.cut()], ids=["reset", "closed"])
def test_idempotent_requests_are_retried(version: str, fail: Script, paused: list[float]) -> None:
    failed, before = failing_once("GET .*|POST /settings|DELETE .*", fail)
    with FakeChatUi(version, before=before) as server:
        with H2oSession(server.url) as session, session.conversation() as chat:
            assert chat.chat("Hi").text
            assert chat.messages()
        assert server.conversations == {}
        paths = server.paths()
        again = [words for words in failed if paths.count(words) < 2]
        assert not again
        assert {words.split()[0] for words in failed} == {"GET", "POST", "DELETE"}
        assert server.count("POST", MESSAGE) == server.count("POST", "/conversation") == 1
        assert len(paused) >= len(failed)


def test_a_delete_whose_response_was_lost_counts_as_a_success(
    caplog: pytest.LogCaptureFixture, paused: list[float]
) -> None:
    def before(exchange: Exchange) -> bool:
        if exchange.request.method == "DELETE" and server.conversations:
            server.conversations.clear()
            exchange.reset()
            return True
        return False

    with FakeChatUi("0.10.0", before=before) as server:
        with H2oSession(server.url) as session:
            session.chat("Hi")
        assert server.count("DELETE") == 2
    assert "left on the server" not in caplog.text


@every_face
@pytest.mark.parametrize(("status", "language"), [(429, EVENTS), (503, LINES)])
@pytest.mark.parametrize(
    ("wait", "messages"), [("0", 3), ("60", 3), ("61", 1), ("soon", 1), ("", 1)]
)
def test_a_busy_server_is_retried_only_with_retry_after(
    wait: str, messages: int, status: int, language: Language, face: str, paused: list[float]
) -> None:
    busy = {"Retry-After": wait} if wait else {}

    def before(exchange: Exchange) -> bool:
        if not MESSAGE.fullmatch(exchange.request.path) or exchange.request.method != "POST":
            return False
        exchange.answer(status, b"busy", headers=busy)
        return True

    with FakeChatUi(language.version, before=before) as server:
        with pytest.raises((RateLimitError, ServerError)) as caught:
            asked(face, server.url, Scene(language))
        assert server.count("POST", MESSAGE) == messages
        assert len(paused) == messages - 1
        assert all(each == float(wait) or 0 < each < 1 > float(wait) for each in paused)
        assert isinstance(caught.value, StatusError)
        assert caught.value.retry_after == (float(wait) if wait.isdigit() else None)
        assert server.conversations == {}


def test_retry_after_may_be_a_date(paused: list[float]) -> None:
    soon = format_datetime(datetime.now(timezone.utc) + timedelta(seconds=30), usegmt=True)
    busy = [answer_with({"Retry-After": soon}), answer_with({})]

    def before(exchange: Exchange) -> bool:
        if exchange.request.method != "GET" or not busy:
            return False
        busy.pop(0)(exchange)
        return True

    with FakeChatUi("0.10.0", before=before) as server, H2oSession(server.url) as session:
        with pytest.raises(H2oError):
            session.chat("Hi")
        assert len(paused) == 1
        assert 25 < paused[0] <= 30


def answer_with(headers: dict[str, str]) -> Script:
    return lambda exchange: exchange.answer(503, b"busy", headers=headers)


def test_with_zero_retries_nothing_is_retried(paused: list[float]) -> None:
    zero = {"Retry-After": "0"}
    busy: Script = lambda exchange: exchange.answer(503, b"busy", headers=zero)  # noqa: E731
    for words, fail in (("GET .*", reset), ("GET .*", busy), (SETTINGS, reset), (SETTINGS, busy)):
        failed, before = failing_once(words, fail)
        with (
            FakeChatUi("0.10.0", before=before) as server,
            H2oSession(server.url, max_retries=0) as session,
            pytest.raises(H2oError),
        ):
            session.chat("Hi")
        assert failed
        assert [server.paths().count(each) for each in failed] == [1] * len(failed)
    failed, before = failing_once("DELETE .*", reset)
    with FakeChatUi("0.10.0", before=before) as server:
        with H2oSession(server.url, max_retries=0) as session:
            session.chat("Hi")
            server.wait_for(lambda server: server.count("DELETE") == 1)
        assert server.count("DELETE") == 2  # closing the session retries the remaining deletions
    with ScriptedServer(hang_up) as closing, H2oSession(closing.url, max_retries=0) as session:
        with pytest.raises(TransportError):
            session.models()
        assert closing.connections == 1
    assert paused == []


def test_retries_are_increasingly_delayed_with_jitter(paused: list[float]) -> None:
    with refusing_port() as port:
        for _ in range(5):
            with (
                H2oSession(f"http://127.0.0.1:{port}", max_retries=7) as session,
                pytest.raises(TransportError),
            ):
                session.models()
    assert len(paused) == 5 * 7
    for attempt in range(7):
        longest = min(8.0, 0.5 * 2**attempt)
        waits = paused[attempt::7]
        assert all(longest / 2 <= wait <= longest for wait in waits)
        assert len(set(waits)) > 1


@every_face
@VERSIONS
def test_a_connection_closed_by_the_server_is_not_reused(version: str, face: str) -> None:
    closing = threading.Event()

    def before(exchange: Exchange) -> bool:
        exchange.close_after(0 if closing.is_set() else exchange.idle)
        return False

    def closed() -> None:
        server.wait_for(lambda server: server.open == 0)
        closing.clear()

    with FakeChatUi(version, before=before) as server:
        if face == "blocking":
            with H2oSession(server.url) as session, session.conversation() as chat:
                chat.chat("One")
                closing.set()
                chat.messages()
                closed()
                chat.chat("Two")
        else:

            async def talk() -> None:
                async with AsyncH2oSession(server.url) as session, session.conversation() as chat:
                    await chat.chat("One")
                    closing.set()
                    await chat.messages()
                    closed()
                    await chat.chat("Two")

            anyio.run(talk, backend=face)
        assert server.count("POST", MESSAGE) == 2
        assert server.conversations == {}


# Found by a random search


def test_a_response_that_arrives_while_the_answer_ends_is_released(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The head arrives, but another thread ends the answer before the response is stored."""
    opened: list[Response] = []
    real = ApiClient.open

    def given_up(api: ApiClient, *args: Any, **kwargs: Any) -> Response:
        opened.append(real(api, *args, **kwargs))
        stream = chat._stream
        assert stream is not None
        stream.end()
        return opened[0]

    def message(exchange: Exchange) -> bool:
        if exchange.request.method != "POST" or not MESSAGE.fullmatch(exchange.request.path):
            return False
        exchange.head(200, LINES.head)
        exchange.write(LINES.said[0])
        exchange.until_gone()
        return True

    monkeypatch.setattr(ApiClient, "open", given_up)
    with FakeChatUi("0.10.0", before=message) as server, H2oSession(server.url) as session:
        chat = session.conversation()
        chat.stream("Hi")
        assert not opened[0].open
        chat.close()
        opened[0].close()  # so that nothing else fails because of it
