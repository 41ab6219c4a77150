"""Many readers of one log, and readers that do not read, on the latest chat-ui."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import pytest

from h2o_client.server import Limits, asgi_messages, generation, serve
from h2o_client.server.latest import frames
from h2o_client.wire.events import Final
from h2o_client.wire.runlog import write_update
from local_service import PATIENCE
from visitors import COMPLETED, Asked, FedEngine, Guest, Reader, eventually, log_of, numbers, text


@pytest.fixture
def engine() -> FedEngine:
    return FedEngine()


@pytest.fixture
def guest(engine: FedEngine) -> Iterator[Guest]:
    with serve(engine, chat_ui="latest") as server:
        yield Guest(server.url)


def test_50_concurrent_readers_read_one_log_while_it_is_written(
    engine: FedEngine, guest: Guest
) -> None:
    made = guest.create()
    asked = Asked(guest, made)
    with ThreadPoolExecutor(50) as pool:
        readers = [Reader(guest, log_of(made, asked.id)) for _ in range(50)]
        reading = [pool.submit(each.rest) for each in readers]
        words = [f"{number} " for number in range(200)]
        for place in range(0, 200, 20):
            engine.words(*words[place : place + 20])
            threading.Event().wait(0.05)
        engine.feed.put(Final())
        asked.whole()
        found = [each.result(60) for each in reading]
    assert {text(each) for each in found} == {"".join(words)}
    assert {each[-1] == COMPLETED and numbers(each) == numbers(found[0]) for each in found} == {
        True
    }


def test_a_reader_that_does_not_read_delays_nothing(
    engine: FedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generation, "_LONGEST_ANSWER", 10**9)
    sent: list[int] = []
    dropped: list[object] = []
    drop = asgi_messages.drop

    async def noted(*given: Any) -> None:
        dropped.append(given)
        await drop(*given)

    monkeypatch.setattr(asgi_messages, "drop", noted)

    def counted(number: int, update: bytes) -> bytes:
        sent.append(len(update))
        return write_update(number, update)

    limits = Limits(log_seconds=2.0, logs=10**9)
    with serve(engine, chat_ui="latest", limits=limits) as server:
        guest = Guest(server.url)
        made = guest.create()
        asked = Asked(guest, made)
        asked.listener.next()
        asked.leave()
        monkeypatch.setattr(frames, "write_update", counted)
        host = urlsplit(guest.url)
        with socket.create_connection(
            (str(host.hostname), host.port or 0), timeout=PATIENCE
        ) as client:
            head = f"GET {log_of(made)} HTTP/1.1\r\nHost: {host.netloc}\r\n"
            client.sendall(f"{head}Cookie: hf-chat={guest.session}\r\n\r\n".encode())
            eventually(lambda: len(sent) == 2)
            # More than the system's buffers for a reader, which can be several megabytes.
            for _ in range(40):
                engine.words("x" * 500_000)
                threading.Event().wait(0.01)
            engine.feed.put(Final())
            eventually(lambda: guest.stored(made)[-1].get("interrupted") is False)
            eventually(lambda: len(dropped) == 1)
            # Only what fits into the system's buffers.
            assert sum(sent) < 15_000_000
            assert len(guest.stored(made)[-1]["content"]) == 20_000_000


def test_closing_the_server_ends_its_responses(leaks_nothing: None) -> None:
    engine = FedEngine()
    with serve(engine, chat_ui="latest") as server:
        guest = Guest(server.url)
        made = guest.create()
        asked = Asked(guest, made)
        asked.listener.next()
        readers = [Reader(guest, path) for path in (log_of(made), "/api/v2/generations/live")]
        for each in readers:
            each.next()
        asked.leave()
    assert engine.ended.is_set()
    for each in readers:
        with pytest.raises((OSError, http.client.HTTPException)):
            each.response.read()
        each.close()
