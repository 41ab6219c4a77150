"""The log of a run, and the collection of logs, on asyncio without a server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine

import pytest

from h2o_client.server.latest import run_logs
from h2o_client.server.latest.run_logs import Log, Logs
from h2o_client.server.records import Streamed, Update
from h2o_client.wire.events import Failure, Final, Status, Title

STARTED, FINISHED = Status("started"), Status("finished")


def run(test: Callable[[], Coroutine[object, object, None]]) -> Callable[[], None]:
    def in_a_loop() -> None:
        asyncio.run(asyncio.wait_for(test(), 10))

    in_a_loop.__name__ = test.__name__
    return in_a_loop


def documents(log: Log) -> list[object]:
    found: list[object] = []
    while (document := log.document(len(found) + 1)) is not None:
        found.append(json.loads(document))
    return found


def ended(*updates: Update, generation_id: str = "g", size: int = 0) -> Log:
    log = Log(generation_id)
    for each in updates:
        log.add(each)
    log.size += size
    log.close()
    return log


@run
async def test_updates_are_numbered_from_1() -> None:
    log = Log("g")
    log.add(STARTED)
    log.add(Title("T"))
    assert log.document(1) == b'{"type":"status","status":"started"}'
    assert log.document(2) == b'{"type":"title","title":"T"}'
    assert [log.document(number) for number in (-1, 0, 3)] == [None] * 3


@run
async def test_tokens_of_a_short_time_are_one_update_without_padding() -> None:
    log = Log("g")
    for text in ("one ", "two ", "\u2028\0"):
        log.add_text(text)
    assert documents(log) == []
    assert await log.more(5)
    assert documents(log) == [{"type": "stream", "token": "one two \u2028\0"}]
    log.add_text("three")
    log.add_text("four")
    log.add(Final("all", interrupted=False))
    assert documents(log)[1:] == [
        {"type": "stream", "token": "threefour"},
        {"type": "finalAnswer", "text": "all", "interrupted": False},
    ]
    log.close()


@run
async def test_a_long_text_is_an_update_at_once() -> None:
    log = Log("g")
    for _ in range(3):
        log.add_text("x" * 40_000)
    assert documents(log) == [{"type": "stream", "token": "x" * 80_000}]
    log.close()
    assert log.all() == (Streamed(80_000), Streamed(40_000))


@run
async def test_the_stored_log_has_lengths_instead_of_texts() -> None:
    log = Log("g")
    log.add(STARTED)
    log.add_text("na\u00efve \U0001f600")
    assert log.all() == (STARTED, Streamed(8))
    assert documents(log)[1] == {"type": "stream", "token": "na\u00efve \U0001f600"}
    log.close()


@run
async def test_a_waiting_reader_is_woken_by_the_end_only() -> None:
    log = Log("g")
    assert not await log.more(0.01)
    waiting = [asyncio.ensure_future(log.more(5)) for _ in range(50)]
    await asyncio.sleep(0)
    log.close()
    assert await asyncio.gather(*waiting) == [True] * 50


@pytest.mark.parametrize(
    ("updates", "status"),
    [
        ([Final("x", interrupted=False), FINISHED], "completed"),
        ([FINISHED], "completed"),
        ([Final("x", interrupted=True), FINISHED], "interrupted"),
        ([Failure("no")], "error"),
        ([STARTED], "interrupted"),
        ([], "interrupted"),
    ],
)
def test_the_log_records_how_the_run_ended(updates: list[Update], status: str) -> None:
    assert ended(*updates).status == status


@run
async def test_a_log_is_found_by_its_run_id_and_the_last_one_without_an_id() -> None:
    logs = Logs(1000)
    first, second, other = Log("a"), Log("b"), Log("a")
    logs.add("one", first)
    logs.add("one", second)
    logs.add("two", other)
    assert logs.find("one", "a") is first
    assert logs.find("one", "") is second
    assert logs.find("two", "") is other
    assert logs.find("one", "c") is logs.find("three", "") is None
    assert logs.running() == [("one", first), ("one", second), ("two", other)]
    first.close()
    assert logs.running() == [("one", second), ("two", other)]


@run
async def test_above_the_limit_of_bytes_the_log_that_ended_first_expires() -> None:
    logs = Logs(1000)
    made = {name: Log(name) for name in "abc"}
    for name, log in made.items():
        logs.add(name, log)
        log.size = 400
    for name in "bac":  # in which they end
        made[name].close()
    assert logs.find("b", "b") is None
    assert logs.find("a", "a") is made["a"]
    assert logs.find("c", "c") is made["c"]


@run
async def test_the_log_of_a_running_answer_does_not_expire() -> None:
    logs = Logs(10)
    running, over = Log("a"), Log("b")
    logs.add("one", running)
    logs.add("one", over)
    running.size = over.size = 1000
    over.close()
    assert logs.find("one", "b") is None
    assert logs.find("one", "a") is running


@run
async def test_an_expired_log_frees_its_bytes_and_may_still_end() -> None:
    logs = Logs(1000)
    over, running, later = Log("a"), Log("b"), Log("c")
    for name, log in (("one", over), ("two", running), ("three", later)):
        logs.add(name, log)
        log.size = 900
    over.close()
    logs.forget("one")
    logs.forget("two")
    logs.forget("unknown")
    later.close()
    running.close()
    assert logs.find("three", "c") is later
    assert logs.find("one", "") is logs.find("two", "") is None
    assert logs.running() == []


def test_tokens_are_joined_for_a_fifth_of_a_second() -> None:
    assert run_logs._JOINED_WITHIN == 0.2
