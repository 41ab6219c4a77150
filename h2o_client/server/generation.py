"""Running answers: an `Engine`, blocking in a thread, becomes events that a coroutine awaits.

Generations are begun, stopped and read on the event loop; only the engine runs elsewhere.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from h2o_client.errors import GenerationError
from h2o_client.server.engine import Engine, Turn
from h2o_client.wire.events import Failure, Final, Token

logger = logging.getLogger("h2o_client.server")


class Generations:
    """All that ``engine`` does: at most ``limit`` generations at once, the others wait."""

    def __init__(self, engine: Engine, *, limit: int) -> None:
        self._engine = engine
        self._threads = ThreadPoolExecutor(limit, thread_name_prefix="h2o-generation")
        self._running: dict[str, list[Generation]] = {}

    @contextmanager
    def begin(
        self, conversation_id: str, turns: Sequence[Turn], parameters: Mapping[str, object]
    ) -> Iterator[Generation]:
        """Generate inside the block; what is unfinished at its end is stopped."""
        generation = Generation(self._engine, turns, parameters)
        self._running.setdefault(conversation_id, []).append(generation)
        self._threads.submit(generation.run)
        try:
            yield generation
        finally:
            generation.stopped.set()
            generation.ended.set()
            self._running[conversation_id].remove(generation)
            if not self._running[conversation_id]:
                del self._running[conversation_id]

    async def stop(self, conversation_id: str) -> None:
        """Stop what runs in the conversation, if anything does, and wait until it has ended."""
        for generation in list(self._running.get(conversation_id, ())):
            generation.stopped.set()
            await generation.ended.wait()

    def close(self) -> None:
        """Stop everything, and wait until the engine has ended."""
        for generations in self._running.values():
            for generation in generations:
                generation.stopped.set()
        self._threads.shutdown(cancel_futures=True)


class Generation:
    """One answer in the making.

    ``stopped`` is set when nobody wants the rest, ``ended`` when its part is kept, too.
    """

    def __init__(
        self, engine: Engine, turns: Sequence[Turn], parameters: Mapping[str, object]
    ) -> None:
        self.stopped = asyncio.Event()
        self.ended = asyncio.Event()
        self._engine = engine
        self._turns = turns
        self._parameters = parameters
        self._events: asyncio.Queue[Token | Final | Failure | None] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()

    async def next(self) -> Token | Final | Failure | None:
        """The next event; None at the end."""
        return await self._events.get()

    def run(self) -> None:
        """Generate, in the calling thread, until the end or a stop."""
        try:
            self._generate()
        except GenerationError as exc:
            self._put(Failure(exc.said, exc.error_type, exc.status))
        except Exception:
            logger.exception("The engine failed")
            self._put(Failure("Request failed during generation", "generation", 424))
        self._put(None)

    def _generate(self) -> None:
        if self.stopped.is_set():
            return
        events = self._engine(self._turns, self._parameters, self.stopped.is_set)
        try:
            for event in events:
                if self.stopped.is_set():
                    return
                self._put(event)
                if isinstance(event, Final):
                    return
        finally:
            # An engine that is a generator frees what it holds here, in its own thread.
            getattr(events, "close", _nothing)()

    def _put(self, event: Token | Final | Failure | None) -> None:
        self._loop.call_soon_threadsafe(self._events.put_nowait, event)


def _nothing() -> None:
    return None
