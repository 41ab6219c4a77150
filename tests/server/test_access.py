from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from h2o_client.server import Access, Server, serve
from h2o_client.server.access import write_to
from local_service import PATIENCE
from visitors import FedEngine, Stream, Visitor

RECORD = Access("2026-01-01T00:00:00.000Z", "GET", "/", 200, 1.5, 10)


@pytest.fixture
def engine() -> FedEngine:
    return FedEngine()


@pytest.fixture
def records() -> list[Access]:
    return []


@pytest.fixture
def server(engine: FedEngine, records: list[Access]) -> Iterator[Server]:
    with serve(engine, on_access=records.append, chat_ui="0.4") as server:
        yield server


def test_a_request_is_recorded_before_its_response_is_complete(
    server: Server, records: list[Access]
) -> None:
    answer = Visitor(server.url).send("GET", "/__data.json")
    (record,) = records
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", record.time)
    assert (record.method, record.path, record.status) == ("GET", "/__data.json", 200)
    assert record.bytes == len(answer.content)
    assert 0 <= record.ms < 10_000


def test_refusals_of_every_kind_are_recorded(server: Server, records: list[Access]) -> None:
    visitor = Visitor(server.url)
    visitor.send("GET", "/nowhere")
    visitor.send("GET", "/", headers={"Host": "evil.example"})
    visitor.send("PUT", "/settings")
    assert [record.status for record in records] == [404, 421, 405]


def test_neither_prompts_nor_cookies_nor_queries_are_recorded(
    server: Server, records: list[Access], engine: FedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("h2o_client.server.v0_3.routes._SEARCH_LASTS", 0.0)
    visitor = Visitor(server.url, "sesame")
    made = visitor.create()
    engine.feed.put(None)
    visitor.ask(made, "secret question")
    visitor.send("GET", f"/conversation/{made}/web-search?prompt=secret")
    assert len(records) == 3
    assert not re.search("secret|sesame", repr(records))


def test_a_request_whose_client_left_is_also_recorded(
    server: Server, records: list[Access], engine: FedEngine
) -> None:
    visitor = Visitor(server.url)
    made = visitor.create()
    stopped = Stream(visitor, made)
    assert engine.begun.wait(PATIENCE)
    visitor.send("POST", f"/conversation/{made}/stop-generating")
    assert engine.ended.wait(PATIENCE)
    stopped.close()
    server.close()
    message = next(record for record in records if record.path == f"/conversation/{made}")
    assert (message.status, message.bytes) == (None, 0)


def test_a_record_is_a_line_of_json() -> None:
    stream = io.StringIO()
    write = write_to(stream)
    write(RECORD)
    write(RECORD)
    first, second, rest = stream.getvalue().split("\n")
    assert json.loads(first) == json.loads(second)
    assert (json.loads(first)["status"], rest) == (200, "")


@pytest.mark.parametrize("error", [BrokenPipeError, ValueError])
def test_a_log_without_a_reader_does_no_harm(error: type[Exception]) -> None:
    class Broken(io.StringIO):
        def write(self, text: Any) -> int:
            raise error

    write_to(Broken())(RECORD)
