"""Run engines in threads, and pass their tokens to coroutines as events.

The event loop starts, stops and reads generations. Only the engines run in threads.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import msgspec

from h2o_client.errors import GenerationError
from h2o_client.server.engine import AnswerCut, Engine, Turn, prompt_of
from h2o_client.server.failure_log import log_failure
from h2o_client.wire.events import Failure, Final, Token


class Refused(Failure, frozen=True):
    """The engine failed. ``retry_after`` (seconds) is sent with its status."""

    retry_after: float | None = None


class Cut(msgspec.Struct, frozen=True):
    """The engine's connection broke."""


GenerationEvent = Token | Final | Refused | Cut | None


class Overloaded(Exception):
    """The limit of running and waiting generations is reached."""


class Generations:
    """The generations of an ``engine``: at most ``limit`` run, and ``waiting`` more wait."""

    def __init__(self, engine: Engine, *, limit: int, waiting: int) -> None:
        self._engine = engine
        self._most = limit + waiting
        self._threads = ThreadPoolExecutor(limit, thread_name_prefix="h2o-generation")
        self._running: dict[str, list[Generation]] = {}

    @contextmanager
    def begin(
        self, name: str, turns: Sequence[Turn], parameters: Mapping[str, object]
    ) -> Iterator[Generation]:
        """Generate inside the block. At the end of the block, an unfinished generation is stopped.

        `stop` finds it by its ``name``. Raises `Overloaded` if too many are already waiting.
        """
        # Generations whose engine has ended do not count: they only send their last bytes.
        unfinished = [each for all_of in self._running.values() for each in all_of if not each.over]
        if len(unfinished) >= self._most:
            raise Overloaded
        generation = Generation(self._engine, turns, parameters)
        self._running.setdefault(name, []).append(generation)
        self._threads.submit(generation.run)
        try:
            yield generation
        finally:
            generation.stopped.set()
            generation.ended.set()
            self._running[name].remove(generation)
            if not self._running[name]:
                del self._running[name]

    async def stop(self, name: str) -> None:
        """Stop the generations with that name, and wait until they have ended."""
        for generation in list(self._running.get(name, ())):
            generation.stopped.set()
            await generation.ended.wait()

    def close(self) -> None:
        """Stop everything, and wait until the engine has ended."""
        for generations in self._running.values():
            for generation in generations:
                generation.stopped.set()
        self._threads.shutdown(cancel_futures=True)


class Generation:
    """One answer that is being generated.

    ``stopped`` is set when the rest is not needed, ``ended`` when the text is stored. ``over`` is
    True when the engine has ended. ``prompt`` is the model's prompt if ``return_full_text``
    requests it; it is set before the last event.
    """

    def __init__(
        self, engine: Engine, turns: Sequence[Turn], parameters: Mapping[str, object]
    ) -> None:
        self.stopped: asyncio.Event = asyncio.Event()
        self.ended: asyncio.Event = asyncio.Event()
        self.over: bool = False
        self.prompt: str = ""
        self._engine = engine
        self._turns = turns
        self._parameters = parameters
        self._events: asyncio.Queue[GenerationEvent] = asyncio.Queue()
        self._room = threading.Semaphore(_AHEAD)
        self._loop = asyncio.get_running_loop()

    async def next(self) -> GenerationEvent:
        """Return the next event; None at the end."""
        event = await self._events.get()
        self._room.release()
        return event

    def run(self) -> None:
        """Generate, in the calling thread, until the end or a stop."""
        try:
            self._generate()
        except GenerationError as exc:
            wait = getattr(exc, "retry_after", None)
            self._put(Refused(exc.said[:_LONGEST_REFUSAL], exc.error_type, exc.status, wait))
        except AnswerCut:
            self._put(Cut())
        except Exception as exc:
            log_failure("The engine", exc)
            self._put(Refused("Request failed during generation", "generation", 424))
        self.over = True
        self._put(None)

    def _generate(self) -> None:
        if self.stopped.is_set():
            return
        length = 0
        events = self._engine(self._turns, self._parameters, self.stopped.is_set)
        try:
            for event in events:
                # An engine waits for a slower reader, so that memory is bounded.
                while not self._room.acquire(timeout=0.1):
                    if self.stopped.is_set():
                        return
                if self.stopped.is_set():
                    return
                if isinstance(event, Final):
                    if self._parameters.get("return_full_text"):
                        self.prompt = prompt_of(self._engine, self._turns, self._parameters)
                    self._put(event)
                    return
                self._put(_encodable(event, most=_LONGEST_ANSWER - length))
                length += len(event.text)
                if length > _LONGEST_ANSWER:
                    self._put(Final(finish_reason="length"))
                    return
        finally:
            # If the engine is a generator, free its resources here, in its own thread.
            getattr(events, "close", _nothing)()

    def _put(self, event: GenerationEvent) -> None:
        self._loop.call_soon_threadsafe(self._events.put_nowait, event)


_AHEAD = 1024
_LONGEST_ANSWER = 1_000_000  # characters; a longer answer ends as at the model's own limit
_LONGEST_REFUSAL = 4000
_HALF_PAIR = re.compile("[\ud800-\udfff]")


def _encodable(token: Token, *, most: int) -> Token:
    # A lone surrogate cannot be encoded as UTF-8.
    text = token.text[:most]
    if not text.isascii():
        text = _HALF_PAIR.sub("\ufffd", text)
    return Token(text, special=token.special)


def _nothing() -> None:
    return None
