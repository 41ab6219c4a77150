"""The sessions of the users, with their models and their kept conversations."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import anyio

from h2o_client.gateway.conversation_cache import ConversationCache, Kept
from h2o_client.gateway.openai_error import unknown_model
from h2o_client.log import log
from h2o_client.timeouts import monotonic

if TYPE_CHECKING:
    from h2o_client.aio.session import AsyncH2oSession
    from h2o_client.dialects.documents import Model
    from h2o_client.session import Server

_MODELS_LAST = 300.0  # seconds
_LEAST_APART = 5.0  # seconds between two requests for a model that is not in the list
_AT_ONCE = 4  # conversations that are deleted at the same time
_CLOSE_WITHIN = 4.0  # seconds; closing the session then deletes the others within five


class UserSession:
    """One session with the chat-ui, its kept conversations and a cached list of models."""

    def __init__(self, session: AsyncH2oSession, *, most: int, seconds: float) -> None:
        self.session = session
        self.kept: ConversationCache = ConversationCache(most=most, seconds=seconds)
        self.first_listed: int = int(time.time())
        self._models: list[Model] = []
        self._listed_at: float | None = None
        self._server: Server | None = None
        self._warned: set[str] = set()

    async def models(self, *, newer_than: float = _MODELS_LAST) -> list[Model]:
        """The available models, from a list that is at most ``newer_than`` seconds old."""
        now = monotonic()
        if self._listed_at is None or now - self._listed_at > newer_than:
            self._models = await self.session.models()
            self._listed_at = monotonic()
        return self._models

    async def model(self, name: str) -> str:
        """The id of the model with that id or name. Raises `ApiError` (404)."""
        found = _named(name, await self.models())
        if found is None:
            found = _named(name, await self.models(newer_than=_LEAST_APART))
        if found is None:
            raise unknown_model(name, [each.id for each in self._models])
        return found.id

    async def server(self) -> Server:
        """The version and the features of the chat-ui. Cached."""
        if self._server is None:
            self._server = await self.session.server()
        return self._server

    def forget_server(self) -> None:
        """Forget the version: a failure may mean that the chat-ui was upgraded."""
        self._server = None

    @property
    def has_branches(self) -> bool:
        """Whether conversations are trees, which can continue from any message."""
        return self._server is not None and "branches" in self._server.features

    def warn_about_ignored(self, names: tuple[str, ...], versions: str) -> None:
        """Log a warning about parameters without an effect, once for each name."""
        new = [name for name in names if name not in self._warned]
        if new:
            self._warned.update(new)
            log.warning("%s ignores these parameters: %s", versions, ", ".join(new))

    async def close(self) -> None:
        """Delete all conversations and close the session, within a few seconds."""
        await self.delete(self.kept.remove_idle(), until=monotonic() + _CLOSE_WITHIN)
        await self.session.aclose()

    async def delete(self, conversations: list[Kept], *, until: float = math.inf) -> None:
        """Delete conversations on the server, a few at a time, shielded from cancellation.

        After ``until`` (on the monotonic clock) no further deletion is started.
        """
        limit = anyio.CapacityLimiter(_AT_ONCE)

        async def delete_one(kept: Kept) -> None:
            async with limit:
                if monotonic() < until:
                    await kept.conversation.aclose()

        with anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as group:
                for kept in conversations:
                    group.start_soon(delete_one, kept)


class UserSessions:
    """The sessions of all owners; without keys, one session that all requests share."""

    def __init__(
        self,
        open_session: Callable[[str | None], AsyncH2oSession],
        cookies: dict[bytes, str] | None,
        *,
        most: int,
        seconds: float,
    ) -> None:
        def session(given: str | None) -> UserSession:
            return UserSession(open_session(given), most=most, seconds=seconds)

        self._shared = session(None) if cookies is None else None
        self._own = {owner: session(given) for owner, given in (cookies or {}).items()}

    def of(self, owner: bytes) -> UserSession:
        """The session for the requests of an owner."""
        return self._own[owner] if self._shared is None else self._shared

    async def expire(self, every: float) -> None:
        """Delete expired conversations at intervals, until cancelled."""
        while True:
            await anyio.sleep(every)
            for user in self._every():
                await user.delete(user.kept.remove_overdue())

    async def close(self) -> None:
        """Delete all conversations and close the sessions, within a few seconds."""
        async with anyio.create_task_group() as group:
            for user in self._every():
                group.start_soon(user.close)

    def _every(self) -> list[UserSession]:
        return list(self._own.values()) if self._shared is None else [self._shared]


def _named(name: str, models: list[Model]) -> Model | None:
    by_id = next((model for model in models if model.id == name), None)
    return by_id or next((model for model in models if model.name == name), None)
