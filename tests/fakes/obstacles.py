"""Obstacles of a request, and the servers that cause them."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import anyio

from fake_chatui import FakeChatUi
from faults import Scene
from h2o_client import (
    Answer,
    AsyncH2oSession,
    AuthenticationError,
    ConfigurationError,
    H2oError,
    H2oSession,
    OriginError,
    ProtocolError,
    RateLimitError,
    ServerError,
    Timeouts,
    TransportError,
    TransportTimeout,
)
from proxies import LoggingProxy, SocksProxy
from scripted import (
    AtAccept,
    Exchange,
    Script,
    ScriptedServer,
    certificates,
    hang_up,
    hang_up_rudely,
    refusing_port,
    unaccepted_port,
)


def asked(face: str, url: str, scene: Scene, timeout: Any = None, **client: Any) -> Answer:
    """The answer through that API. The text read so far is in the scene."""
    if face == "blocking":
        with H2oSession(url, **client) as session:
            reply = session.stream("Hi", timeout=timeout)
            for token in reply:
                scene.text += token
            return reply.read()

    async def ask() -> Answer:
        async with (
            AsyncH2oSession(url, **client) as session,
            session.stream("Hi", timeout=timeout) as reply,
        ):
            async for token in reply:
                scene.text += token
            return await reply.read()

    return anyio.run(ask, backend=face)


def never(exchange: Exchange) -> None:
    raise AssertionError(f"nobody may talk to this server: {exchange.request}")


Opened = tuple[str, dict[str, Any], ScriptedServer | None]


@dataclass(frozen=True, kw_only=True)
class Obstacle:
    """An obstacle. ``open`` returns the URL, the client's arguments, and the server."""

    open: Callable[[ExitStack], Opened]
    error: type[H2oError]
    says: str = ""
    resendable: bool | None = True
    creations: int = 0


def refused(stack: ExitStack) -> Opened:
    return f"http://127.0.0.1:{stack.enter_context(refusing_port())}", {}, None


def unknown_name(stack: ExitStack) -> Opened:
    return "http://no-such-host.invalid", {}, None


def never_accepted(stack: ExitStack) -> Opened:
    port = stack.enter_context(unaccepted_port(full=True))
    return f"http://127.0.0.1:{port}", {"timeout": Timeouts(connect=0.2)}, None


def tls(which: str) -> Callable[[ExitStack], Opened]:
    def opened(stack: ExitStack) -> Opened:
        certs = certificates()
        server = stack.enter_context(ScriptedServer(never, tls=getattr(certs, which)))
        return server.url, {"verify": certs.ca}, server

    return opened


def plain_where_tls_is_meant(stack: ExitStack) -> Opened:
    def plain(exchange: Exchange) -> None:
        exchange.receive()
        exchange.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        exchange.cut()

    server = stack.enter_context(ScriptedServer(AtAccept(plain)))
    return server.url.replace("http:", "https:"), {}, server


def tls_where_plain_is_meant(stack: ExitStack) -> Opened:
    server = stack.enter_context(ScriptedServer(never, tls=certificates().server))
    return server.url.replace("https:", "http:"), {}, server


def accepts_and(script: AtAccept) -> Callable[[ExitStack], Opened]:
    def opened(stack: ExitStack) -> Opened:
        server = stack.enter_context(ScriptedServer(script))
        return server.url, {}, server

    return opened


def proxy(kind: str, *, over_tls: bool) -> Callable[[ExitStack], Opened]:
    """A proxy that fails in that way, in front of a working server."""

    def opened(stack: ExitStack) -> Opened:
        certs = certificates()
        server = stack.enter_context(ScriptedServer(never, tls=certs.server if over_tls else None))
        if kind == "refuses":
            url = f"http://me:pass@127.0.0.1:{stack.enter_context(refusing_port())}"
        elif kind == "cuts":
            url = stack.enter_context(ScriptedServer(hang_up)).url
        elif kind == "wants another login":
            url = stack.enter_context(LoggingProxy(login=("me", "other"))).url
        elif kind == "socks":
            url = stack.enter_context(SocksProxy(failing=True)).url
        else:
            url = stack.enter_context(LoggingProxy(failing=True)).url
        return server.url, {"proxy": url, "verify": certs.ca}, server

    return opened


def on_the_way(
    words: str, script: Script, version: str = "0.10.0"
) -> Callable[[ExitStack], Opened]:
    """A server that fails only for requests of that kind."""

    def before(exchange: Exchange) -> bool:
        request = exchange.request
        if re.fullmatch(words, f"{request.method} {request.path}") is None:
            return False
        script(exchange)
        return True

    def opened(stack: ExitStack) -> Opened:
        server = stack.enter_context(FakeChatUi(version, before=before))
        return server.url, {}, server

    return opened


def reset(exchange: Exchange) -> None:
    exchange.reset()


def answer(status: int, body: bytes = b'{"message":"no"}') -> Script:
    return lambda exchange: exchange.answer(status, body, "application/json")


MODELS = "GET /api/models"


SETTINGS = "POST /settings"


CREATION = "POST /conversation"


HTML = b"<!doctype html><title>Please wait</title>"


OBSTACLES = {
    "refused": Obstacle(open=refused, error=TransportError, says="server running"),
    "a name nobody knows": Obstacle(open=unknown_name, error=TransportError, says="look up"),
    "never accepted": Obstacle(open=never_accepted, error=TransportTimeout, says="connect="),
    "accepted and closed": Obstacle(open=accepts_and(hang_up), error=TransportError),
    "accepted and reset": Obstacle(open=accepts_and(hang_up_rudely), error=TransportError),
    "an authority nobody trusts": Obstacle(
        open=tls("untrusted"), error=TransportError, says="not trusted"
    ),
    "a certificate for another host": Obstacle(
        open=tls("other_host"), error=TransportError, says="not trusted"
    ),
    "https to a plain server": Obstacle(
        open=plain_where_tls_is_meant, error=TransportError, says="Is it https"
    ),
    "http to a server with TLS": Obstacle(open=tls_where_plain_is_meant, error=TransportError),
    "a proxy that refuses": Obstacle(
        open=proxy("refuses", over_tls=False), error=TransportError, says="proxy"
    ),
    "a proxy that refuses, with TLS": Obstacle(
        open=proxy("refuses", over_tls=True), error=TransportError, says="proxy"
    ),
    "a proxy that cuts": Obstacle(open=proxy("cuts", over_tls=False), error=TransportError),
    "a proxy that cuts, with TLS": Obstacle(
        open=proxy("cuts", over_tls=True), error=TransportError, says="proxy"
    ),
    "a proxy without the login": Obstacle(
        open=proxy("wants another login", over_tls=False), error=TransportError, says="proxy="
    ),
    "a proxy without the login, with TLS": Obstacle(
        open=proxy("wants another login", over_tls=True), error=TransportError, says="proxy"
    ),
    "a proxy that gets nowhere": Obstacle(open=proxy("502", over_tls=False), error=ServerError),
    "a proxy that gets nowhere, with TLS": Obstacle(
        open=proxy("502", over_tls=True), error=TransportError, says="proxy"
    ),
    "a socks proxy that fails": Obstacle(open=proxy("socks", over_tls=False), error=TransportError),
    "a page in place of a server": Obstacle(
        open=on_the_way(".*", answer(200, HTML)), error=ConfigurationError, resendable=None
    ),
    "models that are reset": Obstacle(open=on_the_way(MODELS, reset), error=TransportError),
    "models nested too deeply": Obstacle(
        open=on_the_way(MODELS, answer(200, b"[" * 100_000)),
        error=ConfigurationError,
        resendable=None,
    ),
    "settings that are reset": Obstacle(open=on_the_way(SETTINGS, reset), error=TransportError),
    "settings with a 401": Obstacle(
        open=on_the_way(SETTINGS, answer(401)), error=AuthenticationError
    ),
    "settings with a 500": Obstacle(open=on_the_way(SETTINGS, answer(500)), error=ServerError),
    "settings of another address": Obstacle(
        open=on_the_way(SETTINGS, answer(403, b'{"message":"Invalid referer"}')), error=OriginError
    ),
    "settings that are a page": Obstacle(
        open=on_the_way(SETTINGS, answer(200, HTML)), error=ProtocolError
    ),
    "a creation that is reset": Obstacle(
        open=on_the_way(CREATION, reset), error=TransportError, creations=1
    ),
    "a creation with a 429": Obstacle(
        open=on_the_way(CREATION, answer(429)), error=RateLimitError, creations=1
    ),
    "a creation that says nothing": Obstacle(
        open=on_the_way(CREATION, answer(200, b"{}")), error=ProtocolError, creations=1
    ),
    "a creation with an id that leaves its place": Obstacle(
        open=on_the_way(CREATION, answer(200, b'{"conversationId":"../settings?a=b"}')),
        error=ProtocolError,
        creations=1,
    ),
}
