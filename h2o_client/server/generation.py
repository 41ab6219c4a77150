"""Running answers: an `Engine`, blocking in a thread, becomes events that a coroutine awaits.

Generations are begun, stopped and read on the event loop; only the engine runs elsewhere.
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
    """The engine failed; ``retry_after`` (seconds) goes out with its status."""

    retry_after: float | None = None


class Cut(msgspec.Struct, frozen=True):
    """The engine's connection broke."""


GenerationEvent = Token | Final | Refused | Cut | None


class Overloaded(Exception):
    """As many generations run and wait as may."""


class Generations:
    """All that ``engine`` does: ``limit`` generations at once, ``waiting`` more wait their turn."""

    def __init__(self, engine: Engine, *, limit: int, waiting: int) -> None:
        self._engine = engine
        self._most = limit + waiting
        self._threads = ThreadPoolExecutor(limit, thread_name_prefix="h2o-generation")
        self._running: dict[str, list[Generation]] = {}

    @contextmanager
    def begin(
        self, name: str, turns: Sequence[Turn], parameters: Mapping[str, object]
    ) -> Iterator[Generation]:
        """Generate inside the block; what is unfinished at its end is stopped.

        `stop` finds it by its ``name``. Raises `Overloaded` when too many wait already.
        """
        # Not those whose engine has ended: their last bytes are only on their way.
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
        """Stop what runs under that name, if anything does, and wait until it has ended."""
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
    """One answer in the making.

    ``stopped`` is set when nobody wants the rest, ``ended`` when its part is kept, too; ``over``
    is true once the engine has done its work.
    ``prompt`` is the model's where ``return_full_text`` asks for it, known before the end.
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
        """The next event; None at the end."""
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
                # An engine quicker than its reader waits: what is made is not piled up.
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
            # An engine that is a generator frees what it holds here, in its own thread.
            getattr(events, "close", _nothing)()

    def _put(self, event: GenerationEvent) -> None:
        self._loop.call_soon_threadsafe(self._events.put_nowait, event)


_AHEAD = 1024
_LONGEST_ANSWER = 1_000_000  # characters; there it ends as where the model's own limit ends it
_LONGEST_REFUSAL = 4000
_HALF_PAIR = re.compile("[\ud800-\udfff]")


def _encodable(token: Token, *, most: int) -> Token:
    # Half a surrogate pair has no UTF-8, and so no place in an answer.
    text = token.text[:most]
    if not text.isascii():
        text = _HALF_PAIR.sub("\ufffd", text)
    return Token(text, special=token.special)


def _nothing() -> None:
    return None
