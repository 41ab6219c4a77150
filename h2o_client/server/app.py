"""A chat-ui as a Starlette application around any `Engine`.

Statuses, content types and bodies follow recordings of chat-ui v0.4, v0.10.0 and August 2026.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from functools import partial

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect

from h2o_client.server import latest, replies, v0_3, v0_9_6
from h2o_client.server.access import Access, AccessLog
from h2o_client.server.chat_ui import DEFAULT, Dialect, dialect_of
from h2o_client.server.engine import Engine
from h2o_client.server.generation import Generations, Overloaded
from h2o_client.server.hook import Hook, Rules
from h2o_client.server.replies import Refusal
from h2o_client.server.scripted import SCRIPTED
from h2o_client.server.store import Full, Limits, Store

PARAMETERS: Mapping[str, object] = {
    "temperature": 0.2,
    "top_p": 0.9,
    "repetition_penalty": 1.1,
    "max_new_tokens": 512,
}
"""The bundled model's sampling parameters: shown to clients, and used as defaults."""


def create_app(
    engine: Engine,
    *,
    chat_ui: str = DEFAULT,
    model: str | None = None,
    parameters: Mapping[str, object] = PARAMETERS,
    terms: bool = False,
    origin: str | None = None,
    secure_cookie: bool = True,
    hosts: Collection[str] | None = None,
    max_generations: int | None = None,
    max_waiting: int = 64,
    limits: Limits | None = None,
    on_access: Callable[[Access], None] | None = None,
) -> Starlette:
    """Return an ASGI application: a chat-ui whose answers come from ``engine``.

    chat_ui: the version, "0.3" to "0.6", "0.9.6" to "0.10.0", or "latest".
    model: the name of the model; by default the attribute ``model`` of the engine, or "scripted".
    terms: whether POST and DELETE are refused until the session has accepted the terms (v0.3 to
        v0.6 only).
    origin: the server's own origin, or only its scheme. "https" is the default of chat-ui.
    secure_cookie: whether to mark the cookie Secure, even over http, as chat-ui does.
    hosts: the host names to accept, in addition to those of loopback; the status for others is 421.
        None accepts any.
    max_generations: the largest number of concurrent answers; by default that of the engine, or 16.
    max_waiting: how many more answers may wait. Further requests get status 503.
    limits: how much data to keep. Requests beyond these limits get status 429.
    on_access: called with a record of each request.

    Raises `ConfigurationError` for invalid arguments.
    """
    make_routes, rules = _DIALECTS[dialect_of(chat_ui, terms=terms)]
    name = model or str(getattr(engine, "model", SCRIPTED))
    store = Store(limits)
    limit = max_generations or int(getattr(engine, "slots", 16))
    generations = Generations(engine, limit=limit, waiting=max_waiting)
    routes = make_routes(store, generations, engine=engine, model=name, parameters=parameters)
    hook = Middleware(
        Hook,
        store=store,
        rules=rules,
        terms=terms,
        origin=origin,
        secure_cookie=secure_cookie,
        hosts=hosts,
    )
    log = [Middleware(AccessLog, on_access=on_access)] if on_access is not None else []
    app = Starlette(
        routes=routes.table(),
        middleware=[*log, hook],
        exception_handlers={
            Refusal: replies.answer_refusal,
            Full: replies.answer_full,
            Overloaded: replies.answer_overload,
            HTTPException: replies.answer_http_exception,
            ClientDisconnect: replies.answer_disconnected,
            Exception: replies.answer_crash,
        },
        lifespan=partial(_lifespan, generations, routes),
    )
    app.state.crash = rules.crash
    return app


_Routes = v0_3.Routes | v0_9_6.Routes
_DIALECTS: Mapping[Dialect, tuple[type[_Routes], Rules]] = {
    "v0_3": (v0_3.Routes, v0_3.RULES),
    "v0_9_6": (v0_9_6.Routes, v0_9_6.RULES),
    "latest": (latest.Routes, latest.RULES),
}


@asynccontextmanager
async def _lifespan(
    generations: Generations, routes: _Routes, app: Starlette
) -> AsyncIterator[None]:
    try:
        yield
    finally:
        generations.close()
        await routes.close()
