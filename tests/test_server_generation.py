from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence

from h2o_client.server import Turn
from h2o_client.server.generation import Generations
from h2o_client.wire.events import Final, Token


class WaitingEngine:
    """Waits before each of its tokens until it is let on."""

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
                assert self.on.wait(10)
                yield Token("on")
        finally:
            self.closed.set()


def test_a_token_made_after_the_stop_is_not_handed_over_and_closes_the_engine() -> None:
    engine = WaitingEngine()

    async def main() -> None:
        generations = Generations(engine, limit=1)
        with generations.begin("c", [], {}) as generation:
            await asyncio.to_thread(engine.begun.wait, 10)
        engine.on.set()
        assert await generation.next() is None
        generations.close()

    asyncio.run(main())
    assert engine.closed.is_set()


def test_closing_stops_what_runs_and_what_waits_without_calling_the_engine_again() -> None:
    engine = WaitingEngine()

    async def main() -> None:
        generations = Generations(engine, limit=1)
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
        generations = Generations(engine, limit=1)
        with generations.begin("first", [], {}):
            await asyncio.to_thread(engine.begun.wait, 10)
            with generations.begin("second", [], {}) as waiting:
                waiting.stopped.set()
        engine.on.set()
        assert await waiting.next() is None
        generations.close()

    asyncio.run(main())
    assert engine.called == 1
