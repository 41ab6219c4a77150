"""`AsyncReply`: a streamed answer for ``async for``.

Between tokens the event loop itself waits for the socket, and received bytes are read without
blocking: a switch to a thread for each token would cost many times more than the token.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator, Mapping
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

import anyio.lowlevel

from h2o_client.aio.offload import (
    Pace,
    ThreadStart,
    call_in_thread,
    in_thread,
    is_cancelled,
    run_to_completion,
)
from h2o_client.aio.readiness import Readiness
from h2o_client.errors import ConfigurationError, H2oError
from h2o_client.log import collected_warnings, warn, without_frames
from h2o_client.timeouts import Expired
from h2o_client.transport.locks import Guard

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from h2o_client.answer.opening import Opening
    from h2o_client.answer.steps import Answer, AnswerSteps
    from h2o_client.answer.stream import AnswerStream
    from h2o_client.wire.events import Elicitation, Event

Prepare = Callable[[], "Opening"]
"""Reserves the conversation for an answer. Sends nothing; may wait for an answer that is ending."""

_openings = Pace(2, 0.002)


class AsyncReply:
    """`Reply` for async code. Use ``async for`` for its text, ``async with``, or `read`.

    Cleanup happens at the end of ``async with``, at the end of the answer, when the task is
    cancelled, or when the reply is garbage-collected. Only one task may iterate; others may call
    `stop` and `aclose` and read the attributes.
    """

    def __init__(self, prepare: Prepare) -> None:
        self._prepare = prepare
        self._holder = _Holder()
        self._readiness = Readiness()
        self._is_advancing = False  # whether a task is waiting for the next batch of events
        self._advanced: anyio.Event | None = None  # set when it has them, for other tasks
        self._steps: AnswerSteps | None = None

    @property
    def text(self) -> str:
        """All text received so far."""
        return "" if self._steps is None else self._steps.stream.transcript.text

    @property
    def answer(self) -> Answer | None:
        """The whole answer, once it has ended."""
        return None if self._steps is None else self._steps.answer

    @property
    def finish_reason(
        self,
    ) -> Literal["stop", "length", "stopped", "error", "incomplete"] | None:
        """How the answer ended: see `Reply.finish_reason`. None until then."""
        return None if self._steps is None else self._steps.finish_reason

    @property
    def model(self) -> str:
        """The model that the prompt was sent to; "" until then."""
        return "" if self._steps is None else self._steps.model

    @property
    def title(self) -> str | None:
        """The conversation's title, if the server sends one with the answer."""
        return None if self._steps is None else self._steps.stream.transcript.title

    @property
    def conversation_id(self) -> str:
        """The id of the answer's conversation."""
        return "" if self._steps is None else self._steps.stream.conversation_id

    @property
    def message_id(self) -> str | None:
        """The id of the answer, once it is known."""
        return None if self._steps is None else self._steps.message_id

    @property
    def time_to_first_token(self) -> float | None:
        """Seconds from sending the prompt to the first token; None until then."""
        return None if self._steps is None else self._steps.stream.timing.to_first_token

    @property
    def resumed(self) -> int:
        """How often the answer was resumed: see `Reply.resumed`."""
        return 0 if self._steps is None else self._steps.stream.times_resumed

    @property
    def resume_token(self) -> str | None:
        """See `Reply.resume_token`. None until the prompt is sent."""
        return None if self._steps is None else self._steps.resume_token()

    @property
    def elicitation(self) -> Elicitation | None:
        """A tool's question that the user has not answered yet (servers since July 2026)."""
        return None if self._steps is None else self._steps.stream.transcript.elicitation

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        steps = self._steps or await self._start()
        while True:
            for text in steps.texts:
                return text
            if not await self._advance(steps):
                raise StopAsyncIteration

    def events(self) -> AsyncIterator[Event | Answer]:
        """Iterate over everything that the server sends; the last event is the `Answer`.

        Events that were already consumed by iterating over the text are not repeated.
        """
        return _Events(self)

    async def read(self) -> Answer:
        """Wait for the whole answer and return it. If it fails, the error has ``.partial``."""
        steps = self._steps or await self._start()
        steps.take_all()
        while await self._advance(steps):
            steps.take_all()
        return steps.outcome()

    async def answer_elicitation(
        self,
        action: str = "accept",
        content: Mapping[str, object] | None = None,
        *,
        elicitation_id: str | None = None,
    ) -> None:
        """Answer a tool's question to the user: see `Reply.answer_elicitation`."""
        steps = self._steps or await self._start()
        await call_in_thread(partial(steps.answer_elicitation, action, content, elicitation_id))

    async def stop(self) -> None:
        """Stop the answer; the iteration then ends soon, without an error: see `Reply.stop`."""
        stream = self._holder.stream
        if stream is not None:
            await in_thread(stream.stop)

    async def aclose(self) -> None:
        """Close the connection, stop the model, delete the conversation if temporary."""
        await run_to_completion(self._holder.end)

    async def leave(self) -> None:
        """Close the connection without stopping the model: see `Reply.leave`."""
        self._holder.leave()
        await run_to_completion(self._holder.end)

    async def __aenter__(self) -> Self:
        if self._steps is None:
            await self._start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, _: TracebackType | None
    ) -> None:
        if self._holder.has_ended():
            self._holder.end()  # nothing is left to do
        # A cancelled task has already waited for this cleanup.
        elif not (is_cancelled(exc) and self._holder.is_ending()):
            await run_to_completion(self._holder.end, quickly=is_cancelled(exc))

    def __await__(self) -> Generator[Any, None, Self]:
        """Send the prompt: ``await client.stream(...)`` returns the reply itself."""
        return self.__aenter__().__await__()

    def __repr__(self) -> str:
        return "<AsyncReply not sent>" if self._steps is None else f"<AsyncReply {self._steps}>"

    def _ipython_display_(self) -> None:
        import_module("h2o_client.notebook").show_async(self)

    def __reduce__(self) -> str:
        raise TypeError("cannot pickle an AsyncReply: it holds a connection")

    async def _start(self) -> AnswerSteps:
        self._holder.take()
        start = await _openings.wait()
        warnings: list[str] = []
        try:
            steps = await in_thread(partial(self._open, start, warnings))
            for message in warnings:
                warn(message)
        except H2oError as exc:
            raise without_frames(exc)  # noqa: B904 - it is the same error
        except BaseException:
            await run_to_completion(self._holder.end, quickly=True)
            raise
        self._steps = steps
        return steps

    def _open(self, start: ThreadStart, warnings: list[str]) -> AnswerSteps:
        start.has_begun = True
        with collected_warnings() as kept:
            opening = self._prepare()
            self._holder.hold(opening.stream)
            steps = opening.send()
        warnings += kept
        return steps

    async def _advance(self, steps: AnswerSteps) -> bool:
        """Wait for the next batch of events. Return False at the end. Raises the answer's error.

        If another task is waiting for them, wait until it has them.
        """
        if self._is_advancing:  # the socket can wake only one task
            self._advanced = self._advanced or anyio.Event()
            await self._advanced.wait()
            return True
        self._is_advancing = True
        try:
            return await self._next_batch(steps)
        finally:
            self._is_advancing = False
            if self._advanced is not None:
                self._advanced.set()
                self._advanced = None

    async def _next_batch(self, steps: AnswerSteps) -> bool:
        waited = False
        try:
            while (ready := steps.advance_ready()) is None:
                ready = await self._readiness.wait(steps)
                waited = True
                if ready is not None:
                    break
            if not ready:
                self._readiness.close()
                if steps.can_conclude():
                    return steps.advance()
                return await in_thread(steps.advance)
            steps.hold()
            if not waited:
                await anyio.lowlevel.checkpoint()
        except Expired:
            self._readiness.close()
            return await in_thread(steps.advance)  # raises the error that names the timeout
        except H2oError as exc:
            self._readiness.close()
            await self._fail(steps, exc)
            raise
        except BaseException as exc:
            self._readiness.close()
            await run_to_completion(partial(steps.fail, exc), quickly=True)
            raise
        return True

    async def _fail(self, steps: AnswerSteps, exc: H2oError) -> None:
        """End the answer after ``exc``, and read back the stored messages.

        A cancelled caller does not wait for that.
        """
        try:
            await in_thread(partial(steps.fail, exc))
        except BaseException:
            await run_to_completion(steps.stream.end, quickly=True)
            raise


class _Holder:
    """Holds the stream of a reply, once it exists. `end` may be called at any time, even before."""

    def __init__(self) -> None:
        self.stream: AnswerStream | None = None
        self._is_taken = False
        self._has_ended = False
        # Guards the three above: either `end` sees the stream, or `hold` sees `_has_ended`.
        self._lock = Guard()

    def take(self) -> None:
        """Note that a task sends the prompt. Raises `ConfigurationError` the second time."""
        with self._lock:
            if self._is_taken:
                raise ConfigurationError("The reply is closed, or another task reads it")
            self._is_taken = True

    def hold(self, stream: AnswerStream) -> None:
        """Set the stream, before anything is sent."""
        with self._lock:
            self.stream = stream
            has_ended = self._has_ended
        if has_ended:
            stream.end()

    def leave(self) -> None:
        """Do not stop the model or delete the conversation when the reply ends."""
        if self.stream is not None and self.stream.conversation_id:
            self.stream.leave()

    def is_ending(self) -> bool:
        """Whether the cleanup has started."""
        return self.stream is not None and self.stream.is_ending()

    def has_ended(self) -> bool:
        """Whether the cleanup is done."""
        return self.stream is not None and self.stream.has_ended

    def end(self) -> None:
        """End the stream now, or as soon as it exists. Takes at most five seconds."""
        with self._lock:
            self._is_taken = self._has_ended = True
            stream = self.stream
        if stream is not None:
            stream.end()


class _Events:
    """`AsyncReply.events`. A class, because a generator left early would need to be closed."""

    def __init__(self, reply: AsyncReply) -> None:
        self._reply = reply
        self._is_over = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event | Answer:
        if self._is_over:
            raise StopAsyncIteration
        steps = self._reply._steps or await self._reply._start()
        while (event := steps.next_event()) is None:
            if not await self._reply._advance(steps):
                self._is_over = True
                if steps.answer is None:
                    raise StopAsyncIteration
                return steps.answer
        return event
