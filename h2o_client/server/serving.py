"""`serve()`: the server running in a thread of this process, on a socket of its own."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING

import uvicorn
from starlette.applications import Starlette
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from h2o_client.server.answer import DROP
from h2o_client.server.app import PARAMETERS, create_app
from h2o_client.server.engine import BUNDLED_MODEL, Engine, LlamaEngine

if TYPE_CHECKING:
    from typing_extensions import Self


def serve(
    engine: Engine | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    model: str = BUNDLED_MODEL,
    parameters: Mapping[str, object] = PARAMETERS,
    terms: bool = False,
    origin: str | None = None,
    secure_cookie: bool = True,
    max_generations: int = 16,
) -> Server:
    """A chat-ui that listens when this returns; close it, or use it as a context manager.

    Without ``engine`` the bundled model is loaded, and freed at the end; an engine given stays the
    caller's. Port 0 takes a free one: ``url`` of what is returned says which. The rest is
    `create_app`'s. Raises `ConfigurationError` without a model, OSError when the port is taken.
    """
    owned = ExitStack()
    try:
        if engine is None:
            engine = owned.enter_context(LlamaEngine())
        app = create_app(
            engine,
            model=model,
            parameters=parameters,
            terms=terms,
            origin=origin,
            secure_cookie=secure_cookie,
            max_generations=max_generations,
        )
        listener = owned.enter_context(_listen(host, port))
    except BaseException:
        owned.close()
        raise
    return Server(app, listener, owned=owned)


class Server:
    """A running server; ``url`` is its base URL."""

    def __init__(self, app: Starlette, listener: socket.socket, *, owned: ExitStack) -> None:
        self.url = _url(listener)
        self._running = _Uvicorn(app)
        self._owned = owned
        self._thread = threading.Thread(
            target=self._running.run, args=([listener],), name="h2o-server", daemon=True
        )
        self._thread.start()
        self._running.ready.wait()

    def __str__(self) -> str:
        return self.url

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop what runs, close every connection and wait until all is gone."""
        self._running.should_exit = True
        self._thread.join()
        self._owned.close()


class _Uvicorn(uvicorn.Server):
    """uvicorn without a log, that says when it listens and ends without waiting for clients."""

    def __init__(self, app: Starlette) -> None:
        config = uvicorn.Config(
            app,
            http=_Protocol,
            ws="none",
            lifespan="on",
            loop="asyncio",
            log_config=None,
            log_level=logging.CRITICAL,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=5,
        )
        super().__init__(config)
        self.ready = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        finally:
            self.ready.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # Not gracefully: a client in mid-stream, or one that never reads, would hold up the end.
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await super().shutdown(sockets)


class _Protocol(H11Protocol):
    """uvicorn's HTTP/1.1 and one thing more: the application can drop the connection."""

    def connection_made(self, transport: object) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        app = self.app

        async def app_that_can_drop(scope: Scope, receive: Receive, send: Send) -> None:
            scope["extensions"] = {**scope.get("extensions", {}), DROP: self._drop}
            await app(scope, receive, send)

        self.app = app_that_can_drop

    def _drop(self) -> None:
        # close() would wait for a client that does not read.
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            self.transport.close()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family)


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
