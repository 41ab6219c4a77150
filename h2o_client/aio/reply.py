"""`AsyncReply`: an answer as it comes, for ``async for``.

Between its tokens the event loop itself waits for the socket, and what has arrived is read without
blocking: a hop to a thread for each token would cost many times the token.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator, Mapping
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

import anyio.lowlevel

from h2o_client.aio.offload import Pace, called, finished, in_thread, is_cancelled
from h2o_client.aio.readiness import Readiness
from h2o_client.answer.exchange import Exchange
from h2o_client.answer.prompt import Words
from h2o_client.answer.reply import Answer, Reply
from h2o_client.conversation import Conversation, OnSend
from h2o_client.errors import ConfigurationError, H2oError
from h2o_client.log import kept_back, warn
from h2o_client.options import Options
from h2o_client.timeouts import Expired
from h2o_client.transport.locks import Guard
from h2o_client.wire.events import Elicitation, Event

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

Ask = Callable[[Callable[[Exchange], None]], Reply]
"""Sends a prompt; tells of the exchange before anything is sent."""


_openings = Pace(0.003)


class AsyncReply:
    """`Reply` for async code: ``async for`` its text, or ``async with`` it, or `read` it whole.

    ``async with`` frees everything when it is left; otherwise that happens when the answer has
    ended, the task is cancelled, or nobody holds the reply any more. One task iterates; `stop`,
    `aclose` and the attributes may be used from others.
    """

    def __init__(self, ask: Ask, *, begun: Callable[[Exchange], None] | None = None) -> None:
        self._ask = ask
        self._opening = _Opening(begun)
        self._readiness = Readiness()
        self._reply: Reply | None = None

    @property
    def text(self) -> str:
        """All text received so far."""
        return "" if self._reply is None else self._reply.text

    @property
    def answer(self) -> Answer | None:
        """The whole answer, once it has ended."""
        return None if self._reply is None else self._reply.answer

    @property
    def finish_reason(self) -> str | None:
        """How it ended: see `Reply`. None until then."""
        return None if self._reply is None else self._reply.finish_reason

    @property
    def model(self) -> str:
        """The model that was asked; "" until the prompt is sent."""
        return "" if self._reply is None else self._reply.model

    @property
    def title(self) -> str | None:
        """The conversation's title, where the server sends one with the answer."""
        return None if self._reply is None else self._reply.title

    @property
    def conversation_id(self) -> str:
        """The id of the conversation the answer is given in."""
        return "" if self._reply is None else self._reply.conversation_id

    @property
    def message_id(self) -> str | None:
        """The id of the answer, once it is known."""
        return None if self._reply is None else self._reply.message_id

    @property
    def time_to_first_token(self) -> float | None:
        """Seconds from the prompt's sending to the first token; None until it came."""
        return None if self._reply is None else self._reply.time_to_first_token

    @property
    def resumed(self) -> int:
        """How often the answer was taken up again: see `Reply`."""
        return 0 if self._reply is None else self._reply.resumed

    @property
    def resume_token(self) -> str | None:
        """What another process can go on with: see `Reply`. None until the prompt is sent."""
        return None if self._reply is None else self._reply.resume_token

    @property
    def elicitation(self) -> Elicitation | None:
        """What a tool asks the user and nobody has answered yet (the newest servers)."""
        return None if self._reply is None else self._reply.elicitation

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        reply = self._reply or await self._started()
        while True:
            for text in reply._texts:
                return text
            if not await self._advanced(reply):
                raise StopAsyncIteration

    def events(self) -> AsyncIterator[Event | Answer]:
        """Everything the server says, as it comes; the last event is the `Answer`.

        Events that were taken by iterating the text do not come again.
        """
        return _Events(self)

    async def read(self) -> Answer:
        """Waits for the whole answer. Raises what broke it off, with ``.partial``."""
        reply = self._reply or await self._started()
        while await self._advanced(reply):
            pass
        return reply._outcome()

    async def answer_elicitation(
        self,
        action: str = "accept",
        content: Mapping[str, object] | None = None,
        *,
        elicitation_id: str | None = None,
    ) -> None:
        """Answers what a tool asks the user: see `Reply.answer_elicitation`."""
        reply = self._reply or await self._started()
        await called(
            partial(reply.answer_elicitation, action, content, elicitation_id=elicitation_id)
        )

    async def stop(self) -> None:
        """Ends the answer where it is; the iteration then ends without an error. Soon."""
        exchange = self._opening.exchange
        if exchange is not None:
            await in_thread(exchange.stop)

    async def aclose(self) -> None:
        """Lets everything go: the connection, the model's work, a conversation made for this."""
        await finished(self._opening.end)

    async def leave(self) -> None:
        """Let the connection go and leave the model at work: see `Reply.leave`."""
        self._opening.leave()
        await finished(self._opening.end)

    async def __aenter__(self) -> Self:
        if self._reply is None:
            await self._started()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, _: TracebackType | None
    ) -> None:
        if not (is_cancelled(exc) and self._opening.is_ending()):  # that was waited for already
            await finished(self._opening.end, quickly=is_cancelled(exc))

    def __await__(self) -> Generator[Any, None, Self]:
        """Has the prompt sent: ``await client.stream(...)`` gives the reply itself."""
        return self.__aenter__().__await__()

    def __repr__(self) -> str:
        return "<AsyncReply not sent>" if self._reply is None else f"<Async{repr(self._reply)[1:]}"

    def _ipython_display_(self) -> None:
        import_module("h2o_client.notebook").show_async(self)

    def __reduce__(self) -> str:
        raise TypeError("a Reply cannot be pickled: it holds a connection")

    async def _started(self) -> Reply:
        if self._opening.taken:
            raise ConfigurationError("This reply is being asked for, or is closed.")
        self._opening.taken = True
        await _openings.keep()
        warnings: list[str] = []
        try:
            reply = await in_thread(partial(self._asked, warnings))
            for message in warnings:
                warn(message)
        except BaseException as exc:
            if not isinstance(exc, H2oError):
                await finished(self._opening.end, quickly=True)
            raise
        self._reply = reply
        return reply

    def _asked(self, warnings: list[str]) -> Reply:
        with kept_back() as kept:
            reply = self._ask(self._opening.begun)
        warnings += kept
        return reply

    async def _advanced(self, reply: Reply) -> bool:
        """Gets the next batch of events; False when there will be none. Raises what went wrong."""
        exchange = reply._exchange
        waited = False
        try:
            while (ready := reply._take_ready()) is None:
                ready = await self._readiness.wait(exchange, reply._take_ready)
                waited = True
                if ready is not None:
                    break
            if not ready:
                self._readiness.close()
                return await in_thread(reply._advance)
            exchange.hold()
            if not waited:
                await anyio.lowlevel.checkpoint()
        except Expired:
            self._readiness.close()
            return await in_thread(reply._advance)  # which says which time has run out
        except H2oError as exc:
            self._readiness.close()
            await self._failed(reply, exc)
            raise
        except BaseException as exc:
            self._readiness.close()
            await finished(partial(reply._fail, exc), quickly=True)
            raise
        return True

    async def _failed(self, reply: Reply, exc: H2oError) -> None:
        """What is stored is read back meanwhile, which a caller who is cancelled does not await."""
        try:
            await in_thread(partial(reply._fail, exc))
        except BaseException:
            await finished(reply._exchange.end, quickly=True)
            raise


class _Opening:
    """The exchange of a reply, from the moment that it is there, and its end at any moment."""

    def __init__(self, told: Callable[[Exchange], None] | None) -> None:
        self.exchange: Exchange | None = None
        self.taken = False
        self._told = told
        self._ended = False
        self._lock = Guard()

    def begun(self, exchange: Exchange) -> None:
        """The exchange is there; nothing is sent yet."""
        if self._told is not None:
            self._told(exchange)
        with self._lock:
            self.exchange = exchange
            ended = self._ended
        if ended:
            exchange.end()

    def leave(self) -> None:
        """What has been sent is left at work when this ends, in its conversation."""
        if self.exchange is not None and self.exchange.conversation_id:
            self.exchange.leave_running()
            self.exchange.hand_over()

    def is_ending(self) -> bool:
        """Whether it is being cleaned up, or has been."""
        return self.exchange is not None and self.exchange.is_ending()

    def end(self) -> None:
        """Ends it, or has it end as soon as it is there. Bounded."""
        with self._lock:
            self.taken = self._ended = True
            exchange = self.exchange
        if exchange is not None:
            exchange.end()


class _Events:
    """`AsyncReply.events`. A class, for nothing has to be finished when it is left early."""

    def __init__(self, reply: AsyncReply) -> None:
        self._reply = reply
        self._over = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event | Answer:
        if self._over:
            raise StopAsyncIteration
        reply = self._reply._reply or await self._reply._started()
        while (event := reply._next_event()) is None:
            if not await self._reply._advanced(reply):
                self._over = True
                if reply.answer is None:
                    raise StopAsyncIteration
                return reply.answer
        return event


def asker(
    conversation: Conversation,
    words: Words,
    options: Options,
    *,
    once: bool = False,
    on_send: OnSend | None = None,
) -> Ask:
    """What an `AsyncReply` asks with."""
    return partial(_asked, conversation, words, options, once, on_send)


def _asked(
    conversation: Conversation,
    words: Words,
    options: Options,
    once: bool,
    on_send: OnSend | None,
    begun: Callable[[Exchange], None],
) -> Reply:
    return conversation._ask(words, options, once=once, begun=begun, on_send=on_send)
