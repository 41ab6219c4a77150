"""Explain failures: which step they belong to, what happened, and what to do.

This uses the fields of errors, and probes which protocols the server's port speaks.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from h2o_client.backend.detector import MODEL_WAS_DOWN, NO_MODELS
from h2o_client.doctor import openai_api
from h2o_client.errors import (
    AuthenticationError,
    ConfigurationError,
    GenerationError,
    H2oError,
    Hint,
    ModelUnavailableError,
    ServerError,
    StatusError,
    TermsNotAcceptedError,
    TransportError,
    TransportTimeout,
)
from h2o_client.printable import printable
from h2o_client.transport.probe import goes_directly, names_of, speaks_http, speaks_tls

if TYPE_CHECKING:
    from h2o_client.transport.call import Call
    from h2o_client.transport.transport import Transport

_PROBE = 3.0  # seconds to find out which protocol a port speaks
# Of OpenSSL: X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH.
_NAME_MISMATCHES = (62, 64)


class Detected(Protocol):
    """The part of `H2oSession.server`'s result that is used here."""

    @property
    def versions(self) -> str: ...

    @property
    def version(self) -> str: ...


ServerAt = Callable[[str], Detected]
"""Returns the chat-ui at another address, or raises an `H2oError`."""


class Failed(Exception):
    """Raised by a failed step.

    ``step`` is the step that the failure belongs to, "" for the current one. ``kind`` is the class
    of the error that other calls would raise, "" for the usual one of the step.
    """

    def __init__(
        self, detail: str, hint: str | None = None, *, step: str = "", kind: str = ""
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.hint: str = hint or ""
        self.step = step
        self.kind = kind


class Causes:
    """Finds the likely causes of errors in the connection to one server.

    The steps note their findings here, because the same error has another meaning after a chat-ui
    has responded.
    """

    def __init__(self, transport: Transport, verify: object) -> None:
        parts = urlsplit(transport.base_url)
        self.is_tls: bool = parts.scheme == "https"
        self.place: tuple[str, int] = (
            parts.hostname or "",
            parts.port or (443 if self.is_tls else 80),
        )
        # Requests must not bypass a proxy.
        self.is_direct: bool = goes_directly(transport)
        self._transport = transport
        self._verify = verify
        self._path = parts.path
        self._root = f"{parts.scheme}://{parts.netloc}"
        self._is_chat_ui = False
        self._wants_password = False

    def note_challenge(self, challenge: str) -> None:
        """Note the ``WWW-Authenticate`` header of the first response."""
        self._wants_password = challenge.lower().startswith("basic")

    def note_chat_ui(self) -> None:
        """Note that a chat-ui answers."""
        self._is_chat_ui = True

    def explain(self, exc: H2oError, step: str) -> Failed:
        """Explain an error of ``step``: what happened, where, and what to do."""
        failed = self._explain(exc, step)
        failed.kind = failed.kind or type(exc).__name__
        return failed

    def _explain(self, exc: H2oError, step: str) -> Failed:
        if self.is_cookie_insecure():
            return Failed(exc.message, exc.hint, step="cookie")
        if isinstance(exc, AuthenticationError) and exc.status == 401 and self._wants_password:
            return Failed(f"The server requires a password: {exc.said}", _PASSWORD, step="login")
        if isinstance(exc, AuthenticationError) and self._is_cookie_refused(exc):
            names = ", ".join(sorted({each.name for each in self._transport.cookies.kept()}))
            return Failed(
                f"The server requires a login and does not accept the cookie {names}",
                "The cookie has expired, or belongs to another server. Log in with a browser "
                "again, and copy its cookie.",
                step="login",
            )
        if isinstance(exc, GenerationError):
            return Failed(exc.message, _MODEL_SERVER)
        if isinstance(exc, ServerError) and exc.status == 500 and exc.origin == "server":
            return Failed(exc.message, exc.hint if step == "answer" else _DATABASE)
        if isinstance(exc, TransportTimeout) and exc.which != "connect" and step != "answer":
            return Failed(exc.message, _SLOW)
        if isinstance(exc, StatusError):
            is_tls = exc.status == 400 and self._speaks_tls_instead()
            hint = self._use_https() if is_tls else exc.hint
            real_step = next((each for kind, each in _STEP_OF if isinstance(exc, kind)), "")
            # Without a reason, either the server or a proxy may have refused.
            what = exc.message if exc.said else f"The server answered {exc.status}: no reason given"
            return Failed(what, hint, step=real_step)
        if self.is_direct and _is_for_another_name(exc):
            return self._for_another_name()
        if not is_no_connection(exc) and self._speaks_tls_instead():
            return Failed(exc.message, self._use_https())
        return Failed(exc.message, exc.hint)

    def no_chat_ui(self, exc: ConfigurationError, server_at: ServerAt) -> Failed:
        """No chat-ui has responded: look for one at other paths of the same host."""
        if exc.suggestion:
            return Failed(exc.message, exc.hint, kind="ConfigurationError")
        for path in _other_paths(self._path):
            try:
                server_at(self._root + path)
            except H2oError:
                continue
            return Failed(
                f"No chat-ui answers at {self._transport.base_url}",
                f"Use {self._root}{path}, where a chat-ui answers.",
                kind="ConfigurationError",
            )
        return Failed(exc.message, _CHECK_ADDRESS, kind="ConfigurationError")

    def openai_api(self, call: Call) -> Failed | None:
        """The failure if the address belongs to an OpenAI-compatible API, else None."""
        found: str | None = "this is one of its paths"
        if not openai_api.is_call(self._path):
            try:
                response = self._transport.request(openai_api.models_request(self._path), call)
                found = openai_api.described(response.status, response.whole())
            except H2oError:
                return None
        if found is None:
            return None
        api = openai_api.api_address(self._transport.base_url)
        return Failed(
            f"This is not a chat-ui, but an OpenAI-compatible API ({printable(found)})",
            "Use a client for that API, such as the package openai or the command llm. Or run a "
            f"chat-ui in front of it: h2o-chat serve --upstream {api}",
            kind="ConfigurationError",
        )

    def plain_http(self) -> Failed | None:
        """The failure of TLS if the port speaks plain HTTP, else None."""
        if not (self.is_direct and speaks_http(*self.place, _PROBE)):
            return None
        url = f"http://{self._transport.base_url.partition('://')[2]}"
        return Failed("The server speaks plain http, not https", f"Use {url}.")

    def is_cookie_insecure(self) -> bool:
        """Whether a cookie may not be sent to this address."""
        try:
            self._transport.cookies.check()
        except ConfigurationError:
            return True
        return False

    def is_tls_unanswered(self, exc: H2oError) -> bool:
        """Whether the port accepts connections, but speaks plain HTTP instead of TLS."""
        is_timeout = isinstance(exc, TransportTimeout) and self.is_tls
        return is_timeout and self.plain_http() is not None

    def _is_cookie_refused(self, exc: AuthenticationError) -> bool:
        """Whether the chat-ui requires a login although the caller gave a cookie."""
        return self._transport.cookies.given and exc.origin == "server"

    def _speaks_tls_instead(self) -> bool:
        """Whether the port speaks TLS, although http was used and failed."""
        is_unknown = not self.is_tls and not self._is_chat_ui and self.is_direct
        return is_unknown and speaks_tls(*self.place, _PROBE)

    def _for_another_name(self) -> Failed:
        host, port = self.place
        names = ", ".join(names_of(host, port, self._verify, _PROBE)) or "another name"
        return Failed(
            f"The certificate is for {names}, not for {host}",
            "Use a name that is in the certificate, or have the operator add this name to it.",
        )

    def _use_https(self) -> str:
        return f"The port speaks TLS. Use https://{self._transport.base_url.partition('://')[2]}."


def is_no_connection(exc: H2oError) -> bool:
    """Whether there was no connection to the server or its proxy."""
    return isinstance(exc, TransportError) and exc.stage in ("lookup", "connect", "proxy")


def no_models() -> Failed:
    """The server lists no models."""
    return Failed(
        "The server lists no models",
        "The operator has to configure one (MODELS, or OPENAI_BASE_URL on newer servers).",
        step="models",
    )


def no_models_loaded() -> Failed:
    """The server could not load its models."""
    return Failed(NO_MODELS, MODEL_WAS_DOWN, step="models")


LOOK_AT_MODEL = "The operator of the server has to check its model."
LEAVE_OUT_VERSION = Hint("Leave out {server_version} to have the version detected.")
_CHECK_ADDRESS = Hint(
    "Is the address right, with its port and its path? If it is a chat-ui, pass its version as "
    "{server_version}."
)
_PASSWORD = Hint(
    "A proxy in front of the chat-ui may require it. Pass {base_url:https://user:password@host}."
)
_DATABASE = "The database (MongoDB) of the chat-ui may be down. Its operator has to check the log."
_SLOW = Hint(
    "The database (MongoDB) of the chat-ui may be down. Its operator has to check the log. If "
    "the server is only slow, allow more with {timeout:seconds}."
)
_MODEL_SERVER = "The chat-ui works. Its operator has to check the model server behind it."
_STEP_OF: tuple[tuple[type[StatusError], str], ...] = (
    (AuthenticationError, "login"),
    (TermsNotAcceptedError, "terms"),
    (ModelUnavailableError, "models"),
)


def _is_for_another_name(exc: H2oError) -> bool:
    cause = exc.__cause__
    return isinstance(cause, ssl.SSLCertVerificationError) and cause.verify_code in _NAME_MISMATCHES


def _other_paths(path: str) -> list[str]:
    """Other paths where a chat-ui may be: the parent paths, and /chat, as in its examples."""
    parts = path.strip("/").split("/") if path else []
    above = ["/" + "/".join(parts[:number]) if number else "" for number in range(len(parts))]
    return [each for each in (*reversed(above), f"{path}/chat", "/chat") if each != path]
