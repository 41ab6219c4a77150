"""`AsyncH2oSession`: `H2oSession` for asyncio and trio."""

from __future__ import annotations

import inspect
import os
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar

from h2o_client.aio.batch import AsyncBatch
from h2o_client.aio.conversation import AsyncConversation
from h2o_client.aio.offload import call_in_thread, is_cancelled, run_to_completion
from h2o_client.aio.reply import AsyncReply
from h2o_client.answer.found_answer import FoundAnswer
from h2o_client.answer.server_run import Running
from h2o_client.answer.steps import Answer
from h2o_client.conversation import Conversation, OnSend
from h2o_client.dialects.documents import Model, Settings, User
from h2o_client.log import collected_warnings, warn
from h2o_client.messages import Messages
from h2o_client.options import Options, takes_options
from h2o_client.session import H2oSession, Server
from h2o_client.timeouts import Timeouts

if TYPE_CHECKING:
    from concurrent.futures import Executor
    from types import TracebackType

    from distributed import Client
    from typing_extensions import Self, Unpack

    from h2o_client.batch.prompts import Prompt
    from h2o_client.doctor.checks import Check

P = ParamSpec("P")
T = TypeVar("T")
U = TypeVar("U")


def _takes(
    source: Callable[P, object],
) -> Callable[[Callable[..., None]], Callable[Concatenate[Any, P], None]]:
    """Give an ``__init__`` the signature of ``source``."""

    def mark(function: Callable[..., None]) -> Callable[Concatenate[Any, P], None]:
        own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        signature = inspect.signature(source)
        function.__signature__ = signature.replace(  # type: ignore[attr-defined]
            parameters=[own, *signature.parameters.values()]
        )
        return function

    return mark


class AsyncH2oSession:
    """`H2oSession` for async code, with the same arguments and methods.

    Use it in an ``async with``. It is not bound to an event loop: you can create it anywhere, and
    use it in several loops, one after another. ``wrapped`` is the blocking session.
    """

    @_takes(H2oSession)
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.wrapped: H2oSession = H2oSession(*args, **kwargs)

    @property
    def base_url(self) -> str:
        """The server's address, without credentials and without a slash at its end."""
        return self.wrapped.base_url

    @takes_options
    def stream(
        self,
        messages: Messages,
        *,
        model: str | None = None,
        system: str | None = None,
        keep: bool = False,
        **options: Unpack[Options],
    ) -> AsyncReply:
        """Return the answer to one prompt. See `H2oSession.stream` for arguments and errors.

        The arguments are checked now; the prompt is sent when the reply is first iterated, entered
        (``async with``) or read.
        """
        conversation = Conversation(self.wrapped._backend, model=model, keep=keep)
        turn = conversation._turn(messages, options, system=system)
        return AsyncReply(partial(conversation._prepare, turn, options, once=not keep))

    @takes_options
    def batch(
        self,
        prompts: Iterable[Prompt],
        *,
        concurrency: int = 8,
        per_minute: int | None = None,
        journal: str | os.PathLike[str] | None = None,
        ordered: bool = False,
        executor: Executor | None = None,
        dask: str | Client | None = None,
        give_up_after: float = 3600.0,
        retry_failed: bool = False,
        model: str | None = None,
        system: str | None = None,
        **options: Unpack[Options],
    ) -> AsyncBatch:
        """Send many prompts, each once. Use ``async for`` to get the results.

        `h2o_client.batch.run` describes the arguments and errors. The prompts are read and checked
        when the batch is first iterated or entered.
        """
        run = import_module("h2o_client.batch.start").run
        work = partial(
            run,
            self.wrapped,
            prompts,
            concurrency=concurrency,
            per_minute=per_minute,
            journal=journal,
            ordered=ordered,
            executor=executor,
            dask=dask,
            give_up_after=give_up_after,
            retry_failed=retry_failed,
            model=model,
            system=system,
            **options,
        )
        return AsyncBatch(work)

    def _stream_recorded(
        self,
        messages: Messages,
        *,
        on_send: OnSend,
        model: str | None = None,
        system: str | None = None,
        **options: Unpack[Options],
    ) -> AsyncReply:
        """Like `stream`, for a caller that records the conversations and deletes them.

        ``on_send`` is called before the message is sent: see `OnSend`.
        """
        conversation = Conversation(self.wrapped._backend, model=model)
        turn = conversation._turn(messages, options, system=system)
        prepare = partial(conversation._prepare, turn, options, once=True, on_send=on_send)
        return AsyncReply(prepare)

    @takes_options
    async def chat(
        self,
        messages: Messages,
        *,
        model: str | None = None,
        system: str | None = None,
        keep: bool = False,
        **options: Unpack[Options],
    ) -> Answer:
        """Send one prompt and return the whole answer. See `stream` for arguments and errors."""
        reply = self.stream(messages, model=model, system=system, keep=keep, **options)
        del messages, system  # error trackers show the locals of the frames of a traceback
        async with reply:
            return await reply.read()

    def conversation(
        self,
        id: str | None = None,
        *,
        system: str | None = None,
        model: str | None = None,
        keep: bool = False,
    ) -> AsyncConversation:
        """Return a conversation of several turns: see `H2oSession.conversation`. Sends nothing."""
        return AsyncConversation(
            self.wrapped.conversation(id, system=system, model=model, keep=keep)
        )

    def resume(
        self,
        token: str,
        *,
        position: int | None = None,
        delete: bool = False,
        timeout: Timeouts | float | None = None,
    ) -> AsyncReply:
        """Resume an answer of another process: see `H2oSession.resume`.

        Nothing is sent before the reply is first iterated, entered (``async with``) or read.
        """
        found = self.wrapped._token(token, position)
        Timeouts.of(timeout)
        return AsyncReply(partial(self.wrapped._prepare_resuming, found, timeout, delete=delete))

    async def running(self) -> list[Running]:
        """List the answers that are being generated: see `H2oSession.running`."""
        return await call_in_thread(self.wrapped.running)

    async def save_cookies(self, path: str | os.PathLike[str]) -> None:
        """Write the session's cookies to a file: see `H2oSession.save_cookies`."""
        await call_in_thread(partial(self.wrapped.save_cookies, path))

    async def models(self) -> list[Model]:
        """List the server's models, its default first."""
        return await call_in_thread(self.wrapped.models)

    def conversations(self) -> AsyncIterator[AsyncConversation]:
        """Iterate over the conversations, latest first: see `H2oSession.conversations`."""
        return _Items(self.wrapped.conversations(), AsyncConversation)

    async def delete_conversations(self) -> None:
        """Delete all conversations of this session, or of the user whose cookie it has."""
        await call_in_thread(self.wrapped.delete_conversations)

    async def settings(self) -> Settings:
        """The session's settings as the server has stored them."""
        return await call_in_thread(self.wrapped.settings)

    async def update_settings(
        self,
        *,
        model: str | None = None,
        share_data: bool | None = None,
        custom_prompts: Mapping[str, str] | None = None,
        others: Mapping[str, object] | None = None,
    ) -> Settings:
        """Change the given settings only: see `H2oSession.update_settings`."""
        warnings: list[str] = []

        def update() -> Settings:
            with collected_warnings() as kept:
                after = self.wrapped.update_settings(
                    model=model,
                    share_data=share_data,
                    custom_prompts=custom_prompts,
                    others=others,
                )
            warnings.extend(kept)
            return after

        after = await call_in_thread(update)
        for message in warnings:
            warn(message)
        return after

    async def user(self) -> User | None:
        """Return the user who is logged in, or None. Does not accept terms."""
        return await call_in_thread(self.wrapped.user)

    async def server(self) -> Server:
        """Return the server's version, and how it was detected. Does not accept terms."""
        return await call_in_thread(self.wrapped.server)

    def check(self) -> AsyncIterator[Check]:
        """Diagnose the connection to the server, step by step: see `H2oSession.check`."""
        return _Items(self.wrapped.check(), lambda check: check)

    async def _find_answer(self, conversation_id: str) -> FoundAnswer:
        return await call_in_thread(partial(self.wrapped._find_answer, conversation_id))

    @classmethod
    def _wrapping(cls, session: H2oSession) -> AsyncH2oSession:
        """Wrap an existing session."""
        made = cls.__new__(cls)
        made.wrapped = session
        return made

    async def aclose(self) -> None:
        """Stop unfinished answers, delete temporary conversations, close connections."""
        await run_to_completion(self.wrapped.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, _: TracebackType | None
    ) -> None:
        await run_to_completion(self.wrapped.close, quickly=is_cancelled(exc))

    def __repr__(self) -> str:
        return f"<AsyncH2oSession {self.base_url}>"


class _Items(Generic[T, U]):
    """An async iterator over the items of a blocking one, each of which a thread fetches."""

    def __init__(self, items: Iterator[T], convert: Callable[[T], U]) -> None:
        self._items = items
        self._convert = convert

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> U:
        # A StopIteration cannot be raised from the thread.
        item = await call_in_thread(lambda: next(self._items, None))
        if item is None:
            raise StopAsyncIteration
        return self._convert(item)
