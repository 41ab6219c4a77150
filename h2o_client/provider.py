"""`H2o`: a provider with the interface of gpt4free, from which this library originates."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Generator
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from h2o_client.aio.reply import AsyncReply
from h2o_client.config import DEFAULT_MODEL, DEFAULT_URL, SessionConfig
from h2o_client.conversation import Conversation
from h2o_client.messages import Messages
from h2o_client.options import Options
from h2o_client.session import H2oSession

if TYPE_CHECKING:
    from typing_extensions import Self


class AsyncResult(AsyncIterator[str]):
    """The tokens of an answer, for ``async for``. You may ``await`` it first.

    If you leave the iteration early, call `aclose`; otherwise the garbage collector cleans up.
    """

    def __init__(self, reply: AsyncReply) -> None:
        self._reply = reply
        self._is_closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        if self._is_closed:  # the reply returns what it has read already
            raise StopAsyncIteration
        return await self._reply.__anext__()

    async def aclose(self) -> None:
        """Stop the answer, delete its conversation, close the connection."""
        self._is_closed = True
        await self._reply.aclose()

    def __await__(self) -> Generator[Any, None, Self]:
        return self
        yield


class AsyncGeneratorProvider(ABC):
    """The interface of gpt4free's providers: messages in, an `AsyncResult` out."""

    @classmethod
    @abstractmethod
    def create_async_generator(
        cls, model: str | None, messages: Messages, proxy: str | None = None, **kwargs: Any
    ) -> AsyncResult:
        """Return the tokens of the answer to ``messages``."""

    @classmethod
    async def create_async(
        cls, model: str | None, messages: Messages, proxy: str | None = None, **kwargs: Any
    ) -> str:
        """Return the whole text of the answer."""
        result = cls.create_async_generator(model, messages, proxy, **kwargs)
        del messages, proxy  # error trackers show the locals of the frames of a traceback
        try:
            return "".join([token async for token in result])
        finally:
            await result.aclose()


class H2o(AsyncGeneratorProvider):
    """A gpt4free provider for the chat-ui server at ``url``. Each call reads ``url`` and ``model``.

    ``model`` is the model for calls without one. If you set only ``url``, it is the server's first
    model.
    """

    url: ClassVar[str] = DEFAULT_URL
    model: ClassVar[str] = DEFAULT_MODEL

    @classmethod
    def create_async_generator(
        cls, model: str | None, messages: Messages, proxy: str | None = None, **kwargs: Any
    ) -> AsyncResult:
        """Return the tokens of the answer to ``messages``. Its conversation is deleted afterwards.

        model: the model's name; "" and None mean ``H2o.model``.
        messages: dicts with "role" and "content", or a string.
        proxy: an http, https or socks URL.
        kwargs: sampling parameters such as temperature or max_new_tokens, which override the
            provider's defaults; unknown ones are passed on too.

        The prompt is sent when the iteration starts. Raises `ConfigurationError` for invalid
        arguments; the iteration raises the same errors as `H2oSession.stream` and its reply.
        """
        named = cls.url != DEFAULT_URL
        elsewhere = named or bool(os.environ.get("H2O_CLIENT_URL"))
        asked = model or (None if elsewhere and cls.model == DEFAULT_MODEL else cls.model)
        # As in gpt4free, only the caller's and this package's parameters count, not the server's.
        session = H2oSession._of(
            SessionConfig(
                cls.url if named else None, model=asked, proxy=proxy, server_samples=False
            )
        )
        options: Options = {"parameters": kwargs}
        conversation = Conversation(session._backend)
        turn = conversation._turn(messages, options)
        prepare = partial(conversation._prepare, turn, options, once=True, afterwards=session.close)
        return AsyncResult(AsyncReply(prepare))
