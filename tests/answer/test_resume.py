"""Answers of the newest servers on broken connections: each is complete and requested once."""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from cutting import BreakingPath, Cut, How
from fake_chatui import FakeChatUi
from fake_checks import MESSAGE, check
from fake_model import Says
from h2o_client import (
    Answer,
    AsyncH2oSession,
    GenerationError,
    H2oError,
    H2oSession,
    IncompleteAnswerError,
    NotFoundError,
    Reply,
    StatusError,
    Timeouts,
    Title,
    TransportError,
    TransportTimeout,
)
from h2o_client.answer import connection, resume
from h2o_client.dialects import detection
from h2o_client.dialects.detection import DIALECTS
from h2o_client.dialects.latest import LATEST
from h2o_client.dialects.v0_9_6 import V0_9_6
from h2o_client.wire.events import Elicitation, Event
from local_service import PATIENCE, Request, at_once
from ways import LOG, Way

FULL = os.environ.get("SOAK") == "full"
WORDS = [f"w{number} " for number in range(8)]
TOKENS = (*WORDS, "é🧪 ", "a", "a", "a", "\u2028x", " end ")
TEXT = "".join(TOKENS)
ANSWER = TEXT.rstrip()
PATIENT = Timeouts(first_token=60.0, idle=60.0)
IMPATIENT = Timeouts(first_token=60.0, idle=0.5)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the delay before a retry."""
    monkeypatch.setattr(resume, "_FIRST_PAUSE", 0.01)
    monkeypatch.setattr(resume, "_GONE_PAUSES", (0.01, 0.02))


@pytest.fixture
def notices_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the time after which a silent connection counts as broken."""
    latest = replace(LATEST, head_within=0.3, longest_silence=0.3)
    former = replace(V0_9_6, longest_silence=0.3)
    monkeypatch.setattr(detection, "LATEST", latest)
    monkeypatch.setattr(detection, "V0_9_6", former)
    monkeypatch.setattr(detection, "DIALECTS", (*DIALECTS[:-2], former, latest))
    monkeypatch.setattr(connection, "_LOG_WITHIN", 0.3)


@contextmanager
def talking(
    way: Callable[[Request], Cut | None],
    *,
    answer: Sequence[Says] = (Says(TOKENS),),
    client: dict[str, Any] | None = None,
) -> Iterator[tuple[FakeChatUi, BreakingPath, H2oSession]]:
    """A server, a breakable connection to it, and a client. No conversation may remain."""
    options = {"timeout": PATIENT, "server_version": "latest", **(client or {})}
    with FakeChatUi("head", answer=answer) as server, BreakingPath(server.port, way) as path:
        with H2oSession(path.url, **options) as session:
            yield server, path, session
        check(server)


def taken(
    cuts: Sequence[Cut | None], logs: Sequence[Cut | None] = (), *, timeout: Timeouts = PATIENT
) -> tuple[Reply, list[Event | Answer]]:
    """An answer over such a connection, with all events that were returned."""
    with talking(Way(cuts, logs), client={"timeout": timeout}) as (server, _, client):
        reply = client.stream("Hello")
        events = list(reply.events())
        assert len(server.prompts) == 1
    return reply, events


def text_of(events: Sequence[Event | Answer]) -> str:
    return "".join(getattr(event, "text", "") for event in events if not isinstance(event, Answer))


def whole(reply: Reply, events: Sequence[Event | Answer]) -> None:
    """The answer as an unbroken stream returns it."""
    assert text_of(events) == TEXT
    assert reply.text == ANSWER
    assert reply.finish_reason == "stop"
    assert reply.answer is not None
    assert (reply.answer.text, reply.answer.title) == (ANSWER, "A title")
    assert [each for each in events if isinstance(each, Title)] == [Title("A title")]
    assert events[-1] is reply.answer


def length() -> int:
    """The bytes of the whole answer, without the padding after the final answer."""
    with talking(Way([Cut(1 << 30)])) as (_, path, client):
        client.chat("Hello")
        return path.passed - 4096


@pytest.mark.parametrize("how", ["end", "reset"])
def test_an_answer_cut_at_any_byte_is_resumed_without_gaps_or_repeats(how: How) -> None:
    end = length()
    for at in range(0, end, 1 if FULL else 31):
        reply, events = taken([Cut(at, how)])
        whole(reply, events)
        # After the final answer, nothing is missing.
        assert reply.resumed == (1 if at < end - 200 else reply.resumed), at


@pytest.mark.usefixtures("notices_soon")
def test_an_answer_that_stalls_at_any_byte_is_resumed_without_gaps_or_repeats() -> None:
    for at in range(0, length(), 40 if FULL else 400):
        whole(*taken([Cut(at, "stall")]))


@pytest.mark.parametrize("first", [Cut(700, "stall"), Cut(700, "reset")])
def test_after_an_idle_timeout_later_breaks_are_still_resumed(first: Cut) -> None:
    # After the idle timeout, every break used to be treated as silence of the model.
    later = [Cut(0, "stall"), *(Cut(at, how) for at in (300, 500, 250) for how in ("end", "reset"))]
    reply, events = taken([first], later, timeout=Timeouts(first_token=60.0, idle=0.5))
    whole(reply, events)
    assert reply.resumed >= 4


@pytest.mark.parametrize("how", ["end", "reset"])
def test_a_log_cut_at_any_byte_is_resumed(how: How) -> None:
    for at in range(0, 1200, 7 if FULL else 97):
        reply, events = taken([Cut(700, "reset")], [Cut(at, how), Cut(at // 2, how)])
        whole(reply, events)
        assert reply.resumed >= 1


def test_a_stalled_log_is_resumed() -> None:
    reply, events = taken([Cut(700, "stall")], [Cut(400, "stall")], timeout=IMPATIENT)
    whole(reply, events)
    assert reply.resumed == 2


def test_text_is_returned_before_the_rest_has_arrived() -> None:
    says = Says(("One", " two"), holds=True, rest=(" three",))
    cut = threading.Event()

    def way(request: Request) -> Cut | None:
        return Cut(1 << 30) if MESSAGE.fullmatch(request.path) else None

    with talking(way, answer=[says]) as (server, path, client):
        reply = client.stream("Hello")
        assert [next(reply), next(reply)] == ["One", " two"]
        for wire in list(path.wires):
            wire.wake()
        cut.set()
        server.released.set()
        assert list(reply) == [" three"]
        assert reply.text == "One two three"


def test_a_message_that_never_arrived_is_sent_again() -> None:
    with talking(Way([Cut(0, "lost")])) as (server, path, client):
        reply = client.stream("Hello")
        whole(reply, list(reply.events()))
        assert reply.resumed == 1
        assert len(server.prompts) == 1
        bodies = b"".join(each.body for each in path.log)
        assert len(set(re.findall(rb'"generationId":"([^"]+)"', bodies))) == 2
        assert len(server.resumed) == 3


def test_a_message_that_is_lost_twice_is_sent_three_times() -> None:
    with talking(Way([Cut(0, "lost"), Cut(0, "lost")])) as (server, _, client):
        assert client.chat("Hello").text == ANSWER
        assert len(server.prompts) == 1


def test_the_log_of_an_unknown_run_is_requested_again() -> None:
    with talking(Way([Cut(500, "reset")])) as (server, _, client):
        server.goes_missing = 2
        reply = client.stream("Hello")
        whole(reply, list(reply.events()))
        assert len(server.resumed) == 3


def test_without_a_log_the_answer_is_read_from_the_conversation() -> None:
    with talking(Way([Cut(500, "reset")])) as (server, _, client):
        server.goes_missing = 9
        reply = client.stream("Hello")
        assert "".join(reply) == ANSWER
        assert reply.read().text == ANSWER
        assert (len(server.prompts), len(server.resumed)) == (1, 3)


def test_after_an_expired_log_the_answer_is_read_from_the_conversation() -> None:
    with talking(Way([Cut(500, "reset")])) as (server, _, client):
        server.logs_expire = True
        answer = client.chat("Hello")
        assert (answer.text, answer.finish_reason) == (ANSWER, "stop")
        assert answer.message_id is None or answer.message_id


def test_an_error_of_the_model_is_read_from_the_log() -> None:
    for expire in (False, True):
        with talking(Way([Cut(400, "reset")]), answer=[Says(TOKENS, end="error")]) as (
            server,
            _,
            client,
        ):
            server.logs_expire = expire
            with pytest.raises(GenerationError, match="scripted mid-stream error") as caught:
                client.chat("Hello")
            assert caught.value.partial.startswith(TEXT)


def test_a_log_that_the_server_ends_early_is_requested_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resume, "_LIVED", 0.0)
    with talking(Way([Cut(400, "reset")])) as (server, path, client):
        server.log_length = 2
        reply = client.stream("Hello")
        whole(reply, list(reply.events()))
        assert reply.resumed == 1  # this is not a break
        asked = [each.query for each in path.log if LOG.fullmatch(each.path)]
        assert [each.rpartition("=")[2] for each in asked[:3]] == ["0", "2", "4"]


def test_after_a_killed_server_the_error_has_the_stored_text() -> None:
    with talking(Way(), answer=[Says(TOKENS[:4], end="dies")]) as (server, _, client):
        server.unnoticed = 0.15
        with pytest.raises(IncompleteAnswerError) as caught:
            client.chat("Hello")
        assert caught.value.partial == "".join(TOKENS[:4])
        assert caught.value.stored[-1].content == "".join(TOKENS[:4])
        assert caught.value.resendable is False


def test_resuming_ends_after_max_retries_failures() -> None:
    gone = threading.Event()

    def way(request: Request) -> Cut | None:
        if gone.is_set():
            return Cut(0, "lost")
        if MESSAGE.fullmatch(request.path) and request.method == "POST":
            gone.set()
            return Cut(600, "reset")
        return None

    with (
        FakeChatUi("head", answer=[Says(TOKENS)]) as server,
        BreakingPath(server.port, way) as path,
    ):
        with H2oSession(path.url, server_version="latest", max_retries=3) as client:
            reply = client.stream("Hello", keep=True)
            with pytest.raises(TransportError) as caught:
                reply.read()
        assert caught.value.partial
        assert TEXT.startswith(caught.value.partial)
        assert caught.value.resendable is False
        asked = [each for each in path.log if LOG.fullmatch(each.path)]
        assert len(asked) == 4  # one at once, three more
        assert server.stops == []  # it was not stopped either: it can still be resumed


def test_without_retries_nothing_is_resumed() -> None:
    with talking(Way([Cut(600)]), client={"max_retries": 0}) as (server, _, client):
        with pytest.raises(IncompleteAnswerError) as caught:
            client.chat("Hello")
        assert (server.resumed, caught.value.stored[-1].content) == ([], ANSWER)


def test_a_conversation_that_was_deleted_cannot_be_resumed() -> None:
    def way(request: Request) -> Cut | None:
        if MESSAGE.fullmatch(request.path) and request.method == "POST":
            return Cut(600, "reset")
        if LOG.fullmatch(request.path):
            server.conversations.clear()
        return None

    with (
        FakeChatUi("head", answer=[Says(TOKENS)]) as server,
        BreakingPath(server.port, way) as path,
    ):
        client = H2oSession(path.url, server_version="latest")
        with client, pytest.raises(TransportError) as caught:
            client.chat("Hello")
        assert isinstance(caught.value.__cause__, NotFoundError)
        assert len(server.resumed) == 0


def test_a_gateway_error_during_a_restart_is_retried() -> None:
    failed: list[str] = []

    def before(exchange: Any) -> bool:
        if not LOG.fullmatch(exchange.request.path) or len(failed) == 2:
            return False
        failed.append(exchange.request.path)
        exchange.answer(502, b"<html>Bad Gateway</html>", "text/html")
        return True

    with talking(Way([Cut(600, "reset")])) as (server, _, client):
        server.before = before
        reply = client.stream("Hello")
        whole(reply, list(reply.events()))
        assert reply.resumed == 1


def test_keepalives_without_text_are_not_a_broken_connection() -> None:
    says = Says(("One",), holds=True, rest=(" two",))
    with talking(Way(), answer=[says], client={"timeout": IMPATIENT}) as (server, _, client):
        with pytest.raises(TransportTimeout) as caught:
            client.chat("Hello")
        assert (caught.value.which, server.resumed) == ("idle", [])


def test_a_server_that_stops_responding_is_not_waited_for_repeatedly() -> None:
    silent = threading.Event()

    def way(request: Request) -> Cut | None:
        if MESSAGE.fullmatch(request.path) and request.method == "POST":
            silent.set()
        return Cut(0, "stall") if silent.is_set() else None

    with (
        FakeChatUi("head", answer=[Says(TOKENS)]) as server,
        BreakingPath(server.port, way) as path,
    ):
        client = H2oSession(path.url, server_version="latest", timeout=Timeouts(first_token=0.3))
        with client, pytest.raises(TransportTimeout) as caught:
            client.stream("Hello", keep=True)
        assert (caught.value.which, caught.value.seconds) == ("first_token", 0.3)
        assert not any(LOG.fullmatch(each.path) for each in path.log)


@pytest.mark.usefixtures("notices_soon")
@pytest.mark.parametrize("at", [0, 600])
def test_all_connections_share_the_first_token_timeout(
    at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # With first_token=1, the error used to be raised after 5.2 s.
    monkeypatch.setattr(resume, "_FIRST_PAUSE", 60.0)
    way = Way([Cut(at, "stall")], [Cut(0, "stall"), Cut(0, "lost"), Cut(0, "stall")] * 9)
    patience = {"timeout": Timeouts(first_token=1.0)}
    with talking(way, answer=[Says((), holds=True)], client=patience) as (_, _, client):
        with pytest.raises(TransportTimeout) as caught, at_once():
            client.chat("Hello")
        assert (caught.value.which, caught.value.seconds) == ("first_token", 1.0)


@pytest.mark.usefixtures("notices_soon")
@pytest.mark.parametrize("version", ["0.9.6", "0.10.0"])
def test_a_dead_connection_is_detected_on_servers_without_runs(
    version: str,
) -> None:
    says = Says((), holds=True)
    with (
        FakeChatUi(version, answer=[says]) as server,
        BreakingPath(server.port, Way([Cut(300, "stall")])) as path,
        H2oSession(path.url, server_version=version) as client,
        pytest.raises(TransportTimeout) as caught,
    ):
        client.chat("Hello")
    assert (caught.value.which, caught.value.seconds) == ("silence", 0.3)
    assert "the connection is dead or the server hangs" in str(caught.value)
    assert caught.value.resendable is False


@pytest.mark.usefixtures("notices_soon")
def test_a_hanging_server_gets_as_much_time_as_a_silent_model() -> None:
    logs = [Cut(at, "stall") for at in (0, 250, 0, 0, 300, 0, 0, 0)]
    reply, events = taken([Cut(700, "stall")], logs)
    whole(reply, events)


@pytest.mark.usefixtures("notices_soon")
def test_a_server_that_hangs_longer_is_retried_max_retries_times() -> None:
    # After two silences the client used to give up, with retries left.
    options = {"timeout": IMPATIENT, "max_retries": 3}
    for stalls, asked in ((3, 4), (9, 4)):
        way = Way([Cut(700, "reset")], [Cut(0, "stall")] * stalls)
        with talking(way, client=options) as (_, path, client):
            # Finally the answer is read from the stored messages.
            assert client.chat("Hello").text == ANSWER
            assert sum(bool(LOG.fullmatch(each.path)) for each in path.log) == asked


@pytest.mark.usefixtures("notices_soon")
def test_a_message_that_may_still_arrive_is_not_sent_again() -> None:
    late = threading.Event()

    def before(exchange: Any) -> bool:
        if exchange.request.method == "POST" and MESSAGE.fullmatch(exchange.request.path):
            late.wait(PATIENCE)
        return False

    with FakeChatUi("head", answer=[Says(TOKENS)], before=before) as server:
        with H2oSession(server.url, server_version="latest", timeout=PATIENT) as client:
            with pytest.raises(IncompleteAnswerError, match="may still do so") as caught:
                client.stream("Hello", keep=True).read()
            late.set()
            assert caught.value.resendable is False
        server.wait_for(lambda server: server.prompts)
        assert len(server.prompts) == 1


@pytest.mark.parametrize(
    ("error", "silent_for", "expected"),
    [
        (TransportTimeout("idle", 60.0), 0.1, False),
        (TransportTimeout("idle", 60.0), 4.0, True),
        # With so short a time, half of the stalls used to be treated as silence of the model.
        (TransportTimeout("idle", 3.0), 1.5, True),
        (TransportTimeout("idle", 0.4), 0.3, True),
        (TransportTimeout("idle", 0.4), 0.1, False),
        (TransportTimeout("silence", 5.0), 5.0, True),
        (TransportTimeout("connect", 10.0), 0.0, True),
        (TransportTimeout("first_token", 1.0), 1.0, False),
        (TransportTimeout("total", 1.0), 1.0, False),
        (TransportError("broken"), 0.0, True),
        (StatusError(502, ""), 0.0, True),
        (StatusError(504, ""), 0.0, True),
        (StatusError(404, ""), 0.0, False),
        (IncompleteAnswerError(), 0.0, True),
        (GenerationError("no"), 0.0, False),
    ],
)
def test_errors_that_may_affect_only_the_connection(
    error: H2oError, silent_for: float, expected: bool
) -> None:
    assert resume.is_a_break(error, silent_for) is expected


def test_the_total_timeout_applies_while_resuming(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resume, "_FIRST_PAUSE", PATIENCE)
    way = Way([Cut(600, "reset")], [Cut(0, "lost")] * 9)
    says = [Says(TOKENS, holds=True)]
    with talking(way, answer=says, client={"timeout": Timeouts(total=2)}) as (_, _, client):
        with pytest.raises(TransportTimeout) as caught, at_once():
            client.chat("Hello")
        assert caught.value.which == "total"
        assert caught.value.partial


def waits(server: FakeChatUi, path: BreakingPath) -> None:
    """Wait until the first request for the log has failed."""
    path.wait_for(lambda path: any(LOG.fullmatch(each.path) for each in path.log))


@pytest.mark.parametrize("what", ["stop", "close"])
def test_an_answer_can_be_ended_while_it_waits_to_be_resumed(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resume, "_FIRST_PAUSE", PATIENCE)
    says = Says(TOKENS, holds=True)
    with talking(Way([Cut(600, "reset")], [Cut(0, "lost")] * 9), answer=[says]) as (
        server,
        path,
        client,
    ):
        reply = client.stream("Hello")

        def end() -> None:
            waits(server, path)
            getattr(reply, what)()

        thread = threading.Thread(target=end)
        thread.start()
        with at_once():
            text = "".join(reply)
        thread.join()
        assert TEXT.startswith(text)
        assert reply.finish_reason == "stopped"
        assert len(server.stops) == 1


def test_leaving_a_log_early_stops_the_model_once() -> None:
    says = Says(TOKENS, holds=True, rest=(" three",))
    with talking(Way([Cut(500, "reset")]), answer=[says]) as (server, _, client):
        with client.stream("Hello") as reply:
            for _ in reply:
                if reply.resumed:
                    break
        assert len(server.stops) == 1


def test_an_answer_waiting_for_the_user_is_not_resumed_before_the_user_answers() -> None:
    asks = Says(("One",), asks=True)
    way = Way([Cut(500, "reset"), Cut(450, "reset")])
    with talking(way, answer=[asks, Says((" two", " three", " four"))]) as (server, _, client):
        reply = client.stream("Hello")
        assert "".join(reply) == "One"
        assert isinstance(reply.elicitation, Elicitation)
        reply.answer_elicitation("accept", {"confirm": "DELETE"})
        assert "".join(reply) == " two three four"
        assert reply.resumed == 2
        assert len(server.prompts) == 2


def test_after_the_users_answer_the_first_token_timeout_restarts() -> None:
    # A resumed answer used to have only the idle timeout, because it had already started.
    says = [Says(("One",), asks=True), Says((), holds=True, rest=(" two",))]
    patience = {"timeout": Timeouts(first_token=60.0, idle=0.3)}
    with talking(Way([None, Cut(450, "reset")]), answer=says, client=patience) as (
        server,
        _,
        client,
    ):
        reply = client.stream("Hello")
        assert "".join(reply) == "One"
        reply.answer_elicitation("accept", {"confirm": "DELETE"})
        speaking = threading.Timer(1.0, server.released.set)  # later than idle
        speaking.start()
        assert ("".join(reply), reply.resumed) == (" two", 1)
        speaking.join()


def test_the_next_message_follows_a_resumed_answer() -> None:
    with talking(Way([Cut(500, "reset")]), answer=[Says(TOKENS), Says(("Yes",))]) as (
        server,
        _,
        client,
    ):
        with client.conversation() as chat:
            chat.chat("one")
            assert chat.chat("two").text == "Yes"
        assert [each[1] for each in server.prompts[1].turns] == ["one", ANSWER, "two"]


def test_the_log_line_about_resuming_contains_no_text(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "h2o_client")
    with talking(Way([Cut(500, "reset")])) as (_, _, client):
        client.chat("Tell nobody")
    said = [each.message for each in caplog.records if each.levelno == logging.INFO]
    assert any("resuming an answer" in each for each in said)
    assert not re.search("nobody|w1|🧪", caplog.text)


def test_an_error_status_is_not_treated_as_a_break() -> None:
    def before(exchange: Any) -> bool:
        if exchange.request.method == "POST" and MESSAGE.fullmatch(exchange.request.path):
            server.refused_messages += 1
            exchange.json({"message": "Model not available anymore"}, 410)
            return True
        return False

    with talking(Way()) as (server, _, client):
        server.before = before
        with pytest.raises(StatusError):
            client.chat("Hello")
        assert server.resumed == []


@pytest.mark.anyio
@pytest.mark.parametrize("how", ["end", "reset", "stall"])
@pytest.mark.usefixtures("notices_soon")
async def test_async_answers_are_resumed(how: How) -> None:
    with FakeChatUi("head", answer=lambda prompt: Says(TOKENS)) as server:
        end = length()
        for at in range(0, end, 7 if FULL and how != "stall" else 300):
            with BreakingPath(server.port, Way([Cut(at, how)], [Cut(at // 2, how)])) as path:
                async with AsyncH2oSession(
                    path.url, server_version="latest", timeout=PATIENT
                ) as client:
                    async with client.stream("Hello") as reply:
                        texts = [text async for text in reply]
                    assert "".join(texts) == TEXT
                    assert reply.text == ANSWER
                    assert reply.resumed in (0, 1, 2)
        check(server)


@pytest.mark.anyio
async def test_many_async_answers_break_at_once_and_none_is_lost() -> None:
    from anyio import create_task_group

    with FakeChatUi("head", answer=lambda prompt: Says(TOKENS)) as server:
        way = Way([Cut(400 + 20 * number, "reset") for number in range(20)])
        with BreakingPath(server.port, way) as path:
            found: list[str] = []
            async with AsyncH2oSession(path.url, server_version="latest") as client:

                async def ask() -> None:
                    found.append((await client.chat("Hello")).text)

                async with create_task_group() as group:
                    for _ in range(20):
                        group.start_soon(ask)
            assert found == [ANSWER] * 20
        assert len(server.prompts) == 20
        check(server)


# The limits of requests.


def test_a_message_that_is_always_lost_is_retried_max_retries_times() -> None:
    way = Way([Cut(0, "lost")] * 99)
    with talking(way, client={"max_retries": 1}) as (server, path, client):
        with pytest.raises((TransportError, IncompleteAnswerError)) as caught:
            client.chat("Hello")
        assert server.prompts == []
        messages = [
            each for each in path.log if each.method == "POST" and MESSAGE.fullmatch(each.path)
        ]
        assert len(messages) == 2  # the message, and once more
        assert caught.value.partial == ""


def test_the_idle_timeout_continues_from_one_log_body_to_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resume, "_LIVED", 0.0)
    says = Says(TOKENS, holds=True)
    with talking(Way([Cut(500, "reset")]), answer=[says], client={"timeout": IMPATIENT}) as (
        server,
        _,
        client,
    ):
        server.log_seconds = 0.1
        with pytest.raises(TransportTimeout) as caught, at_once():
            client.chat("Hello")
        assert (caught.value.which, caught.value.seconds) == ("idle", 0.5)
        assert len(server.resumed) > 2


def test_heartbeats_do_not_restart_the_idle_timeout() -> None:
    says = Says(TOKENS, holds=True)
    with talking(Way([Cut(500, "reset")]), answer=[says], client={"timeout": IMPATIENT}) as (
        server,
        _,
        client,
    ):
        with pytest.raises(TransportTimeout) as caught:
            client.chat("Hello")
        assert (caught.value.which, len(server.resumed)) == ("idle", 1)


@pytest.mark.parametrize("status", [502, 504, 520, 524])
def test_a_gateway_timeout_does_not_lose_the_answer(status: int) -> None:
    def before(exchange: Any) -> bool:
        if exchange.request.method != "POST" or not MESSAGE.fullmatch(exchange.request.path):
            return False
        cookie = exchange.request.cookies["hf-chat"]
        unheard: Any = Unheard(exchange)
        server.message(unheard, cookie, exchange.request.path.rpartition("/")[2])
        exchange.answer(status, b"<html>Gateway Time-out</html>", "text/html")
        return True

    with FakeChatUi("head", answer=[Says(TOKENS)], before=before) as server:
        with H2oSession(server.url, server_version="latest") as client:
            assert client.chat("Hello").text == ANSWER
        assert (len(server.prompts), len(server.resumed)) == (1, 1)


class Unheard:
    """An exchange whose response reaches nobody."""

    def __init__(self, exchange: Any) -> None:
        self.request, self.server = exchange.request, exchange.server

    def __getattr__(self, name: str) -> Callable[..., bool]:
        return lambda *args, **kwargs: False


def test_the_model_is_stopped_if_the_conversation_will_be_deleted() -> None:
    says = Says(TOKENS, holds=True)
    with talking(Way([Cut(500, "reset")]), answer=[says], client={"max_retries": 0}) as (
        server,
        _,
        client,
    ):
        with client.conversation() as chat, pytest.raises(TransportError):
            chat.chat("Hello")
        assert len(server.stops) == 1


def test_reading_back_does_not_delay_closing_or_a_timeout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("h2o_client.answer.storage._READ_BACK_WITHIN", PATIENCE)
    monkeypatch.setattr("h2o_client.answer.stream._READ_BACK_WITHIN", PATIENCE)
    stored = re.compile(r"/api/(v2/)?conversations?/[^/]+")

    def way(request: Request) -> Cut | None:
        if request.method == "GET" and stored.fullmatch(request.path):
            return Cut(0, "stall")
        return (
            Cut(500, "reset")
            if MESSAGE.fullmatch(request.path) and request.method == "POST"
            else None
        )

    for closes in (False, True):
        options = {"max_retries": 0, "timeout": Timeouts(total=None if closes else 0.6)}
        says = [Says(TOKENS, holds=True)]
        with talking(way, answer=says, client=options) as (_, path, client):
            reply = client.stream("Hello")

            def close(reply: Reply = reply, path: BreakingPath = path) -> None:
                path.wait_for(lambda path: any(stored.fullmatch(each.path) for each in path.log))
                reply.close()

            thread = threading.Thread(target=close)
            if closes:
                thread.start()
            with pytest.raises(TransportError) as caught, at_once():
                reply.read()
            assert caught.value.stored == ()
            if closes:
                thread.join()
