"""`checks`: diagnose the connection to a server, step by step, from its address to an answer."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Literal

import msgspec

from h2o_client.conversation import Conversation
from h2o_client.dialects import detection, pages
from h2o_client.doctor.causes import (
    LEAVE_OUT_VERSION,
    LOOK_AT_MODEL,
    Causes,
    Failed,
    ServerAt,
    is_no_connection,
    no_models,
    no_models_loaded,
)
from h2o_client.errors import (
    ConfigurationError,
    H2oError,
    Hint,
    StatusError,
    TransportError,
    TransportTimeout,
)
from h2o_client.options import Options
from h2o_client.timeouts import monotonic
from h2o_client.transport.call import Call

if TYPE_CHECKING:
    from h2o_client.answer.reply import Reply
    from h2o_client.backend.backend import Backend
    from h2o_client.backend.cleanup import TemporaryConversation

_ENOUGH = 40  # tokens to read of the test answer
_LONGEST = 30.0  # seconds from the first token to the last
_SILENT = 15.0  # seconds without a token after which the answer counts as stuck
_PROMPT = "Say hello in one word."


class Check(msgspec.Struct, frozen=True):
    """The result of one step of `H2oSession.check`. ``status`` is "ok", "failed" or "skipped".

    ``name`` is "address", "network", "TLS", "server", "version", "cookie", "terms", "login",
    "models", "conversation", "answer" or "deletion". ``detail`` says what was found. After a
    failure, ``hint`` says what to do, and ``kind`` is the class of the error that calls raise.
    """

    name: str
    status: Literal["ok", "failed", "skipped"]
    detail: str = ""
    hint: str = ""
    kind: str = ""


def checks(backend: Backend, server_at: ServerAt) -> Iterator[Check]:
    """Yield the result of each step as soon as it is done. Failures of the server never raise."""
    steps = _Steps(backend, server_at)
    try:
        yield from _outcomes(steps)
    finally:
        steps.leave()


def _outcomes(steps: _Steps) -> Iterator[Check]:
    names = [name for name, _ in steps.all()]
    failure: Failed | None = None
    for place, (name, step) in enumerate(steps.all()):
        outcome: Check | Failed = Check(name, "skipped")
        if failure is None or (name == "deletion" and steps.conversation is not None):
            outcome = steps.run(name, step)
        elif failure.step == name:
            outcome = failure
        if isinstance(outcome, Failed):
            if outcome.step not in names[place:]:
                outcome.step = name
            failure = failure or outcome
            outcome = _as_check(outcome) if outcome.step == name else Check(name, "skipped")
        yield outcome


class _Skipped(Exception):
    """Raised by a step that does not apply, with the reason."""


class _Steps:
    """The steps. Later steps use the findings of earlier ones."""

    def __init__(self, backend: Backend, server_at: ServerAt) -> None:
        self.conversation: Conversation | None = None
        self._temporary: TemporaryConversation | None = None  # until it is deleted
        self._backend = backend
        self._config = backend.config
        self._transport = backend.transport
        self._server_at = server_at
        self._causes = Causes(backend.transport, backend.config.verify)
        self._first_error: H2oError | None = None
        self._fails = False  # whether the first response had a status 5xx
        self._timeouts = msgspec.structs.replace(backend.timeouts, total=None)

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

    def run(self, name: str, step: Callable[[], str]) -> Check | Failed:
        """Run a step and return its result, or a failure with its likely cause."""
        try:
            return Check(name, "ok", step())
        except _Skipped as exc:
            return Check(name, "skipped", str(exc))
        except Failed as exc:
            return exc
        except H2oError as exc:
            return self._causes.explain(exc, name)

    def _address(self) -> str:
        if not self._config.has_address:
            raise Failed(
                "No server address was given, and the default one has not had a chat-ui since "
                "October 2023",
                Hint('Pass {base_url:"http://localhost:3000"}, or set H2O_CLIENT_URL.'),
            )
        return self._transport.base_url

    def _network(self) -> str:
        """Check that a connection can be opened. Later steps check the responses."""
        try:
            enough = detection.is_enough
            first = self._transport.request(detection.first_request(), self._call(), enough=enough)
            self._causes.note_challenge(first.headers.get("www-authenticate", ""))
            self._fails = first.status >= 500
        except H2oError as exc:
            self._first_error = exc
            if is_no_connection(exc) and not self._causes.is_tls_unanswered(exc):
                raise
        if not self._causes.is_direct:
            return "the proxy accepts connections"
        host, port = self._causes.place
        return f"{host} accepts connections at port {port}"

    def _encryption(self) -> str:
        if not self._causes.is_tls:
            raise _Skipped("the address is http")
        error = self._first_error
        silent = isinstance(error, TransportTimeout) and error.which != "connect"
        if isinstance(error, TransportError) and not silent:
            if isinstance(error.__cause__, ssl.SSLCertVerificationError):
                raise error
            failed = self._causes.plain_http()
            if failed is not None:
                raise failed
            if isinstance(error.__cause__, ssl.SSLError) or isinstance(error, TransportTimeout):
                raise error
        return "the certificate is trusted"

    def _server(self) -> str:
        if self._first_error is not None:
            raise self._first_error
        if self._fails:
            # Try once, not three times: each attempt may take half a minute.
            page = self._transport.request(pages.root_request(), self._call())
            self._backend.api.raise_for_status(page)
            if pages.is_empty(page.whole()):
                raise no_models_loaded()
        try:
            found = self._backend.detector.detect_exactly(self._call())
        except (ConfigurationError, StatusError) as exc:
            if self._causes.is_cookie_insecure():
                raise
            if failed := self._causes.openai_api(self._call()):
                raise failed from None
            if isinstance(exc, StatusError):
                raise
            raise self._causes.no_chat_ui(exc, self._server_at) from None
        self._causes.note_chat_ui()
        return f"a chat-ui: {found.why}"

    def _version(self) -> str:
        found = self._backend.detector.detect_exactly(self._call())
        dialect = found.dialect
        name = dialect.name
        if found.version and dialect.name != f"chat-ui v{found.version.replace('to ', 'to v')}":
            name += f", {found.version}"
        if self._config.server_version:
            seen = self._server_at(self._transport.base_url)
            answers = seen.versions
            is_other = seen.versions != dialect.name
            if dialect.versions_differ and not is_other:
                answers = f"chat-ui {seen.version}"
                is_other = seen.version != dialect.span
            if is_other:
                raise Failed(
                    f"This is {answers}, not {name}", LEAVE_OUT_VERSION, kind="ConfigurationError"
                )
        return name

    def _cookie(self) -> str:
        """Post the settings, which sets the session's cookie, and read them with the cookie."""
        try:
            self._backend.set_up(self._call())
        except ConfigurationError as exc:
            if self._causes.is_cookie_insecure():
                raise
            # The settings of v0.3 to v0.6 name a model.
            raise no_models() from exc
        cookies = self._transport.cookies.kept()
        if not cookies:
            raise Failed(
                "The server set no session cookie that could be sent back",
                "Does a proxy on the way remove the Set-Cookie header, or set it for another host?",
            )
        names = ", ".join(sorted({cookie.name for cookie in cookies}))
        if self._config.accept_terms and not self._settings_accepted():
            raise Failed(
                f"The server does not recognize its own cookie ({names})",
                "Does a proxy on the way remove the Cookie header, or are there several servers "
                "without a shared database?",
            )
        return f"{names} is recognized"

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
                "nobody is logged in with this cookie: its session has no login, or it has "
                "expired, or it is for another server"
            )
        return "nobody is logged in"

    def _models(self) -> str:
        offered = self._backend.models.full_list(self._call())
        wanted = self._config.model
        names = [model.id for model in offered]
        if not offered and not wanted:
            raise no_models()
        if wanted and offered and wanted not in names:
            raise Failed(f"Unknown model {wanted!r}", f"Available: {', '.join(names)}.")
        return f"{len(offered)} available, {wanted or names[0]} is used"

    def _creation(self) -> str:
        self._create()
        return "created"

    def _create(self) -> None:
        if self.conversation is None:
            call = self._call()
            model = self._backend.choose_model(None, call)
            created = self._backend.creations.create(model.id, None, call)
            self.conversation = Conversation(self._backend, id=created.id)
            self._temporary = self._backend.cleanup.find(created.id)

    def _answer(self) -> str:
        assert self.conversation is not None
        # Other versions ignore this option, and the client would warn about it.
        samples = self._backend.set_up().samples
        options: Options = {"max_new_tokens": _ENOUGH} if samples else {}
        with self.conversation.stream(_PROMPT, **options) as reply:
            silence = _read_some(reply)
            first = reply.time_to_first_token
        if first is None:
            raise Failed("The answer is empty", LOOK_AT_MODEL)
        if silence >= _SILENT:
            raise Failed(
                f"The answer stopped in the middle: nothing came for {silence:.0f} s",
                LOOK_AT_MODEL,
            )
        return f"first token after {first:.1f} s"

    def _deletion(self) -> str:
        assert self.conversation is not None
        self._temporary = None
        self.conversation.delete()
        return "deleted"

    def leave(self) -> None:
        """Delete the conversation of a caller who stopped iterating, as soon as possible."""
        temporary, self._temporary = self._temporary, None
        if temporary is not None:
            # In another thread: the garbage collector may call this anywhere.
            temporary.delete_detached()

    def _settings_accepted(self) -> bool:
        return self._backend.read_settings(self._call()).accepted

    def _call(self) -> Call:
        return Call(self._timeouts)


def _as_check(failed: Failed) -> Check:
    kind = failed.kind or _KIND_OF.get(failed.step, "StatusError")
    return Check(failed.step, "failed", failed.detail, failed.hint, kind)


_KIND_OF = {
    "address": "ConfigurationError",
    "network": "TransportError",
    "TLS": "TransportError",
    "answer": "IncompleteAnswerError",
}


def _read_some(reply: Reply) -> float:
    """Read part of an answer, in bounded time. Return the seconds of silence at a timeout."""
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
