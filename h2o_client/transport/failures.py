"""The exceptions of the standard library, urllib3 and requests, to ours."""

from __future__ import annotations

import http.client
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import requests
import urllib3

from h2o_client.errors import (
    ConfigurationError,
    H2oError,
    ProtocolError,
    TransportError,
    TransportTimeout,
)
from h2o_client.timeouts import Expired
from h2o_client.transport.call import Call

NETWORK_FAILURES = (
    OSError,
    http.client.HTTPException,
    urllib3.exceptions.HTTPError,
    requests.exceptions.RequestException,
)
"""What is translated. Whatever else passes through is the caller's: a signal handler's, mostly."""


def raise_from_handler(exc: BaseException) -> None:
    """Raise the exception of a signal handler that ``exc`` is or wraps, as it was raised.

    Handlers often raise a TimeoutError, which failures of the network are, too: the traceback tells
    them apart.
    """
    handlers = {_code_of(signal.getsignal(number)) for number in signal.valid_signals()} - {None}
    raised = [cause for cause in _causes(exc, with_context=False) if _came_through(cause, handlers)]
    if raised:
        raise raised[-1]  # urllib3 puts the traceback of what it wraps on the wrapping, too


def translated(exc: BaseException, call: Call, url: str) -> H2oError:
    """Translate a failure of the network to an error of this package.

    Raises what a signal handler has raised: see `raise_from_handler`.
    """
    raise_from_handler(exc)
    shown = url.partition("?")[0]
    for cause in _causes(exc, with_context=False):
        if isinstance(cause, Expired):
            return TransportTimeout(cause.which, cause.seconds, url=shown)
    causes = list(_causes(exc))
    host = urlsplit(url).netloc
    if isinstance(exc, requests.exceptions.ConnectTimeout) or (
        not call.sent and any(isinstance(cause, TimeoutError) for cause in causes)
    ):
        seconds = call.timeouts.connect or call.timeouts.total or 0.0
        return TransportTimeout("connect", seconds, url=shown)
    for kinds, make in _TRANSLATIONS:
        for cause in causes:
            if isinstance(cause, kinds):
                return _at(make(cause, host), shown)
    return _at(TransportError(f"The connection to {host} failed: {type(exc).__name__}."), shown)


def root_of(exc: BaseException) -> BaseException:
    """The innermost of the exceptions wrapped in ``exc``: all that a traceback need show."""
    return [exc, *(cause for cause in _causes(exc) if isinstance(cause, OSError))][-1]


def proxy_refused(url: str) -> TransportError:
    """For a 407: the proxy wants credentials, or others."""
    error = TransportError(
        f"The proxy on the way to {urlsplit(url).netloc} wants credentials: give them in proxy=, "
        "as http://name:password@host:port.",
        url=url,
    )
    error.permanent = True
    return error


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
    """``exc`` and what lies under it: requests and urllib3 wrap in several ways.

    What was merely being handled when it was raised, its context, may be an earlier failure.
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


def _proxy_failed(cause: BaseException, host: str) -> H2oError:
    roots = [str(root) for root in _causes(cause) if isinstance(root, OSError)]
    return TransportError(
        f"The proxy on the way to {host} failed: {roots[-1] if roots else 'no answer'}. "
        "Look at proxy= and the HTTPS_PROXY and HTTP_PROXY variables."
    )


def _certificate_refused(cause: BaseException, host: str) -> H2oError:
    reason = getattr(cause, "verify_message", "") or "it cannot be verified"
    error = TransportError(
        f"The certificate of {host} is not trusted: {reason}. For a server with an authority of "
        "its own, give verify='/path/to/ca.pem'."
    )
    error.permanent = True
    return error


def _head_not_understood(cause: BaseException, host: str) -> H2oError:
    return ProtocolError(f"the head of the answer of {host}", type(cause).__name__)


def _not_for_requests(cause: BaseException, host: str) -> H2oError:
    return ConfigurationError(
        f"A request to {host} cannot be made ({type(cause).__name__}): look at the address, "
        "headers=, cookies=, proxy= and the HTTPS_PROXY and HTTP_PROXY variables."
    )


def _says(sentence: str) -> Callable[[BaseException, str], H2oError]:
    return lambda cause, host: TransportError(sentence.format(host=host))


# The first row of which an exception or a cause of it is an instance.
_TRANSLATIONS: tuple[
    tuple[tuple[type[BaseException], ...], Callable[[BaseException, str], H2oError]], ...
] = (
    ((ssl.SSLCertVerificationError,), _certificate_refused),
    ((requests.exceptions.ProxyError, urllib3.exceptions.ProxyError), _proxy_failed),
    (
        (urllib3.exceptions.NameResolutionError, socket.gaierror),
        _says("The name of {host} cannot be looked up. Is the address right, is there a network?"),
    ),
    ((ssl.SSLError, urllib3.exceptions.SSLError), _says("TLS with {host} failed: is it https?")),
    ((ConnectionRefusedError,), _says("{host} refused the connection. Is the server running?")),
    (
        (http.client.RemoteDisconnected,),
        _says("{host} closed the connection without an answer. Is it http or https?"),
    ),
    ((ConnectionError,), _says("{host} broke the connection off.")),
    ((http.client.HTTPException,), _head_not_understood),
    (
        (requests.exceptions.InvalidHeader, requests.exceptions.InvalidURL, ValueError),
        _not_for_requests,
    ),
)
