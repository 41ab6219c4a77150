"""Batches against every version of chat-ui: each prompt is answered once, and nothing is left."""

from __future__ import annotations

import gc
import json
import math
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from fake_chatui import FakeChatUi
from fake_checks import ALL
from fake_model import Prompt as Asked
from fake_model import Says
from fake_store import VERSIONS
from h2o_client import (
    AsyncH2oSession,
    AuthenticationError,
    ConfigurationError,
    H2oSession,
    TransportError,
)
from h2o_client.backend import standing_threads
from h2o_client.batch import InvalidPrompts, Prompt, Result, dispatcher, judgement, recording, run
from h2o_client.batch.journal import Journal
from h2o_client.server import ScriptedAnswer, serve
from local_service import PATIENCE
from programs import start
from scripted import Exchange

every_version = pytest.mark.parametrize("version", ALL)
pytestmark = pytest.mark.usefixtures("leaves_no_thread")


@pytest.fixture
def leaves_no_thread() -> object:
    yield
    end = time.monotonic() + PATIENCE
    while any(is_ours(each.name) for each in threading.enumerate()):
        gc.collect()
        assert time.monotonic() < end, threading.enumerate()
        time.sleep(0.01)


def is_ours(thread: str) -> bool:
    return thread.startswith("h2o_client") and thread != standing_threads.NAME


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judgement, "_FIRST_DELAY", 0.001)
    monkeypatch.setattr(dispatcher, "_LEAST_PATIENCE", 1.0)
    monkeypatch.setattr(dispatcher, "_USUAL_PATIENCE", 2.0)


def answer(asked: Asked) -> Says:
    return Says.words(f"To {asked.last}")


def texts(results: list[Result]) -> list[str | None]:
    return [None if each.answer is None else each.answer.text for each in results]


def asked_twice(server: FakeChatUi) -> list[str]:
    return [
        text for text, count in Counter(each.last for each in server.prompts).items() if count > 1
    ]


@every_version
def test_each_prompt_is_answered_once_and_all_conversations_are_deleted(version: str) -> None:
    with FakeChatUi(version, answer=answer) as server, H2oSession(server.url) as session:
        with session.batch([f"p{number}" for number in range(30)]) as batch:
            results = list(batch)
        assert sorted(each.index for each in results) == list(range(30))
        assert all(each.answer and each.answer.text == f"To p{each.index}" for each in results)
        assert {each.id for each in results} == set(range(1, 31))
        assert {(each.attempts, each.server) for each in results} == {(1, server.url)}
        assert not asked_twice(server)
        assert not server.conversations
        assert not server.violations
        progress = batch.progress
        assert (progress.answered, progress.failed, progress.waiting) == (30, 0, 0)


@every_version
def test_a_system_prompt_reaches_the_model_once(version: str) -> None:
    with FakeChatUi(version, answer=answer) as server, H2oSession(server.url) as session:
        list(session.batch(["Hi"], system="Be brief"))
        [asked] = server.prompts
        if VERSIONS[version].number < (0, 7):
            assert asked.turns == (("user", "System: Be brief\nUser: Hi\nAssistant:"),)
        else:
            assert asked.turns == (("system", "Be brief"), ("user", "Hi"))


@pytest.mark.anyio
async def test_the_async_version_returns_the_same() -> None:
    with FakeChatUi("head", answer=answer) as server:
        async with AsyncH2oSession(server.url) as session:
            prompts: list[Prompt] = ["a", {"prompt": "b", "id": "x", "label": 7}]
            results = [each async for each in session.batch(prompts, ordered=True)]
            assert [each.id for each in results] == [1, "x"]
            assert texts(results) == ["To a", "To b"]
            assert [each.extra for each in results] == [{}, {"label": 7}]
            async with session.batch(["c", "d"]) as batch:
                assert batch.progress is not None
                async for _ in batch:
                    break
            with pytest.raises(InvalidPrompts):
                async for _ in session.batch([5]):  # type: ignore[list-item]
                    pass
        assert not server.conversations


@pytest.mark.anyio
async def test_closing_a_batch_while_it_begins_ends_it() -> None:
    begins, may_begin = threading.Event(), threading.Event()

    def prompts() -> Iterator[str]:
        begins.set()
        may_begin.wait(PATIENCE)
        yield "a"

    async def use() -> None:
        async for _ in batch:
            pass

    with FakeChatUi("head", answer=lambda _: Says(holds=True)) as server:
        async with AsyncH2oSession(server.url) as session:
            batch = session.batch(prompts())
            async with anyio.create_task_group() as group:
                group.start_soon(use)
                await anyio.to_thread.run_sync(begins.wait)
                await batch.aclose()
                may_begin.set()
        assert not server.conversations


@pytest.mark.anyio
async def test_a_batch_can_be_stopped_before_it_begins() -> None:
    with FakeChatUi("0.4", answer=lambda _: Says(holds=True)) as server:
        async with AsyncH2oSession(server.url) as session:
            batch = session.batch(["a", "b"])
            batch.stop(0.1)
            assert [each async for each in batch] == []
        assert not server.conversations


def test_ordered_results_come_in_the_order_of_the_prompts() -> None:
    def slow_at_first(asked: Asked) -> Says:
        if asked.last == "p0":
            server.wait_for(lambda fake: len(fake.prompts) > 5)
        return answer(asked)

    with FakeChatUi("head", answer=slow_at_first) as server, H2oSession(server.url) as session:
        results = list(session.batch([f"p{number}" for number in range(20)], ordered=True))
        assert [each.index for each in results] == list(range(20))


def test_concurrency_is_limited() -> None:
    most, now, lock = 0, 0, threading.Lock()

    def counting(asked: Asked) -> Says:
        nonlocal most, now
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.02)
        with lock:
            now -= 1
        return answer(asked)

    with FakeChatUi("head", answer=counting) as server, H2oSession(server.url) as session:
        list(session.batch(map(str, range(20)), concurrency=3))
        assert most == 3


def test_one_invalid_prompt_refuses_the_batch() -> None:
    with FakeChatUi("head") as server, H2oSession(server.url) as session:
        with pytest.raises(InvalidPrompts, match=r"Line 2: .*Did you mean 'temperature'"):
            session.batch(["a", {"prompt": "b", "options": {"temperatur": 1}}])
        assert not server.requests


@pytest.mark.parametrize("prompts", ["abc", b"abc", {"prompt": "a"}, None])
def test_a_single_prompt_in_place_of_a_list_is_refused(prompts: object) -> None:
    with (
        H2oSession("http://127.0.0.1:1") as session,
        pytest.raises(ConfigurationError, match=r"prompts must be a list.* pass \[prompt\]"),
    ):
        session.batch(prompts)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "arguments",
    [
        {"concurrency": 0},
        {"per_minute": 0},
        {"give_up_after": -1.0},
        {"give_up_after": math.nan},
        {"journal": "a\0b"},
    ],
)
def test_invalid_arguments_are_refused(arguments: dict[str, Any]) -> None:
    with H2oSession("http://127.0.0.1:1") as session, pytest.raises(ConfigurationError):
        session.batch(["a"], **arguments)
    with pytest.raises(ConfigurationError):
        run([], ["a"])


# Failures


def test_a_prompt_is_sent_again_after_a_failure_of_the_model() -> None:
    says = [Says((), status=500), Says(("a",), end="error"), Says(("Hello",))]
    with FakeChatUi("head", answer=says) as server, H2oSession(server.url) as session:
        [result] = session.batch(["a"])
        assert (texts([result]), result.attempts) == (["Hello"], 3)
        assert not server.conversations


def test_a_prompt_that_always_fails_has_an_error_and_others_continue() -> None:
    def failing(asked: Asked) -> Says:
        return Says(("So ", "far"), end="error") if asked.last == "bad" else answer(asked)

    with FakeChatUi("head", answer=failing) as server, H2oSession(server.url) as session:
        bad, good = session.batch(["bad", "good"], ordered=True)
        assert bad.error is not None
        assert bad.error.type == "GenerationError"
        assert "scripted mid-stream error" in bad.error.message
        assert bad.error.partial.startswith("So far")
        assert bad.attempts == judgement.MOST_ATTEMPTS
        assert (texts([good]), good.error) == (["To good"], None)
        assert not server.conversations


def test_a_prompt_that_would_fail_again_is_not_sent_again() -> None:
    with FakeChatUi("head", answer=answer) as server, H2oSession(server.url) as session:
        [result] = session.batch([{"prompt": "Hi", "model": "acme/nope"}])
        assert result.error is not None
        assert result.error.type == "ModelUnavailableError"
        assert result.attempts == 1
        assert not server.prompts


def test_retry_failed_sends_failed_prompts_again(tmp_path: Path) -> None:
    says = [Says((), status=400)]
    with FakeChatUi("head", answer=says) as server, H2oSession(server.url) as session:
        for retry_failed, is_answered in ((False, False), (False, False), (True, True)):
            [result] = session.batch(["a"], journal=tmp_path / "j", retry_failed=retry_failed)
            assert (result.answer is not None) == is_answered
        assert len(server.prompts) == 2


@every_version
def test_after_a_broken_connection_the_answer_is_read_from_the_server(version: str) -> None:
    """Except on v0.7 and v0.8.4, whose model stops when its reader disconnects."""
    says = [Says(("Hel",), breaks=True, rest=("lo",))]
    with FakeChatUi(version, answer=says) as server, H2oSession(server.url) as session:
        [result] = session.batch(["a"])
        assert result.answer is not None
        if server.version.hanging_up_stops:
            assert len(server.prompts) == 2
        else:
            assert result.answer.text == "Hello"
            assert len(server.prompts) == 1
        assert not server.conversations
        assert not server.stops


def test_a_refusal_by_the_rate_limit_is_not_counted_as_an_attempt() -> None:
    answers: list[str | ScriptedAnswer] = [
        ScriptedAnswer(status=429, error="Too many", retry_after=1),
        ScriptedAnswer(status=429, error="Too many", retry_after=1),
        "Hello",
    ]
    with serve(answers, chat_ui="0.4") as server, H2oSession(server.url) as session:
        results = list(session.batch(["a", "b"], concurrency=1))
        assert texts(results) == ["Hello", "Hello"]
        assert {each.attempts for each in results} == {1}


def test_an_account_without_a_login_stops_and_others_continue() -> None:
    with FakeChatUi("head", answer=answer, login="401") as server:
        good = H2oSession(server.url, cookies=server.browser())
        with good, H2oSession(server.url, cookies="hf-chat=expired") as bad:
            batch = run([bad, good], map(str, range(10)))
            assert len(list(batch)) == 10
            states = [each.state for each in batch.progress.accounts]
            assert states[0].startswith("stopped: ")
            assert states[1] == "done"
        assert not server.conversations


def test_without_any_login_the_batch_ends_with_the_error(tmp_path: Path) -> None:
    with FakeChatUi("head", answer=answer, login="401") as server:
        with (
            H2oSession(server.url, cookies="hf-chat=expired") as bad,
            pytest.raises(AuthenticationError),
        ):
            list(bad.batch(["a"], journal=tmp_path / "j"))
        with H2oSession(server.url, cookies=server.browser()) as good:
            assert texts(list(good.batch(["a"], journal=tmp_path / "j"))) == ["To a"]


def test_a_server_that_is_down_is_waited_for() -> None:
    down = threading.Event()
    down.set()

    def before(exchange: Exchange) -> bool:
        if down.is_set():
            exchange.answer(503, b"upstream is down", "text/plain")
        return down.is_set()

    with (
        FakeChatUi("head", answer=answer, before=before) as server,
        H2oSession(server.url, max_retries=0) as session,
        session.batch(["a"]) as batch,
    ):
        server.wait_for(lambda _: "waiting for" in batch.progress.accounts[0].state)
        down.clear()
        [result] = batch
        assert result.attempts == 1


@pytest.mark.parametrize(("version", "attempts"), [("head", 1), ("0.4", 2)])
def test_a_gateway_that_failed_may_have_passed_the_prompt_on(version: str, attempts: int) -> None:
    """It is looked up before it is sent again. v0.4 does not list a prompt without its answer."""
    failed: list[int] = []

    def before(exchange: Exchange) -> bool:
        is_message = exchange.request.method == "POST" and exchange.request.path.count("/") == 2
        if not is_message or failed:
            return False
        failed.append(len(server.requests))
        exchange.answer(502, b"bad gateway", "text/plain")
        return True

    with FakeChatUi(version, answer=answer, before=before) as server:
        with H2oSession(server.url, max_retries=0) as session:
            [result] = session.batch(["a"])
        looks = [each for each in server.requests[failed[0] :] if each.method == "GET"]
        assert looks
        assert (texts([result]), result.attempts) == (["To a"], attempts)
        assert not server.conversations


def test_failed_deletions_are_retried_at_the_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(recording, "_PAUSE", 0.001)
    refused: list[Exchange] = []

    def before(exchange: Exchange) -> bool:
        is_refused = exchange.request.method == "DELETE" and len(refused) < recording._TRIES
        if is_refused:
            refused.append(exchange)
            exchange.answer(503, b"upstream is down", "text/plain")
        return is_refused

    with FakeChatUi("head", answer=answer, before=before) as server:
        with H2oSession(server.url, max_retries=0) as session:
            assert texts(list(session.batch(["a"]))) == ["To a"]
        assert len(refused) == recording._TRIES
        assert server.conversations == {}
    assert caplog.records == []


def test_a_server_that_stays_down_ends_the_batch(tmp_path: Path) -> None:
    with H2oSession("http://127.0.0.1:1") as session:
        batch = session.batch(["a"], journal=tmp_path / "j", give_up_after=0)
        with pytest.raises(TransportError):
            next(batch)
        with pytest.raises(StopIteration):
            next(batch)
        assert batch.progress.waiting == 1


# Another run


def test_a_second_run_of_the_same_batch_sends_nothing(tmp_path: Path) -> None:
    with FakeChatUi("head", answer=answer) as server:
        for _ in range(2):
            with H2oSession(server.url) as session:
                results = list(session.batch(["a", "b"], journal=tmp_path / "j", ordered=True))
                assert texts(results) == ["To a", "To b"]
        assert len(server.prompts) == 2


def test_a_finished_batch_needs_no_server(tmp_path: Path) -> None:
    with FakeChatUi("head", answer=answer) as server, H2oSession(server.url) as session:
        list(session.batch(["a"], journal=tmp_path / "j"))
    with H2oSession("http://127.0.0.1:1") as session:
        assert texts(list(session.batch(["a"], journal=tmp_path / "j"))) == ["To a"]


def test_an_unreachable_account_does_not_delay_others() -> None:
    with (
        FakeChatUi("head", answer=answer) as server,
        H2oSession(server.url) as good,
        H2oSession("http://127.0.0.1:1") as bad,
    ):
        assert len(list(run([bad, good], map(str, range(5))))) == 5


def test_a_batch_that_is_closed_before_it_begins_does_not_begin() -> None:
    async def closing() -> None:
        async with AsyncH2oSession("http://127.0.0.1:1") as session:
            batch = session.batch(["a"])
            await batch.aclose()
            with pytest.raises(ConfigurationError, match="started or closed"):
                await batch.__anext__()

    anyio.run(closing)


def test_another_server_can_continue_the_batch(tmp_path: Path) -> None:
    with FakeChatUi("head", answer=answer) as first, FakeChatUi("0.4", answer=answer) as second:
        with (
            H2oSession(first.url) as session,
            session.batch(["a"], journal=tmp_path / "j") as batch,
        ):
            list(batch)
        with H2oSession(second.url) as session:
            results = list(session.batch(["a", "b"], journal=tmp_path / "j", ordered=True))
        assert texts(results) == ["To a", "To b"]
        assert [each.server for each in results] == [first.url, second.url]
        assert [each.last for each in second.prompts] == ["b"]


@every_version
def test_an_interrupted_batch_is_continued(version: str, tmp_path: Path) -> None:
    """On the newest servers the model continues; on others it is stopped."""
    held: list[str] = []

    def holding(asked: Asked) -> Says:
        if len(held) < 3 and asked.last != "p0":
            held.append(asked.last)
            return Says(("To ",), holds=True, rest=(asked.last,))
        return answer(asked)

    prompts = [f"p{number}" for number in range(10)]
    with FakeChatUi(version, answer=holding) as server:
        with H2oSession(server.url) as session:
            began = time.monotonic()
            with session.batch(prompts, journal=tmp_path / "j", concurrency=4) as batch:
                server.wait_for(lambda fake: len(held) == 3)
                while batch.progress.answered < 1:
                    time.sleep(0.01)
                next(batch)
            assert time.monotonic() - began < PATIENCE / 4
        server.released.set()
        if VERSIONS[version].is_latest:
            assert len(server.conversations) == 3
            assert not server.stops
        with H2oSession(server.url) as session:
            results = list(session.batch(prompts, journal=tmp_path / "j", ordered=True))
        assert [each.index for each in results] == list(range(10))
        assert texts(results) == [f"To {each}" for each in prompts]
        if VERSIONS[version].is_latest:
            assert not asked_twice(server)
        assert not server.conversations


def test_a_garbage_collected_batch_ends(tmp_path: Path) -> None:
    with FakeChatUi("head", answer=answer) as server, H2oSession(server.url) as session:
        batch = session.batch(map(str, range(1000)), journal=tmp_path / "j")
        next(batch)
        del batch
        gc.collect()
        end = time.monotonic() + PATIENCE
        while any(each.name == "h2o_client-batch" for each in threading.enumerate()):
            assert time.monotonic() < end
            time.sleep(0.01)
        assert len(server.prompts) < 1000


def test_the_journal_of_a_garbage_collected_batch_is_free(tmp_path: Path) -> None:
    with FakeChatUi("head", answer=answer) as server, H2oSession(server.url) as session:
        prompts = list(map(str, range(50)))
        batch = session.batch(prompts, journal=tmp_path / "j")
        next(batch)
        del batch
        gc.collect()
        results = list(session.batch(prompts, journal=tmp_path / "j"))
        assert {*texts(results)} == {f"To {each}" for each in prompts}


def test_a_stopped_batch_leaves_its_journal_to_the_next_one(tmp_path: Path) -> None:
    with FakeChatUi("head", answer=answer) as server, H2oSession(server.url) as session:
        prompts = list(map(str, range(50)))
        stopped = session.batch(prompts, journal=tmp_path / "j")
        next(stopped)
        stopped.stop()
        results = list(session.batch(prompts, journal=tmp_path / "j"))
        assert {*texts(results)} == {f"To {each}" for each in prompts}
        assert {*texts(list(stopped))} <= {*texts(results)}  # the part that was already read


def test_the_journal_of_a_running_batch_is_refused(tmp_path: Path) -> None:
    with (
        FakeChatUi("head", answer=lambda _: Says(holds=True)) as server,
        H2oSession(server.url) as session,
        session.batch(["a"], journal=tmp_path / "j"),
    ):
        with pytest.raises(ConfigurationError) as caught:
            session.batch(["a"], journal=tmp_path / "j")
        assert str(caught.value) == (
            f"Another run uses the journal {tmp_path / 'j'}. "
            "Close that batch, or use another one: journal=."
        )


def test_the_journal_contains_no_cookie_of_the_user(tmp_path: Path) -> None:
    with FakeChatUi("head", answer=answer) as server:
        cookie = server.browser()
        with H2oSession(server.url, cookies=cookie) as session:
            list(session.batch(["a"], journal=tmp_path / "j"))
    secret = cookie.partition("=")[2].encode()
    written = b"".join(each.read_bytes() for each in tmp_path.iterdir())
    assert b"To a" in written
    assert secret not in written


def test_the_users_other_conversations_are_kept(tmp_path: Path) -> None:
    with FakeChatUi("head", answer=answer) as server:
        cookie = server.browser()
        kept = server.seed(cookie, "kept", ("user", "Hi"), ("assistant", "Hello"))
        empty = server.make(cookie.partition("=")[2], "acme/large", "")
        with H2oSession(server.url, cookies=cookie) as session:
            list(session.batch(["a"], journal=tmp_path / "j"))
        interrupt(tmp_path / "j")
        with H2oSession(server.url, cookies=cookie) as session:
            list(session.batch(["a", "b"], journal=tmp_path / "j"))
        assert set(server.conversations) == {kept.id, empty.id}


@every_version
@pytest.mark.parametrize("is_given", [False, True], ids=["anonymous", "cookie"])
def test_an_empty_conversation_left_by_a_killed_run_is_deleted(
    version: str, is_given: bool, tmp_path: Path
) -> None:
    with FakeChatUi(version, answer=answer) as server:
        cookie = server.browser()
        given = {"cookies": cookie} if is_given else {}
        with H2oSession(server.url, **given) as session:  # type: ignore[arg-type]
            list(session.batch(["a"], journal=tmp_path / "j"))
        [owner] = {each for each in server.sessions if server.sessions[each].sent}
        server.make(owner, "acme/large", "")
        interrupt(tmp_path / "j")
        with H2oSession(server.url, **given) as session:  # type: ignore[arg-type]
            list(session.batch(["a", "b"], journal=tmp_path / "j"))
        assert not server.conversations


def interrupt(path: Path) -> None:
    """As if a run had been killed while it created a conversation."""
    journal = Journal(path)
    journal._do("UPDATE prompts SET state = 1, outcome = NULL, number = NULL WHERE position = 0")
    journal.close()


def test_a_journal_that_cannot_be_written_ends_the_batch(tmp_path: Path) -> None:
    from h2o_client.batch import JournalError

    with FakeChatUi("head", answer=lambda asked: Says.words("long " * 2_000)) as server:
        with H2oSession(server.url) as session:
            batch = session.batch(map(str, range(20)), journal=tmp_path / "j")
            journal = batch._run._journal
            (pages,) = journal._one("PRAGMA page_count")
            journal._one(f"PRAGMA max_page_count = {pages + 5}")
            with pytest.raises(JournalError, match="full"):
                list(batch)
            batch.close()
        with H2oSession(server.url) as session:
            assert len(list(session.batch(map(str, range(20)), journal=tmp_path / "j"))) == 20
        assert not asked_twice(server)
        assert not server.conversations


def test_results_can_be_written_as_json() -> None:
    with FakeChatUi("head", answer=answer) as server, H2oSession(server.url) as session:
        [result] = session.batch([{"prompt": "a", "id": "x", "of": [1]}])
        assert json.dumps({"id": result.id, **result.extra}) == '{"id": "x", "of": [1]}'


@pytest.mark.parametrize("version", ["0.4", "0.9.4", "head"])
def test_closing_the_session_stops_its_batch_for_the_next_run(version: str, tmp_path: Path) -> None:
    holding = threading.Event()

    def holds(asked: Asked) -> Says:
        return Says(("To ",), holds=not holding.is_set(), rest=(asked.last,))

    names = [f"p{number}" for number in range(9)]
    with FakeChatUi(version, answer=holds) as server:
        with H2oSession(server.url) as session:
            batch = session.batch(names, journal=tmp_path / "j", concurrency=3)
            server.wait_for(lambda fake: len(fake.prompts) == 3)
        with pytest.raises(ConfigurationError, match="closed before its batch had ended"):
            list(batch)
        holding.set()
        server.released.set()
        with H2oSession(server.url) as session:
            results = list(session.batch(names, journal=tmp_path / "j"))
        assert sorted(str(each.answer) for each in results) == [f"To {name}" for name in names]
        assert not server.conversations


def test_closing_the_session_is_no_error_for_a_batch_whose_prompts_are_answered() -> None:
    with FakeChatUi("head", answer=answer) as server:
        with H2oSession(server.url) as session:
            batch = session.batch(["a", "b"])
            found = [next(batch), next(batch)]
        assert (len(found), list(batch)) == (2, [])
        assert not server.conversations


@pytest.mark.parametrize("version", ["0.9.4", "head"])
def test_a_stopped_batch_without_a_journal_leaves_nothing(version: str) -> None:
    with (
        FakeChatUi(version, answer=lambda _: Says(("To ",), holds=True)) as server,
        H2oSession(server.url) as session,
    ):
        with session.batch(["a", "b", "c"]):
            server.wait_for(lambda fake: len(fake.prompts) == 3)
        assert not server.conversations
        assert not server.violations


@pytest.mark.parametrize("version", ["0.9.4", "head"])
def test_conversations_that_a_stopped_batch_could_not_delete_are_deleted_with_the_session(
    version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("h2o_client.batch.batch._STOP_WITHIN", 0.3)
    is_over = threading.Event()

    def before(exchange: Exchange) -> bool:
        # The server is busy when the batch ends.
        if exchange.request.method == "DELETE" or exchange.request.path.endswith("-generating"):
            is_over.wait(PATIENCE)
        return False

    holding = Says(("To ",), holds=True)
    with FakeChatUi(version, answer=lambda _: holding, before=before) as server:
        with H2oSession(server.url) as session:
            with session.batch(["a", "b", "c"]):
                server.wait_for(lambda fake: len(fake.prompts) == 3)
            assert len(server.conversations) == 3
            is_over.set()
        assert not server.conversations
        assert not server.violations


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_batch_in_a_forked_process_is_an_error() -> None:
    with (
        FakeChatUi("head", answer=lambda _: Says(holds=True)) as server,
        H2oSession(server.url) as session,
        session.batch(["a"]) as batch,
    ):
        child = os.fork()
        if child == 0:
            try:
                next(batch)
            except ConfigurationError:
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitpid(child, 0)[1] == 0


def test_a_program_that_ends_during_its_batch_stops_it() -> None:
    with FakeChatUi("head", answer=lambda _: Says(holds=True)) as server:
        code = (
            "import sys; from h2o_client import H2oSession; "
            "batch = H2oSession(sys.argv[1]).batch(['a', 'b']); "
            "print('begun', flush=True); sys.stdin.readline()"
        )
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        program = start([sys.executable, "-c", code, server.url], **pipes)
        server.wait_for(lambda fake: len(fake.prompts) == 2)
        program.communicate(b"\n", timeout=PATIENCE)
        assert program.returncode == 0
        assert not server.conversations
