"""What a port speaks, for who looks for the reason of a failure. Nothing is sent that says much."""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress

from requests.utils import select_proxy

from h2o_client.transport.transport import Transport


def speaks_tls(host: str, port: int, seconds: float) -> bool:
    """Whether a TLS handshake, whoever's the certificate, comes to its end there."""
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
    """Whether plain HTTP is answered there by plain HTTP."""
    request = b"HEAD / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    with suppress(OSError, ValueError), socket.create_connection((host, port), seconds) as sock:
        sock.sendall(request)
        return sock.recv(5) == b"HTTP/"
    return False


def goes_directly(transport: Transport) -> bool:
    """Whether no proxy is on the way, of the caller's or of the environment's."""
    return select_proxy(transport.base_url, transport.proxies()) is None
