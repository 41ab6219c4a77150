"""Find out which protocol a port speaks, to explain a failure. Sends nothing about the user."""

from __future__ import annotations

import os
import socket
import ssl
from contextlib import suppress
from typing import Any

from requests.utils import DEFAULT_CA_BUNDLE_PATH, select_proxy

from h2o_client.transport.transport import Transport


def speaks_tls(host: str, port: int, seconds: float) -> bool:
    """Whether a TLS handshake succeeds, with any certificate."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        suppress(OSError, ValueError),
        socket.create_connection((host, port), seconds) as sock,
        context.wrap_socket(sock, server_hostname=host),
    ):
        return True
    return False


def speaks_http(host: str, port: int, seconds: float) -> bool:
    """Whether the port answers plain HTTP with plain HTTP."""
    request = b"HEAD / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    with suppress(OSError, ValueError), socket.create_connection((host, port), seconds) as sock:
        sock.sendall(request)
        return sock.recv(5) == b"HTTP/"
    return False


def goes_directly(transport: Transport) -> bool:
    """Whether there is no proxy, neither the caller's nor the environment's."""
    return proxy_of(transport) is None


def proxy_of(transport: Transport) -> str | None:
    """The proxy, with the credentials in its address."""
    return select_proxy(transport.base_url, transport.proxies())


def names_of(host: str, port: int, verify: object, seconds: float) -> list[str]:
    """The names in the server's certificate, if its CA is trusted; no request is sent."""
    if isinstance(verify, ssl.SSLContext):
        return []  # the caller's context must not be changed
    path = verify if isinstance(verify, str) else DEFAULT_CA_BUNDLE_PATH
    with suppress(OSError, ValueError):
        context = ssl.create_default_context()
        context.load_verify_locations(**{"capath" if os.path.isdir(path) else "cafile": path})
        context.check_hostname = False
        with (
            socket.create_connection((host, port), seconds) as sock,
            context.wrap_socket(sock, server_hostname=host) as tls,
        ):
            shown = tls.getpeercert() or {}
            return [str(name) for name in _texts_of(shown.get("subjectAltName"))]
    return []


def _texts_of(pairs: Any) -> list[object]:
    """The second item of each pair. ``Any``, because mypy does not know the fields."""
    return [pair[1] for pair in pairs or ()]
