"""`AsyncConversation`: `Conversation` for asyncio and trio."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING

from h2o_client import options as opts
from h2o_client.aio.offload import call_in_thread, in_thread, is_cancelled, run_to_completion
from h2o_client.aio.reply import AsyncReply
from h2o_client.answer.prompt import Turn
from h2o_client.answer.steps import Answer
from h2o_client.conversation import Conversation
from h2o_client.messages import Message, Messages
from h2o_client.options import Options, takes_options

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self, Unpack


class AsyncConversation:
    """`Conversation` for async code, with the same methods. ``wrapped`` is the blocking one."""

    def __init__(self, wrapped: Conversation) -> None:
        self.wrapped = wrapped

    @property
    def id(self) -> str | None:
        """The server's id of the conversation; None until it is created."""
        return self.wrapped.id

    @property
    def title(self) -> str | None:
        """The conversation's title; None if it is not known."""
        return self.wrapped.title

    @property
    def updated_at(self) -> datetime | None:
        """The time of the last change, if a list of conversations contained it."""
        return self.wrapped.updated_at

    @property
    def on_wait(self) -> Callable[[], None] | None:
        """Called in another thread when a message has waited for a second: see `Conversation`."""
        return self.wrapped.on_wait

    @on_wait.setter
    def on_wait(self, on_wait: Callable[[], None] | None) -> None:
        self.wrapped.on_wait = on_wait

    async def create(self) -> str:
        """Create the conversation on the server now: see `Conversation.create`."""
        return await call_in_thread(self.wrapped.create)

    @takes_options
    def stream(self, messages: Messages, **options: Unpack[Options]) -> AsyncReply:
        """Return the answer to the next message: see `AsyncH2oSession.stream`."""
        return self._reply(self.wrapped._turn(messages, options), options)

    @takes_options
    async def chat(self, messages: Messages, **options: Unpack[Options]) -> Answer:
        """Send the next message and return the whole answer."""
        reply = self.stream(messages, **options)
        del messages  # error trackers show the locals of the frames of a traceback
        async with reply:
            return await reply.read()

    @takes_options
    def retry(self, message_id: str | None = None, **options: Unpack[Options]) -> AsyncReply:
        """Request another answer to a prompt: see `Conversation.retry`."""
        return self._reply(Turn.retry(message_id), options)

    @takes_options
    def edit(self, message_id: str | None, text: str, **options: Unpack[Options]) -> AsyncReply:
        """Replace a prompt by ``text`` and return the answer: see `Conversation.edit`."""
        return self._reply(self.wrapped._edit(message_id, text), options)

    @takes_options
    def continue_(self, **options: Unpack[Options]) -> AsyncReply:
        """Continue the last answer: see `Conversation.continue_`."""
        return self._reply(Turn.continuation(), options)

    async def messages(self) -> list[Message]:
        """Return the stored messages, oldest first: see `Conversation.messages`."""
        return await call_in_thread(self.wrapped.messages)

    async def stop(self) -> None:
        """Stop the current answer, if there is one."""
        await in_thread(self.wrapped.stop)

    async def rename(self, title: str) -> None:
        """Set the conversation's title, of 1 to 100 characters."""
        await call_in_thread(partial(self.wrapped.rename, title))

    async def summarize(self) -> str:
        """Have the model generate a title, and return it (v0.3 to v0.6)."""
        return await call_in_thread(self.wrapped.summarize)

    async def share(self) -> str:
        """Create a public page of the conversation as it is now, and return its URL."""
        return await call_in_thread(self.wrapped.share)

    async def vote(self, score: int, message_id: str | None = None) -> None:
        """Vote on the last answer, or on another one: see `Conversation.vote`."""
        await call_in_thread(partial(self.wrapped.vote, score, message_id))

    async def delete(self) -> None:
        """Delete the conversation on the server, and close this object. Raises `H2oError`."""
        await call_in_thread(self.wrapped.delete)

    async def aclose(self) -> None:
        """Stop an unfinished answer, and delete the conversation if temporary. Never raises."""
        await run_to_completion(self.wrapped.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, _: TracebackType | None
    ) -> None:
        await run_to_completion(self.wrapped.close, quickly=is_cancelled(exc))

    def __repr__(self) -> str:
        return f"<Async{repr(self.wrapped)[1:]}"

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        return import_module("h2o_client.notebook").of_conversation(self)  # type: ignore[no-any-return]

    def __reduce__(self) -> str:
        raise TypeError("cannot pickle an AsyncConversation: open it by its id instead")

    def _reply(self, turn: Turn, options: Options) -> AsyncReply:
        opts.check_options(options)
        return AsyncReply(partial(self.wrapped._prepare, turn, options))
