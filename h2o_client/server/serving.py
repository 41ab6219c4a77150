"""`serve()`: run the server in a thread of this process."""

from __future__ import annotations

import logging
import socket
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import uvicorn
from starlette.applications import Starlette

from h2o_client.errors import ConfigurationError
from h2o_client.server.access import Access, write_to
from h2o_client.server.app import PARAMETERS, create_app
from h2o_client.server.chat_ui import DEFAULT, dialect_of
from h2o_client.server.hook import is_loopback
from h2o_client.server.llama import LlamaEngine
from h2o_client.server.protocol import MOST_CONNECTIONS, Protocol
from h2o_client.server.scripted import Answers, as_engine
from h2o_client.server.store import Limits

if TYPE_CHECKING:
    from typing_extensions import Self


def serve(
    answers: Answers | None = None,
    *,
    chat_ui: str = DEFAULT,
    host: str = "127.0.0.1",
    port: int = 0,
    model: str | None = None,
    parameters: Mapping[str, object] | None = None,
    terms: bool = False,
    origin: str | None = None,
    secure_cookie: bool = True,
    allowed_hosts: Sequence[str] = (),
    max_generations: int | None = None,
    max_waiting: int = 64,
    limits: Limits | None = None,
    quiet: bool = True,
    on_access: Callable[[Access], None] | None = None,
) -> Server:
    """Start a chat-ui, which listens when this returns. Close it, or use it as a context manager.

    ``chat_ui`` is its version, which determines the protocol: "latest", which can resume answers
    after a broken connection; "0.9.6" to "0.10.0" (2025 and 2026); or "0.3" to "0.6" (2023).

    ``answers`` is a string, a list of strings, a function of the prompt, or an engine:
    ``serve("Hello")``, ``serve(["one", "two"])``, ``serve(lambda prompt: prompt.upper())``,
    ``serve(ScriptedEngine.from_file(path))``, ``serve(LlamaEngine("any.gguf"))``. Closing the
    server does not close an engine that you pass. Without ``answers``, the server loads the bundled
    model, and frees it at the end. ``model`` is the model's name, by default that of the engine, or
    "scripted".

    Port 0 chooses a free port; the server's ``url`` contains it. On a loopback ``host``, the server
    accepts only requests for loopback names, for the names in ``allowed_hosts`` ("*" means any),
    and for the host of ``origin``. With ``quiet=False``, it logs each request as a line of JSON on
    stderr. The other arguments are those of `create_app`. Raises `ConfigurationError` if the model
    is missing or the version is unknown, and OSError if the port is in use.
    """
    dialect_of(chat_ui, terms=terms)  # before a model is loaded
    if not quiet and on_access is None:
        on_access = write_to(sys.stderr)
    owned = ExitStack()
    try:
        engine = owned.enter_context(LlamaEngine()) if answers is None else as_engine(answers)
        app = create_app(
            engine,
            chat_ui=chat_ui,
            model=model,
            parameters=PARAMETERS if parameters is None else parameters,
            terms=terms,
            origin=origin,
            secure_cookie=secure_cookie,
            hosts=_hosts(host, origin, allowed_hosts),
            max_generations=max_generations,
            max_waiting=max_waiting,
            limits=limits,
            on_access=on_access,
        )
        listener = owned.enter_context(listen(host, port))
    except BaseException:
        owned.close()
        raise
    return Server(app, listener, owned=owned)


class Server:
    """A running server; ``url`` is its base URL."""

    def __init__(self, app: Starlette, listener: socket.socket, *, owned: ExitStack) -> None:
        self.url: str = _url(listener)
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
        """Stop all answers, close all connections, and wait for their end."""
        self._running.should_exit = True
        self._thread.join()
        self._owned.close()


class _Uvicorn(uvicorn.Server):
    """uvicorn without a log. ``ready`` is set when it listens. It does not wait for clients."""

    def __init__(self, app: Starlette) -> None:
        config = uvicorn.Config(
            app,
            http=Protocol,
            ws="none",
            lifespan="on",
            loop="asyncio",
            log_config=None,
            log_level=logging.CRITICAL,
            access_log=False,
            server_header=False,
            limit_concurrency=MOST_CONNECTIONS,
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
        # Abort the connections, because a client that streams, or never reads, would delay the end.
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await super().shutdown(sockets)


def _hosts(host: str, origin: str | None, allowed: Sequence[str]) -> frozenset[str] | None:
    # The names of other addresses than loopback are unknown, so any is allowed (None).
    if "*" in allowed or not (allowed or is_loopback(host)):
        return None
    own = urlsplit(origin or "").hostname
    return frozenset([each.lower() for each in allowed] + ([own] if own else []) + [host])


def listen(host: str, port: int) -> socket.socket:
    if not 0 <= port <= 65535:
        raise ConfigurationError(f"Invalid port {port}", hint="Pass 0 to 65535.", argument="port")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family)
    except OSError as exc:
        # Python appends the address to the reason.
        reason = str(exc.strerror or exc).partition(" (while ")[0]
        raise OSError(exc.errno, f"Cannot listen on {host}, port {port}: {reason}") from exc
    # Accepted sockets inherit this. asyncio sets it only on sockets that know their protocol.
    # Without it, a body is delayed by up to 40 ms after its headers.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
