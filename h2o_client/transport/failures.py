"""Translate exceptions of the standard library, urllib3 and requests to those of this package."""

from __future__ import annotations

import errno
import http.client
import re
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import requests
import urllib3

from h2o_client.errors import (
    ConfigurationError,
    H2oError,
    Hint,
    ProtocolError,
    TransportError,
    TransportTimeout,
)
from h2o_client.timeouts import Expired

if TYPE_CHECKING:
    from h2o_client.transport.call import Call

_LONGEST_REASON = 200

NETWORK_FAILURES = (
    OSError,
    http.client.HTTPException,
    urllib3.exceptions.HTTPError,
    requests.exceptions.RequestException,
)
"""The exceptions that are translated. Others, mostly from signal handlers, pass unchanged."""


def raise_from_handler(exc: BaseException) -> None:
    """Raise the exception of a signal handler, if ``exc`` is one or wraps one.

    Handlers often raise TimeoutError, as the network does. The tracebacks differ.
    """
    handlers = {_code_of(signal.getsignal(number)) for number in signal.valid_signals()} - {None}
    raised = [cause for cause in _causes(exc, with_context=False) if _came_through(cause, handlers)]
    if raised:
        raise raised[-1]  # the innermost: urllib3 copies its traceback to the wrapping exception


def translated(exc: BaseException, call: Call, url: str, *, proxy: str = "") -> H2oError:
    """Translate a failure of the network to an error of this package.

    ``proxy`` is the proxy's address, if there is one. If a signal handler has raised ``exc``, it
    is raised again: see `raise_from_handler`.
    """
    raise_from_handler(exc)
    shown = url.partition("?")[0]
    raised = list(_causes(exc, with_context=False))
    for cause in raised:
        if isinstance(cause, Expired):
            return TransportTimeout(cause.which, cause.seconds, url=shown)
    if any(isinstance(cause, urllib3.exceptions.ReadTimeoutError) for cause in raised):
        which = call.clock.which if call.is_connected else call.budget
        return TransportTimeout(which, getattr(call.timeouts, which, None) or 0.0, url=shown)
    causes = list(_causes(exc))
    host = urlsplit(url).netloc
    if isinstance(exc, requests.exceptions.ConnectTimeout) or (
        not call.sent and any(isinstance(cause, TimeoutError) for cause in causes)
    ):
        seconds = call.timeouts.connect or call.timeouts.total or 0.0
        return TransportTimeout("connect", seconds, url=shown)
    if call.sent and isinstance(exc, _HEADERS_REFUSED):
        return ProtocolError(f"the headers of {host}", str(exc)[:_LONGEST_REASON])
    proxies = [cause for cause in causes if isinstance(cause, _PROXY_ERRORS)]
    if proxies and any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
        host = proxy
    elif proxies:
        return _at(_proxy_failed(proxies[0], host, proxy), shown)
    for kinds, make in _TRANSLATIONS:
        for cause in causes:
            if isinstance(cause, kinds):
                return _at(make(cause, host), shown)
    return _at(_not_connected(exc, host), shown)


_PROXY_ERRORS = (requests.exceptions.ProxyError, urllib3.exceptions.ProxyError)
_HEADERS_REFUSED = (requests.exceptions.InvalidHeader, urllib3.exceptions.InvalidHeader)


def root_of(exc: BaseException) -> BaseException:
    """The innermost OSError in ``exc``, or ``exc`` itself: enough for a traceback."""
    return [exc, *(cause for cause in _causes(exc) if isinstance(cause, OSError))][-1]


def without_frames(exc: BaseException) -> None:
    """Remove the tracebacks of ``exc`` and of its causes.

    Error trackers show the variables in their frames: cookies, credentials and the prompt.
    """
    chain: list[BaseException | None] = [exc]
    seen: set[int] = set()
    while chain:
        each = chain.pop()
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            each.__traceback__ = None
            chain += [each.__cause__, each.__context__, getattr(each, "reason", None)]
            chain += each.args
            chain = [one for one in chain if isinstance(one, BaseException)]


def proxy_refused(url: str) -> TransportError:
    """The error for a 407: the proxy requires credentials, or refuses them."""
    return TransportError(
        f"The proxy on the way to {urlsplit(url).netloc} requires valid credentials",
        hint=Hint("Pass them as {proxy:http://name:password@host:port}."),
        argument="proxy",
        url=url,
        stage="proxy",
        permanent=True,
    )


def _came_through(exc: BaseException, codes: set[object]) -> bool:
    trace = exc.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code in codes:
            return True
        trace = trace.tb_next
    return False


def _code_of(handler: object) -> object:
    called = getattr(handler, "func", handler)  # of a partial
    if not hasattr(called, "__code__"):
        called = getattr(type(called), "__call__", None)  # noqa: B004
    return getattr(called, "__code__", None)


def _at(error: H2oError, url: str) -> H2oError:
    if isinstance(error, TransportError):
        error.url = url
    return error


def _causes(exc: BaseException, *, with_context: bool = True) -> Iterator[BaseException]:
    """``exc`` and all exceptions that it wraps, in any of the ways of requests and urllib3.

    Its ``__context__`` may be an unrelated earlier failure; see ``with_context``.
    """
    seen: list[BaseException] = []
    waiting = [exc]
    while waiting:
        cause = waiting.pop(0)
        if any(cause is other for other in seen):
            continue
        seen.append(cause)
        yield cause
        context = cause.__context__ if with_context else None
        below = (getattr(cause, "reason", None), *cause.args, cause.__cause__, context)
        waiting.extend(one for one in below if isinstance(one, BaseException))


def _proxy_failed(cause: BaseException, host: str, proxy: str) -> H2oError:
    roots = [root for root in _causes(cause) if isinstance(root, OSError)]
    reason = _reason(roots[-1]) if roots else "no answer"
    return TransportError(
        f"The proxy {proxy or 'of this system'} on the way to {host} failed: {reason}",
        hint=Hint("Check {proxy} and the variables HTTPS_PROXY, HTTP_PROXY and ALL_PROXY."),
        argument="proxy",
        stage="proxy",
    )


def _certificate_refused(cause: BaseException, host: str) -> H2oError:
    reason = str(getattr(cause, "verify_message", "")).rstrip(".") or "it cannot be verified"
    code = getattr(cause, "verify_code", 0)
    hint: str = Hint('If the server has a CA of its own, pass {verify:"/path/to/ca.pem"}.')
    if code in _NOT_VALID_NOW:
        hint = "The operator has to renew the certificate, or the clock of this machine is wrong."
    elif code in _FOR_ANOTHER_NAME:
        hint = "Use a name that is in the certificate, or have the operator add this name to it."
    return TransportError(
        f"The certificate of {host} is not trusted: {reason}",
        hint=hint,
        argument="verify",
        stage="TLS",
        permanent=True,
    )


# Of OpenSSL: X509_V_ERR_CERT_NOT_YET_VALID, _CERT_HAS_EXPIRED; _HOSTNAME_MISMATCH, _IP_ADDRESS_...
_NOT_VALID_NOW = (9, 10)
_FOR_ANOTHER_NAME = (62, 64)


def _tls_failed(cause: BaseException, host: str) -> H2oError:
    tls = next((each for each in _causes(cause) if isinstance(each, ssl.SSLError)), None)
    reason = (tls.reason if tls is not None else None) or ""
    shown = reason.lower().replace("_", " ").strip()
    hint = next(
        (hint for words, hint in _TLS_HINTS if words in reason), "Is it https? If not, use http://."
    )
    said = shown or "the server closed the connection"
    return TransportError(f"TLS with {host} failed: {said}", hint=hint, stage="TLS")


# By a part of OpenSSL's reason.
_TLS_HINTS = (
    (
        "CERTIFICATE_REQUIRED",
        Hint(
            "The server requires a client certificate. {Pass an SSLContext as verify=} that has "
            "loaded it (load_cert_chain)."
        ),
    ),
    (
        "HANDSHAKE_FAILURE",
        Hint(
            "The server may require a client certificate, or an old version of TLS. {Pass an "
            "SSLContext as verify=} that has it."
        ),
    ),
    (
        "PROTOCOL",
        Hint(
            "This Python does not allow the server's version of TLS. {Pass an SSLContext as "
            "verify=} that does (minimum_version)."
        ),
    ),
)


def _not_connected(cause: BaseException, host: str) -> H2oError:
    roots = [root for root in _causes(cause) if isinstance(root, OSError)]
    root = roots[-1] if roots else cause
    return TransportError(
        f"The connection to {host} failed: {_reason(root)}",
        hint=_HINTS.get(getattr(root, "errno", None) or 0),
        stage="connect",
    )


_HINTS = {
    errno.EMFILE: "This program has too many files and connections open. Close some, or raise its "
    "limit (ulimit -n).",
    errno.ENFILE: "This machine has too many files open.",
    errno.EHOSTUNREACH: "Is there a network, and is a VPN needed?",
    errno.ENETUNREACH: "Is there a network, and is a VPN needed?",
}


def _reason(exc: BaseException) -> str:
    """The system's message without its number; else the exception's message or its name."""
    said = getattr(exc, "strerror", None) or str(exc)
    said = " ".join(re.sub(r"^\[Errno -?\d+\] ", "", str(said)).split())
    return said.rstrip(".")[:_LONGEST_REASON] or type(exc).__name__


def _head_not_understood(cause: BaseException, host: str) -> H2oError:
    if _is_cut_off(cause):
        return TransportError(f"{host} closed the connection in the middle of the headers")
    return ProtocolError(f"the headers of {host}", type(cause).__name__)


def _is_cut_off(cause: BaseException) -> bool:
    """Whether the connection ended in the middle of the status line."""
    if not isinstance(cause, http.client.BadStatusLine):
        return False
    begun, expected = str(cause.args[0]), "HTTP/"
    return not begun.endswith("\n") and begun[: len(expected)] == expected[: len(begun)]


def _not_for_requests(cause: BaseException, host: str) -> H2oError:
    return ConfigurationError(
        f"Cannot make a request to {host} ({type(cause).__name__})",
        hint=Hint(
            "Check {base_url}, {headers}, {cookies}, {proxy} and the variables HTTPS_PROXY and "
            "HTTP_PROXY."
        ),
    )


def _lookup_failed(cause: BaseException, host: str) -> H2oError:
    return TransportError(
        f"Cannot look up the name of {host}: {_innermost_reason(cause)}",
        hint="Is the address right, is there a network?",
        stage="lookup",
    )


def _refused(cause: BaseException, host: str) -> H2oError:
    return TransportError(
        f"{host} refused the connection", hint="Is the server running?", stage="connect"
    )


def _closed_unanswered(cause: BaseException, host: str) -> H2oError:
    return TransportError(
        f"{host} closed the connection without a response", hint="Is it http or https?"
    )


def _broken_off(cause: BaseException, host: str) -> H2oError:
    return TransportError(f"{host} broke the connection: {_innermost_reason(cause)}")


def _innermost_reason(cause: BaseException) -> str:
    roots = [root for root in _causes(cause) if isinstance(root, OSError)]
    return _reason(roots[-1] if roots else cause)


# The first row that matches the exception or one of its causes is used.
_TRANSLATIONS: tuple[
    tuple[tuple[type[BaseException], ...], Callable[[BaseException, str], H2oError]], ...
] = (
    ((ssl.SSLCertVerificationError,), _certificate_refused),
    ((urllib3.exceptions.NameResolutionError, socket.gaierror), _lookup_failed),
    ((ssl.SSLError, urllib3.exceptions.SSLError), _tls_failed),
    ((ConnectionRefusedError,), _refused),
    ((http.client.RemoteDisconnected,), _closed_unanswered),
    ((ConnectionError,), _broken_off),
    ((urllib3.exceptions.NewConnectionError,), _not_connected),
    ((http.client.HTTPException,), _head_not_understood),
    (
        (requests.exceptions.InvalidHeader, requests.exceptions.InvalidURL, ValueError),
        _not_for_requests,
    ),
)
