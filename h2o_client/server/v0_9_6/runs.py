"""Answers in the making: each goes on to its end and is kept, whether its client stays or not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack

from h2o_client.server.engine import Turn
from h2o_client.server.generation import Cut, Generation, Generations, Refused, logger
from h2o_client.server.race import Overtaken, unless
from h2o_client.server.records import Update
from h2o_client.server.v0_9_6.outbox import Outbox
from h2o_client.wire import updates
from h2o_client.wire.events import Failure, Final, Status, Title, Token

Keep = Callable[[str, Sequence[Update], bool | None], None]
"""Gets an answer's text, how it came about, and whether that was interrupted; None where the answer
has no final one."""

_LONGEST = 1_000_000  # characters; there it ends as where the model's own limit ends it


class Runs:
    """All that runs; `close` when the server ends."""

    def __init__(self, generations: Generations) -> None:
        self._generations = generations
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(
        self,
        name: str,
        turns: Sequence[Turn],
        parameters: Mapping[str, object],
        *,
        title: str,
        keep: Keep,
    ) -> Outbox:
        """Begin an answer to ``turns``; what its client is to be told comes into the outbox.

        `Generations.stop` finds it by its ``name``. May raise `Overloaded`.
        """
        outbox = Outbox()
        with ExitStack() as stack:
            generation = stack.enter_context(self._generations.begin(name, turns, parameters))
            run = Run(generation, outbox, title=title, keep=keep)
            task = asyncio.get_running_loop().create_task(_go(run, stack.pop_all()))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return outbox

    async def close(self) -> None:
        """Wait for what has been stopped."""
        if self._tasks:
            await asyncio.wait(self._tasks)


class Run:
    """One answer: a generation's events come in, updates go out, the text is kept."""

    def __init__(self, generation: Generation, outbox: Outbox, *, title: str, keep: Keep) -> None:
        self._generation = generation
        self._outbox = outbox
        self._title = title
        self._keep = keep
        self._kept: list[Update] = []
        self._texts: list[str] = []
        self._length = 0

    async def go(self) -> None:
        """Until the answer has ended, in whichever way."""
        alive = asyncio.ensure_future(self._stay_alive())
        try:
            self._tell(Status("started"))
            self._outbox.put(_KEEP_ALIVE)
            if self._title:
                self._tell(Title(self._title))
            self._end(await self._until_stopped())
        finally:
            alive.cancel()
            self._outbox.close()

    @property
    def _text(self) -> str:
        return "".join(self._texts)

    async def _until_stopped(self) -> Final | Failure | None:
        try:
            end = await unless(self._answer(), self._generation.stopped.wait())
        except Overtaken:
            end = None
        except Exception:
            logger.exception("An answer failed")
            return Failure("An error occurred")
        # An engine that is stopped may end before this is noticed, in silence or with an error.
        if not isinstance(end, Final) and self._generation.stopped.is_set():
            return Final(self._text, interrupted=True)
        if not self._text.strip() and not isinstance(end, Failure):
            return Failure("No output was generated. Something went wrong.")
        return end

    async def _answer(self) -> Final | Failure | None:
        while isinstance(event := await self._generation.next(), Token):
            if event.special or not event.text:
                continue
            self._outbox.put(updates.write(event))
            self._texts.append(event.text)
            self._length += len(event.text)
            await self._outbox.room()
            if self._length > _LONGEST:
                event = Final()
                break
        if isinstance(event, Final):
            return Final(self._text.rstrip(), interrupted=False)
        if isinstance(event, Refused):
            return self._refused(event)
        if isinstance(event, Cut):
            return Failure("terminated" if self._texts else "Connection error.")
        return None

    def _refused(self, refused: Refused) -> Failure:
        # In mid-answer a model server has no status any more; before, it is part of the words.
        if self._texts or refused.status is None:
            return Failure(refused.message)
        return Failure(f"{refused.status} {refused.message}", status=refused.status)

    def _end(self, end: Final | Failure | None) -> None:
        text = (end.text or "") if isinstance(end, Final) else self._text
        closing = () if isinstance(end, Failure) else (Status("finished"),)
        last = () if end is None else (end,)
        interrupted = end.interrupted if isinstance(end, Final) else None
        streamed = (Token(text),) if text else ()
        # Kept before the client can know of the end, so that it reads back what it was told.
        self._keep(text, (*self._kept, *streamed, *last, *closing), interrupted)
        padding = updates.ANSWER_PADDING if isinstance(end, Final) else b""
        lines = [updates.write(each) for each in (*last, *closing)]
        lines.insert(len(last), padding)
        self._outbox.put(b"".join(lines))

    def _tell(self, update: Status | Title) -> None:
        self._kept.append(update)
        self._outbox.put(updates.write(update))

    async def _stay_alive(self) -> None:
        while True:
            await asyncio.sleep(_ALIVE_EVERY)
            if self._outbox.empty:
                self._outbox.put(_KEEP_ALIVE)


_KEEP_ALIVE = updates.write(Status("keepAlive"))
_ALIVE_EVERY = 0.1


async def _go(run: Run, ending: ExitStack) -> None:
    with ending:
        await run.go()
