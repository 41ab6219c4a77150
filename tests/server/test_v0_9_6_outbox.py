from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from h2o_client.server.v0_9_6 import outbox as module
from h2o_client.server.v0_9_6.outbox import Outbox


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(main, 10))


def test_take_returns_all_pieces_together_and_then_the_end() -> None:
    async def main() -> None:
        box = Outbox()
        box.put(b"one ")
        box.put(b"two ")
        assert await box.take() == b"one two "
        assert box.empty
        taken = asyncio.ensure_future(box.take())
        await asyncio.sleep(0)
        assert not taken.done()
        box.put(b"three")
        box.close()
        assert await taken == b"three"
        assert await box.take() == b""

    run(main())


def test_a_reader_that_has_left_receives_nothing_and_blocks_nothing() -> None:
    async def main() -> None:
        box = Outbox()
        box.put(b"x" * 10_000_000)
        waiting = asyncio.ensure_future(box.room())
        await asyncio.sleep(0)
        assert not waiting.done()
        box.leave()
        await waiting
        box.put(b"more")
        assert box.empty
        assert not box.neglected.is_set()

    run(main())


def test_reading_frees_space() -> None:
    async def main() -> None:
        box = Outbox()
        await box.room()
        box.put(b"x" * 10_000_000)
        waiting = asyncio.ensure_future(box.room())
        await asyncio.sleep(0)
        assert len(await box.take()) == 10_000_000
        await waiting
        assert not box.neglected.is_set()

    run(main())


def test_a_reader_that_does_not_read_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PATIENCE", 0.01)

    async def main() -> None:
        box = Outbox()
        box.put(b"x" * 10_000_000)
        await box.room()
        assert box.neglected.is_set()
        assert box.empty

    run(main())
