"""`checks`: diagnose the connection to a server, step by step, with likely causes of failures."""

from __future__ import annotations

import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Protocol
from urllib.parse import urlsplit

import msgspec

from h2o_client.answer.reply import Reply
from h2o_client.backend.backend import Backend
from h2o_client.backend.cleanup import TemporaryConversation
from h2o_client.backend.detector import MODEL_WAS_DOWN, NO_MODELS
from h2o_client.conversation import Conversation
from h2o_client.dialects import detection, pages
from h2o_client.doctor import openai_api
from h2o_client.errors import (
    AuthenticationError,
    ConfigurationError,
    GenerationError,
    H2oError,
    ModelUnavailableError,
    ServerError,
    StatusError,
    TermsNotAcceptedError,
    TransportError,
    TransportTimeout,
)
from h2o_client.options import Options
from h2o_client.printable import printable
from h2o_client.timeouts import monotonic
from h2o_client.transport.call import Call
from h2o_client.transport.probe import (
    goes_directly,
    names_of,
    proxy_of,
    speaks_http,
    speaks_tls,
)

_PROBE = 3.0  # seconds to find out which protocol a port speaks
_ENOUGH = 40  # tokens to read of the test answer
_LONGEST = 30.0  # seconds from the first of them to the last
_SILENT = 15.0  # seconds of silence, at the end of these, after which no token is expected
_PROMPT = "Say hello in one word."


class Check(msgspec.Struct, frozen=True):
    """The result of one step of `H2oSession.check`. ``status`` is "ok", "failed" or "skipped".

    ``name`` is "address", "network", "TLS", "server", "version", "cookie", "terms", "login",
    "models", "conversation", "answer" or "deletion". ``detail`` is the finding, ``hint`` says what
    to do about a failure, and ``kind`` is the class of the error that another call would raise.
    """

    name: str
    status: str
    detail: str = ""
    hint: str = ""
    kind: str = ""


class Seen(Protocol):
    """The part of `H2oSession.server`'s result that is used here."""

    @property
    def versions(self) -> str: ...

    @property
    def version(self) -> str: ...


def checks(backend: Backend, server_at: Callable[[str], Seen]) -> Iterator[Check]:
    """Yield the result of each step as soon as it is done. Failures of the server never raise.

    ``server_at`` returns the chat-ui at another address, or raises an `H2oError`.
    """
    steps = _Steps(backend, server_at)
    try:
        yield from _outcomes(steps)
    finally:
        steps.leave()


def _outcomes(steps: _Steps) -> Iterator[Check]:
    names = [name for name, _ in steps.all()]
    failure: _Failed | None = None
    for place, (name, step) in enumerate(steps.all()):
        outcome: Check | _Failed = Check(name, "skipped")
        if failure is None or (name == "deletion" and steps.conversation is not None):
            outcome = steps.tried(name, step)
        elif failure.step == name:
            outcome = failure
        if isinstance(outcome, _Failed):
            if outcome.step not in names[place:]:
                outcome.step = name
            failure = failure or outcome
            outcome = outcome.as_check() if outcome.step == name else Check(name, "skipped")
        yield outcome


class _Skipped(Exception):
    """Raised by a step that does not apply, with the reason."""


class _Failed(Exception):
    """Raised by a failed step. ``step`` is the one to blame, if another; ``kind`` the error."""

    def __init__(self, detail: str, hint: str = "", *, step: str = "", kind: str = "") -> None:
        super().__init__(detail)
        self.detail = detail.rstrip(".")
        self.hint = hint
        self.step = step
        self.kind = kind

    def as_check(self) -> Check:
        kind = self.kind or _KIND_OF.get(self.step, "StatusError")
        return Check(self.step, "failed", self.detail, self.hint, kind)


class _Steps:
    """The steps. Later steps use the findings of earlier ones."""

    def __init__(self, backend: Backend, server_at: Callable[[str], Seen]) -> None:
        self.conversation: Conversation | None = None
        self._temporary: TemporaryConversation | None = None  # until it is deleted
        self._backend = backend
        self._config = backend.config
        self._transport = backend.transport
        self._server_at = server_at
        # Requests must not bypass a proxy.
        self._direct = goes_directly(self._transport)
        self._first_error: H2oError | None = None
        self._answers = False  # whether a chat-ui has responded
        self._fails = False  # whether the first response had a status 5xx
        self._wants_password = False  # whether the first response asked for HTTP Basic credentials
        self._timeouts = msgspec.structs.replace(backend.timeouts, total=None)
        parts = urlsplit(self._transport.base_url)
        self._tls = parts.scheme == "https"
        self._path = parts.path
        self._root = f"{parts.scheme}://{parts.netloc}"
        self._place = parts.hostname or "", parts.port or (443 if self._tls else 80)

    def all(self) -> list[tuple[str, Callable[[], str]]]:
        """The names and functions of the steps, in order."""
        return [
            ("address", self._address),
            ("network", self._network),
            ("TLS", self._encryption),
            ("server", self._server),
            ("version", self._version),
            ("cookie", self._cookie),
            ("terms", self._terms),
            ("login", self._login),
            ("models", self._models),
            ("conversation", self._creation),
            ("answer", self._answer),
            ("deletion", self._deletion),
        ]

    def tried(self, name: str, step: Callable[[], str]) -> Check | _Failed:
        """Run a step and return its result."""
        try:
            return Check(name, "ok", step())
        except _Skipped as exc:
            return Check(name, "skipped", str(exc))
        except _Failed as exc:
            return exc
        except H2oError as exc:
            failed = self._explained(exc, name)
            failed.kind = failed.kind or type(exc).__name__
            return failed

    def _explained(self, exc: H2oError, name: str) -> _Failed:
        """Explain an error: the step that it concerns, what happened, and what to do."""
        if self._is_cookie_insecure():
            return _Failed(*_sentences(exc), step="cookie")
        if isinstance(exc, AuthenticationError) and exc.status == 401 and self._wants_password:
            return _Failed(f"The server wants a password: {exc.said}", _PASSWORD, step="login")
        if isinstance(exc, AuthenticationError) and self._is_cookie_refused(exc):
            cookies = ", ".join(sorted({each.name for each in self._transport.cookies.kept()}))
            return _Failed(
                f"The server wants a login, and does not take the cookie {cookies}: it has "
                "expired, or is another server's",
                "Log in with your browser again, and take the cookie from there.",
                step="login",
            )
        if isinstance(exc, GenerationError):
            return _Failed(
                f"The model failed while it was answering: {exc.said}",
                "The chat-ui is fine; who runs it has to look at the model server behind it.",
            )
        if isinstance(exc, ServerError) and exc.status == 500 and exc.origin == "server":
            hint = _DATABASE if name != "answer" else exc.hint
            return _Failed(f"The server answered 500: {exc.said}", hint)
        if isinstance(exc, TransportTimeout) and exc.which != "connect" and name != "answer":
            detail, hint = _sentences(exc)
            return _Failed(detail, f"{_DATABASE} {hint}")
        if isinstance(exc, StatusError):
            is_tls = exc.status == 400 and self._is_tls_spoken()
            hint = self._https_hint() if is_tls else exc.hint
            step = next((step for kind, step in _STEP_OF if isinstance(exc, kind)), "")
            said = exc.said or "no reason given"
            return _Failed(f"The server answered {exc.status}: {said}", hint, step=step)
        if exc.message.startswith("The proxy ") and " failed: " in exc.message:
            return self._proxy_failed(exc)
        if self._direct and _is_for_another_name(exc):
            return self._named_otherwise()
        if not _is_no_connection(exc) and self._is_tls_spoken():
            return _Failed(*_sentences(exc)[:1], hint=self._https_hint())
        return _Failed(*_sentences(exc))

    def _address(self) -> str:
        if not self._config.has_address:
            raise _Failed(
                "No server was named, and the default one has not spoken this protocol since "
                "October 2023",
                'Name yours: H2oSession("http://localhost:3000"), or set H2O_CLIENT_URL.',
            )
        return self._transport.base_url

    def _network(self) -> str:
        """Check that a connection can be opened. Later steps check the responses."""
        try:
            enough = detection.is_enough
            first = self._transport.request(detection.first_request(), self._call(), enough=enough)
            challenge = first.headers.get("www-authenticate", "")
            self._wants_password = challenge.lower().startswith("basic")
            self._fails = first.status >= 500
        except H2oError as exc:
            self._first_error = exc
            if _is_no_connection(exc) and not self._is_handshake_unanswered(exc):
                raise
        if not self._direct:
            return "the proxy takes connections"
        host, port = self._place
        return f"{host} takes connections at port {port}"

    def _encryption(self) -> str:
        if not self._tls:
            raise _Skipped("the address is http")
        error = self._first_error
        silent = isinstance(error, TransportTimeout) and error.which != "connect"
        if isinstance(error, TransportError) and not silent:
            if isinstance(error.__cause__, ssl.SSLCertVerificationError):
                raise error
            if self._direct and speaks_http(*self._place, _PROBE):
                url = f"http://{self._transport.base_url.partition('://')[2]}"
                raise _Failed("What answers there speaks plain http", f"Use {url}.")
            if isinstance(error.__cause__, ssl.SSLError) or isinstance(error, TransportTimeout):
                raise error
        return "the certificate is trusted"

    def _server(self) -> str:
        if self._first_error is not None:
            raise self._first_error
        if self._fails:
            # Not three times what may be half a minute each.
            page = self._transport.request(pages.root_request(), self._call())
            self._backend.api.raise_for_status(page)
            if pages.is_empty(page.whole()):
                raise _no_models_loaded()
        try:
            found = self._backend.detector.detect_exactly(self._call())
        except H2oError as exc:
            if self._is_cookie_insecure():
                raise
            if isinstance(exc, ConfigurationError | StatusError):
                self._expect_no_openai_api()
            if isinstance(exc, ConfigurationError):
                raise self._nothing_here(exc) from None
            raise
        self._answers = True
        return f"a chat-ui: {found.why}"

    def _expect_no_openai_api(self) -> None:
        """Raise `_Failed` for the address of an OpenAI-compatible API."""
        found: str | None = "of which this is one call"
        if not openai_api.is_call(self._path):
            try:
                request = openai_api.models_request(self._path)
                response = self._transport.request(request, self._call())
                found = openai_api.described(response.status, response.whole())
            except H2oError:
                return
        if found is not None:
            api = openai_api.api_address(self._transport.base_url)
            raise _Failed(
                f"This is not a chat-ui, but an OpenAI-compatible API ({printable(found)})",
                "Use a client for that, as the package openai or the command llm; or have a "
                f"chat-ui in front of it: h2o-chat serve --upstream {api}",
                kind="ConfigurationError",
            )

    def _nothing_here(self, exc: ConfigurationError) -> _Failed:
        """Look for a chat-ui at other paths of the same host."""
        if "says that it is at another address" in exc.message:
            return _Failed(exc.message, kind="ConfigurationError")
        for path in _other_paths(self._path):
            try:
                self._server_at(self._root + path)
            except H2oError:
                continue
            return _Failed(
                f"No chat-ui answers at {self._transport.base_url}",
                f"One does at {self._root}{path}: use that address.",
                kind="ConfigurationError",
            )
        detail, _ = _sentences(exc)
        hint = "Is the address right, with its port and its path? " + _SAY_VERSION
        return _Failed(detail, hint, kind="ConfigurationError")

    def _version(self) -> str:
        found = self._backend.detector.detect_exactly(self._call())
        dialect = found.dialect
        said = dialect.name
        if found.version and dialect.name != f"chat-ui v{found.version.replace('to ', 'to v')}":
            said += f", {found.version}"
        if self._config.server_version:
            seen = self._server_at(self._transport.base_url)
            answers = seen.versions
            is_other = seen.versions != dialect.name
            if dialect.versions_differ and not is_other:
                answers = f"chat-ui {seen.version}"
                is_other = seen.version != dialect.span
            if is_other:
                detail = f"It is said to be {said}, but {answers} answers"
                raise _Failed(detail, _LEAVE_OUT, kind="ConfigurationError")
        return said

    def _cookie(self) -> str:
        """Post the settings, which sets the session's cookie, and read them with the cookie."""
        try:
            self._backend.set_up(self._call())
        except ConfigurationError as exc:
            if self._is_cookie_insecure():
                raise
            # The settings of v0.3 to v0.6 name a model.
            raise _no_models() from exc
        cookies = self._transport.cookies.kept()
        if not cookies:
            raise _Failed(
                "The server gave no session cookie that could be sent back",
                "Does a proxy on the way take the Set-Cookie header off, or set it for another "
                "host?",
            )
        names = ", ".join(sorted({cookie.name for cookie in cookies}))
        if self._config.accept_terms and not self._settings_accepted():
            raise _Failed(
                f"The server does not know its own cookie ({names}) again",
                "Does a proxy on the way take the Cookie header off, or are there several servers "
                "without a common database?",
            )
        return f"{names} comes back"

    def _terms(self) -> str:
        if self._config.accept_terms or self._settings_accepted():
            return "accepted"
        # Only a request that needs the accepted terms shows whether the server requires them.
        self._create()
        return "not accepted, and not needed"

    def _login(self) -> str:
        user = self._backend.login.user(self._call())
        if user is not None:
            return f"logged in as {user.name}"
        self._backend.login.check(self._call())
        if self._transport.cookies.given:
            return (
                "nobody is logged in with this cookie: it is that of a session without a login, "
                "has expired, or is another server's"
            )
        return "nobody is logged in"

    def _models(self) -> str:
        offered = self._backend.models.full_list(self._call())
        wanted = self._config.model
        names = [model.id for model in offered]
        if not offered and not wanted:
            raise _no_models()
        if wanted and offered and wanted not in names:
            raise _Failed(
                f"The model {wanted!r} is not served here", f"Choose one of: {', '.join(names)}."
            )
        return f"{len(offered)}, {wanted or names[0]} is asked"

    def _creation(self) -> str:
        self._create()
        return "made"

    def _create(self) -> None:
        if self.conversation is None:
            call = self._call()
            model = self._backend.choose_model(None, call)
            created = self._backend.creations.create(model.id, None, call)
            self.conversation = Conversation(self._backend, id=created.id)
            self._temporary = self._backend.cleanup.find(created.id)

    def _answer(self) -> str:
        assert self.conversation is not None
        # Other versions would warn that they do not pass it to the model.
        samples = self._backend.set_up().samples
        options: Options = {"max_new_tokens": _ENOUGH} if samples else {}
        with self.conversation.stream(_PROMPT, **options) as reply:
            silence = _read_some(reply)
            first = reply.time_to_first_token
        if first is None:
            raise _Failed("The answer is empty", "Who runs the server has to look at its model.")
        if silence >= _SILENT:
            raise _Failed(
                f"The answer stopped in the middle: nothing came for {silence:.0f} s",
                "Who runs the server has to look at its model.",
            )
        return f"the first token after {first:.1f} s"

    def _deletion(self) -> str:
        assert self.conversation is not None
        self._temporary = None
        self.conversation.delete()
        return "the conversation is gone"

    def leave(self) -> None:
        """Delete the conversation of a caller who stopped iterating, as soon as possible."""
        temporary, self._temporary = self._temporary, None
        if temporary is not None:
            # The garbage collector may have come here, wherever it was.
            temporary.delete_detached()

    def _settings_accepted(self) -> bool:
        return self._backend.read_settings(self._call()).accepted

    def _call(self) -> Call:
        return Call(self._timeouts)

    def _is_cookie_insecure(self) -> bool:
        try:
            self._transport.cookies.check()
        except ConfigurationError:
            return True
        return False

    def _is_cookie_refused(self, exc: AuthenticationError) -> bool:
        """Whether the chat-ui wants a login although the caller gave a cookie."""
        return self._transport.cookies.given and exc.origin == "server"

    def _is_handshake_unanswered(self, exc: H2oError) -> bool:
        """Whether a connection was made, and the port speaks plain HTTP instead of TLS."""
        times_out = isinstance(exc, TransportTimeout) and self._tls and self._direct
        return times_out and speaks_http(*self._place, _PROBE)

    def _is_tls_spoken(self) -> bool:
        """Whether the port speaks TLS, although http was used and failed."""
        unknown = not self._tls and not self._answers and self._direct
        return unknown and speaks_tls(*self._place, _PROBE)

    def _proxy_failed(self, exc: H2oError) -> _Failed:
        """The proxy's address, without credentials."""
        proxy = proxy_of(self._transport) or ""
        scheme, _, rest = proxy.rpartition("://")
        shown = f"{scheme or 'http'}://{rest.rpartition('@')[2]}"
        detail, hint = _sentences(exc)
        _, _, reason = detail.partition(" failed: ")
        reason = re.sub(r"^\[Errno -?\d+\] ", "", reason)
        return _Failed(f"The proxy {shown} failed: {reason}", hint)

    def _named_otherwise(self) -> _Failed:
        host, port = self._place
        names = names_of(host, port, self._transport._verify, _PROBE)
        whose = ", ".join(names) or "another name"
        return _Failed(
            f"The certificate is not for {host}, but for {whose}",
            "Use the name that it is for, or have the server get a certificate for this one.",
        )

    def _https_hint(self) -> str:
        return f"It speaks TLS: use https://{self._transport.base_url.partition('://')[2]}."


_SAY_VERSION = "If it is a chat-ui none the less, say which: server_version=."
_PASSWORD = (
    "It may be a proxy's in front of the chat-ui: give https://user:password@host as the address."
)
_DATABASE = (
    "A chat-ui whose database (MongoDB) is down does so: who runs it has to look at its log."
)
_KIND_OF = {
    "address": "ConfigurationError",
    "network": "TransportError",
    "TLS": "TransportError",
    "answer": "IncompleteAnswerError",
}
_LEAVE_OUT = "Leave server_version= out: it is then found out."
_STEP_OF: tuple[tuple[type[StatusError], str], ...] = (
    (AuthenticationError, "login"),
    (TermsNotAcceptedError, "terms"),
    (ModelUnavailableError, "models"),
)


def _read_some(reply: Reply) -> float:
    """Read an answer, in bounded time. Return the seconds of silence when the time was over."""
    silence = 0.0
    last = monotonic()

    def stop() -> None:
        nonlocal silence
        silence = monotonic() - last
        reply.stop()

    end = threading.Timer(_LONGEST, stop)
    try:
        for number, _ in enumerate(reply):
            last = monotonic()
            if number == 0:
                end.start()
            elif number >= _ENOUGH:
                reply.stop()
    finally:
        end.cancel()
    return silence


def _no_models() -> _Failed:
    return _Failed(
        "The server lists no models",
        "Who runs it has to configure one (MODELS, or OPENAI_BASE_URL on newer servers).",
        step="models",
    )


def _no_models_loaded() -> _Failed:
    return _Failed(NO_MODELS[:1].upper() + NO_MODELS[1:], MODEL_WAS_DOWN, step="models")


def _sentences(exc: H2oError) -> tuple[str, str]:
    """Return what happened, and what to do."""
    detail, _, hint = exc.message.partition(". ")
    return detail, hint


def _is_no_connection(exc: H2oError) -> bool:
    if isinstance(exc, TransportTimeout):
        return exc.which == "connect"
    causes = (ConnectionRefusedError, socket.gaierror)
    return isinstance(exc, TransportError) and (
        # A name with a label of more than 63 characters fails before it is looked up.
        isinstance(exc.__cause__, causes) or exc.message.startswith(("The proxy", "The name of"))
    )


def _is_for_another_name(exc: H2oError) -> bool:
    cause = exc.__cause__
    mismatches = (62, 64)  # of OpenSSL: X509_V_ERR_HOSTNAME_MISMATCH and IP_ADDRESS_MISMATCH
    return isinstance(cause, ssl.SSLCertVerificationError) and cause.verify_code in mismatches


def _other_paths(path: str) -> list[str]:
    """Where a chat-ui may be instead: at the parent paths, and where its own examples put it."""
    parts = path.strip("/").split("/") if path else []
    above = ["/" + "/".join(parts[:number]) if number else "" for number in range(len(parts))]
    return [each for each in (*reversed(above), f"{path}/chat", "/chat") if each != path]
