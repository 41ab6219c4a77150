"""`app()`: OpenAI's API in front of a chat-ui, as an ASGI application."""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypedDict

import anyio
import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from h2o_client.errors import ConfigurationError, H2oError
from h2o_client.gateway import openai_error
from h2o_client.gateway.chat_endpoint import CONVERSATION, ChatEndpoint
from h2o_client.gateway.completion import model_document
from h2o_client.gateway.keys import Keys, Owner, read_keys
from h2o_client.gateway.openai_error import ApiError, unknown_model
from h2o_client.gateway.request_rules import OWNER, RequestRules
from h2o_client.gateway.user_sessions import UserSession, UserSessions
from h2o_client.log import log
from h2o_client.server.access import Access, AccessLog
from h2o_client.server.hook import host_name
from h2o_client.timeouts import Timeouts
from h2o_client.transport.cookies import Cookies

if TYPE_CHECKING:
    from h2o_client.aio.session import AsyncH2oSession

MAX_CONVERSATIONS = 64
EXPIRE_AFTER = 1800.0

_EXPIRE_EVERY = 30.0  # seconds


class AppOptions(TypedDict, total=False):
    """The keyword arguments of `app`."""

    keys: str | os.PathLike[str] | Mapping[str, str] | None
    allowed_hosts: Sequence[str]
    allowed_origins: Sequence[str]
    max_conversations: int
    expire_after: float
    cookies: Cookies | None
    server_version: str | None
    proxy: str | None
    headers: Mapping[str, str] | None
    timeout: Timeouts | float | None
    accept_terms: bool
    share_data: bool | None
    insecure_cookies: bool | None
    verify: bool | str | os.PathLike[str] | ssl.SSLContext
    on_access: Callable[[Access], None] | None


def app(
    base_url: str | None = None,
    *,
    keys: str | os.PathLike[str] | Mapping[str, str] | None = None,
    allowed_hosts: Sequence[str] = (),
    allowed_origins: Sequence[str] = (),
    max_conversations: int = MAX_CONVERSATIONS,
    expire_after: float = EXPIRE_AFTER,
    cookies: Cookies | None = None,
    server_version: str | None = None,
    proxy: str | None = None,
    headers: Mapping[str, str] | None = None,
    timeout: Timeouts | float | None = Timeouts(),  # noqa: B008 - it is frozen
    accept_terms: bool = True,
    share_data: bool | None = False,
    insecure_cookies: bool | None = None,
    verify: bool | str | os.PathLike[str] | ssl.SSLContext = True,
    on_access: Callable[[Access], None] | None = None,
) -> Starlette:
    """Return a Starlette application with OpenAI's API in front of the chat-ui at ``base_url``.

    It serves ``/v1/models``, ``/v1/models/{id}``, ``/v1/chat/completions`` and ``/health``. The
    ASGI server must run the application's lifespan, as most do: at its end, all conversations are
    deleted.

    keys: a keys file, or a mapping of each API key to a cookie (``"name=value"``, or the path of a
        cookie file). A client with a key chats as the user of the cookie. Without ``keys``, any key
        is accepted, all requests share one session, and only requests to a loopback address are
        served.
    allowed_hosts: the host names to accept, in addition to those of loopback; "*" means any.
    allowed_origins: the origins whose web pages may use the gateway, such as
        ``"https://app.example.org"``; "*" means any.
    max_conversations: the largest number of conversations to keep for each user.
    expire_after: seconds after which an unused conversation is deleted.
    on_access: called with a record of each request.

    The other arguments are those of `H2oSession`. Raises `ConfigurationError`.
    """
    if max_conversations < 1 or expire_after <= 0:
        raise ConfigurationError("max_conversations must be at least 1, and expire_after above 0.")
    if isinstance(keys, str | os.PathLike):
        keys = read_keys(keys)
    if keys is not None and cookies is not None:
        raise ConfigurationError("With keys, each key has its own cookie. Leave cookies out.")
    # Imported here, so that importing this module does not load the async session.
    from h2o_client.aio.session import AsyncH2oSession

    def open_session(given: str | None) -> AsyncH2oSession:
        return AsyncH2oSession(
            base_url,
            server_version=server_version,
            proxy=proxy,
            cookies=cookies if given is None else given,
            headers=headers,
            timeout=timeout,
            accept_terms=accept_terms,
            share_data=share_data,
            insecure_cookies=insecure_cookies,
            verify=verify,
        )

    known = Keys(keys)
    routes = _Routes(
        UserSessions(open_session, known.cookies(), most=max_conversations, seconds=expire_after)
    )
    rules = Middleware(
        RequestRules,
        keys=known,
        hosts=None if "*" in allowed_hosts else frozenset(map(_host, allowed_hosts)),
        origins=frozenset(allowed_origins),
    )
    access = [Middleware(AccessLog, on_access=on_access)] if on_access is not None else []
    return Starlette(
        routes=routes.table(),
        middleware=[*access, rules],
        exception_handlers={
            ApiError: _answer_error,
            H2oError: _answer_failure,
            HTTPException: _answer_http_exception,
            Exception: _answer_crash,
        },
        lifespan=routes.lifespan,
    )


def _host(name: str) -> str:
    """The host name in a name or a Host header. An IPv6 address needs no brackets."""
    return name.lower() if name.count(":") > 1 and "[" not in name else host_name(name)


class _Routes:
    """The routes, and the sessions that they use."""

    def __init__(self, users: UserSessions) -> None:
        self._users = users

    def table(self) -> list[Route]:
        """All routes; OpenAI's with and without ``/v1``."""
        found = [Route("/health", _health)]
        for prefix in ("/v1", ""):
            found += [
                Route(f"{prefix}/models", self._models),
                Route(f"{prefix}/models/{{model:path}}", self._model),
                Route(f"{prefix}/chat/completions", _Asgi(self._chat), methods=["POST"]),
            ]
        return found

    @asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        """Delete expired conversations while the application runs, and all of them at its end."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._users.expire, _EXPIRE_EVERY)
            try:
                yield
            finally:
                group.cancel_scope.cancel()
                with anyio.CancelScope(shield=True):
                    await self._users.close()

    def _user(self, scope: Scope) -> tuple[UserSession, Owner]:
        owner: Owner = scope[OWNER]
        return self._users.of(owner.id), owner

    async def _models(self, request: Request) -> Response:
        user, _ = self._user(request.scope)
        models = await user.models()
        entries = [model_document(each.id, user.first_listed) for each in models]
        return _json({"object": "list", "data": entries})

    async def _model(self, request: Request) -> Response:
        user, _ = self._user(request.scope)
        name = request.path_params["model"]
        found = next((each for each in await user.models() if each.id == name), None)
        if found is None:
            raise unknown_model(name, [each.id for each in await user.models()])
        return _json(model_document(found.id, user.first_listed))

    async def _chat(self, scope: Scope, receive: Receive, send: Send) -> None:
        user, owner = self._user(scope)
        named = dict(scope["headers"]).get(CONVERSATION.encode())
        conversation_id = None if named is None else named.decode("latin-1").strip()
        await ChatEndpoint(user, owner.id, conversation_id)(scope, receive, send)


class _Asgi:
    """Makes a method an ASGI endpoint. Starlette would call the method itself with a request."""

    def __init__(self, run: Callable[[Scope, Receive, Send], object]) -> None:
        self._run = run

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._run(scope, receive, send)  # type: ignore[misc]


async def _health(_: Request) -> Response:
    return _json({"status": "ok"})


async def _answer_error(_: Request, exc: Exception) -> Response:
    assert isinstance(exc, ApiError)
    return _error(exc)


async def _answer_failure(_: Request, exc: Exception) -> Response:
    assert isinstance(exc, H2oError)
    log.info("a request failed: %s", exc)
    return _error(openai_error.from_error(exc))


async def _answer_http_exception(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)
    message = f"{exc.detail}: {request.method} {request.url.path}"
    return _error(
        ApiError(exc.status_code, message, code="unknown_url", headers=dict(exc.headers or {}))
    )


async def _answer_crash(_: Request, exc: Exception) -> Response:
    log.error("a request crashed the gateway: %r", exc, exc_info=exc)
    return _error(
        ApiError(500, "The gateway failed. See its log for the reason.", type="server_error")
    )


def _error(exc: ApiError) -> Response:
    return Response(exc.body(), exc.status, exc.headers, "application/json")


def _json(document: object) -> Response:
    return Response(msgspec.json.encode(document), media_type="application/json")
