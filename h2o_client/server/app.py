"""The chat-ui of 2023 (generation A) as a Starlette application around any `Engine`.

Statuses, content types and bodies are those of recordings of a chat-ui v0.4.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from functools import partial

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect
from starlette.routing import Route

from h2o_client.server import replies
from h2o_client.server.access import Access, AccessLog
from h2o_client.server.engine import Engine
from h2o_client.server.generation import Generations, Overloaded
from h2o_client.server.hook import Hook
from h2o_client.server.llama import BUNDLED_MODEL
from h2o_client.server.replies import Refusal
from h2o_client.server.routes import Routes
from h2o_client.server.store import Full, Limits, Store

PARAMETERS: Mapping[str, object] = {
    "temperature": 0.2,
    "top_p": 0.9,
    "repetition_penalty": 1.1,
    "max_new_tokens": 512,
}
"""The bundled model's sampling parameters: shown to clients, and used where they say nothing."""


def create_app(
    engine: Engine,
    *,
    model: str = BUNDLED_MODEL,
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
    """A chat-ui that answers with ``engine``, under the name ``model``.

    ``terms``: POST and DELETE are refused until the session has accepted the terms. ``origin``:
    what the server believes its origin to be, a whole origin or a scheme alone ("https" is what a
    chat-ui without ORIGIN believes). ``secure_cookie``: mark the cookie Secure, over http too, as
    chat-ui does. ``hosts``: a request for another Host, none of loopback's names either, is
    refused with 421; None allows any. At most ``max_generations`` run at once, by default as many
    as the engine says or 16; ``max_waiting`` more wait, beyond it is 503. ``limits``: how much is
    kept; beyond it is 429. ``on_access`` gets a record of each request.
    """
    store = Store(limits)
    limit = max_generations or int(getattr(engine, "slots", 16))
    generations = Generations(engine, limit=limit, waiting=max_waiting)
    routes = Routes(store, generations, engine=engine, model=model, parameters=parameters)
    conversation, message = "/conversation/{id}", "/conversation/{id}/message/{message}"
    hook = Middleware(
        Hook, store=store, terms=terms, origin=origin, secure_cookie=secure_cookie, hosts=hosts
    )
    log = [Middleware(AccessLog, on_access=on_access)] if on_access is not None else []
    return Starlette(
        routes=[
            Route("/", routes.home),
            Route("/__data.json", routes.home_data),
            Route("/settings", routes.settings, methods=["POST"]),
            Route("/conversations", routes.delete_all, methods=["POST"]),
            Route("/conversation", routes.conversations, methods=["GET", "POST"]),
            Route(f"{conversation}/__data.json", routes.conversation_data),
            Route(conversation, routes.conversation, methods=_ALL),
            Route(f"{conversation}/stop-generating", routes.stop, methods=["POST"]),
            Route(f"{conversation}/summarize", routes.summarize, methods=["POST"]),
            Route(f"{conversation}/share", routes.share, methods=["POST"]),
            Route(f"{conversation}/web-search", routes.web_search),
            Route(f"{message}/vote", routes.vote, methods=["POST"]),
            Route(f"{message}/prompt", routes.prompt),
            Route("/r/{id}", routes.shared),
            Route("/r/{id}/__data.json", routes.shared_data),
            Route("/r/{id}/message/{message}/prompt", routes.shared_prompt),
        ],
        middleware=[*log, hook],
        exception_handlers={
            Refusal: replies.answer_refusal,
            Full: replies.answer_full,
            Overloaded: replies.answer_overload,
            HTTPException: replies.answer_http_exception,
            ClientDisconnect: replies.answer_nobody,
            Exception: replies.answer_crash,
        },
        lifespan=partial(_lifespan, generations),
    )


_ALL = ("GET", "POST", "PATCH", "DELETE", "PUT", "OPTIONS")  # the route itself says which it takes


@asynccontextmanager
async def _lifespan(generations: Generations, app: Starlette) -> AsyncIterator[None]:
    try:
        yield
    finally:
        generations.close()
