from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence

import pytest

from h2o_client.server import Turn
from h2o_client.server.generation import Generations, Overloaded
from h2o_client.wire.events import Final, Token
from local_service import PATIENCE


class WaitingEngine:
    """An engine that waits before each token until the test continues it."""

    def __init__(self) -> None:
        self.called = 0
        self.begun = threading.Event()
        self.on = threading.Event()
        self.closed = threading.Event()

    def __call__(
        self, turns: Sequence[Turn], parameters: Mapping[str, object], stopped: Callable[[], bool]
    ) -> Iterator[Token | Final]:
        self.called += 1
        self.begun.set()
        try:
            while True:
                assert self.on.wait(PATIENCE)
                yield Token("on")
        finally:
            self.closed.set()


def test_a_token_after_the_stop_is_dropped_and_closes_the_engine() -> None:
    engine = WaitingEngine()

    async def main() -> None:
        generations = Generations(engine, limit=1, waiting=9)
        with generations.begin("c", [], {}) as generation:
            await asyncio.to_thread(engine.begun.wait, 10)
        engine.on.set()
        assert await generation.next() is None
        generations.close()

    asyncio.run(main())
    assert engine.closed.is_set()


def test_closing_stops_running_and_waiting_generations() -> None:
    engine = WaitingEngine()

    async def main() -> None:
        generations = Generations(engine, limit=1, waiting=9)
        with generations.begin("c", [], {}), generations.begin("c", [], {}):
            await asyncio.to_thread(engine.begun.wait, 10)
            engine.on.set()
            generations.close()

    asyncio.run(main())
    assert engine.called == 1
    assert engine.closed.is_set()


def test_a_generation_stopped_before_its_turn_never_calls_the_engine() -> None:
    engine = WaitingEngine()

    async def main() -> None:
        generations = Generations(engine, limit=1, waiting=9)
        with generations.begin("first", [], {}):
            await asyncio.to_thread(engine.begun.wait, 10)
            with generations.begin("second", [], {}) as waiting:
                waiting.stopped.set()
        engine.on.set()
        assert await waiting.next() is None
        generations.close()

    asyncio.run(main())
    assert engine.called == 1


class Flood:
    """An endless engine without pauses."""

    def __init__(self) -> None:
        self.made = 0
        self.full = threading.Event()

    def __call__(
        self, turns: Sequence[Turn], parameters: Mapping[str, object], stopped: Callable[[], bool]
    ) -> Iterator[Token | Final]:
        while True:
            self.made += 1
            if self.made > 1024:
                self.full.set()
            yield Token("on")


def test_an_engine_faster_than_its_reader_waits_and_can_be_stopped() -> None:
    engine = Flood()

    async def main() -> None:
        generations = Generations(engine, limit=1, waiting=0)
        with generations.begin("c", [], {}) as generation:
            await asyncio.to_thread(engine.full.wait, 10)
            assert await generation.next() == Token("on")
        generations.close()

    asyncio.run(main())
    assert 1024 < engine.made <= 1026


def test_generations_beyond_the_limits_are_refused() -> None:
    engine = WaitingEngine()

    async def main() -> None:
        generations = Generations(engine, limit=1, waiting=1)
        with (
            generations.begin("a", [], {}),
            generations.begin("b", [], {}),
            pytest.raises(Overloaded),
            generations.begin("c", [], {}),
        ):
            pass
        engine.on.set()
        generations.close()

    asyncio.run(main())


def test_an_answer_whose_engine_has_ended_does_not_count() -> None:
    def done(
        turns: Sequence[Turn], parameters: Mapping[str, object], stopped: Callable[[], bool]
    ) -> Iterator[Token | Final]:
        return iter([Final()])

    async def main() -> None:
        generations = Generations(done, limit=1, waiting=0)
        with generations.begin("a", [], {}) as first:
            assert await first.next() == Final()
            assert await first.next() is None
            with generations.begin("b", [], {}) as second:
                assert await second.next() == Final()
        generations.close()

    asyncio.run(main())
