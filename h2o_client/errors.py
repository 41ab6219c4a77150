"""All errors of this package.

::

    H2oError
    ├── ConfigurationError          the caller can fix it without the server
    ├── ConversationBusyError       an earlier answer has not ended on the server: nothing was sent
    ├── UnsupportedError            this version of chat-ui does not support it
    ├── TransportError              the network: refused, reset, TLS, proxy
    │   └── TransportTimeout        a timeout expired (also a builtin TimeoutError)
    ├── StatusError                 an HTTP status that is not a success
    │   ├── AuthenticationError     401, 403, a login wall
    │   ├── OriginError             403 for the Referer or Origin
    │   ├── NotFoundError           404
    │   ├── TermsNotAcceptedError   405
    │   ├── ElicitationClosedError  409: a tool's question was answered before, or has expired
    │   ├── ModelUnavailableError   410, an unknown model
    │   ├── RateLimitError          429
    │   └── ServerError             5xx
    ├── GenerationError             the model failed after the answer had started
    ├── IncompleteAnswerError       the stream ended without its terminal event
    └── ProtocolError               the response cannot be parsed

An error has fields: ``message`` says what happened, ``hint`` what to do, and ``argument`` names the
argument that caused it. ``str()`` joins them. The command and the notebook call
``H2oError.describe`` to get the same text with the names of their own options.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, ClassVar, Literal

from h2o_client.printable import printable

if TYPE_CHECKING:
    from h2o_client.messages import Message

__all__ = [
    "AuthenticationError",
    "ConfigurationError",
    "ConversationBusyError",
    "ElicitationClosedError",
    "GenerationError",
    "H2oError",
    "IncompleteAnswerError",
    "ModelUnavailableError",
    "NotFoundError",
    "OriginError",
    "ProtocolError",
    "RateLimitError",
    "ServerError",
    "StatusError",
    "TermsNotAcceptedError",
    "TransportError",
    "TransportTimeout",
    "UnsupportedError",
]

Spelling = Callable[[str, str], str]
"""Returns how an interface writes a name and its value from a `Hint`."""


def in_python(name: str, value: str) -> str:
    """The `Spelling` of the library, which writes ``model`` as an argument."""
    if name == "h2o-chat serve":
        return "python -m h2o_client.server"  # works without the extra "cli"
    if not name.isidentifier():
        return name
    if name == "base_url" and value:
        return f"H2oSession({value})"
    return f"{name}={value}"


class Hint(str):
    """What to do. A name in braces is written differently in Python, the shell and the notebook.

    It is an argument (``{model}``, with a value ``{cookies:"name=value"}``), a method
    (``{models()}``) or a phrase (``{a new conversation}``). Keyword arguments are texts to insert.
    As a str, the hint is written for Python.
    """

    template: str
    texts: dict[str, str]

    def __new__(cls, template: str, /, **texts: str) -> Hint:
        texts = {name: printable(text) for name, text in texts.items()}
        hint = super().__new__(cls, _filled(template, texts, in_python))
        hint.template, hint.texts = template, texts
        return hint

    def __getnewargs_ex__(self) -> tuple[tuple[str], dict[str, str]]:
        return (self.template,), self.texts


def spelled(hint: str | None, spelling: Spelling) -> str:
    """A hint as an interface writes it; ``""`` for None."""
    if isinstance(hint, Hint):
        return _filled(hint.template, hint.texts, spelling)
    return hint or ""


class _Name:
    """A name in a `Hint`. The format specification is its value."""

    def __init__(self, name: str, spelling: Spelling) -> None:
        self._name = name
        self._spelling = spelling

    def __format__(self, value: str) -> str:
        return self._spelling(self._name, value)


class _Names(dict[str, object]):
    """Maps the names in a `Hint` to texts to insert, or to a `_Name`."""

    def __init__(self, texts: dict[str, str], spelling: Spelling) -> None:
        super().__init__(texts)
        self._spelling = spelling

    def __missing__(self, name: str) -> _Name:
        return _Name(name, self._spelling)


def _filled(template: str, texts: dict[str, str], spelling: Spelling) -> str:
    return template.format_map(_Names(texts, spelling))


class H2oError(Exception):
    """The base class of all errors of this package.

    ``message`` says what happened, with the value. ``hint`` says what to do, or is None.
    ``argument`` is the name of the argument that caused the error, or None. ``partial`` is the text
    of the answer received before the error (``""`` outside a stream). ``conversation_id`` is the id
    of the conversation, or None. ``resendable`` is True if the prompt certainly did not reach the
    server, so that you can send it again; False if it may have reached the server; None if no
    prompt was sent. ``stored`` is not empty if the connection broke during the answer and the
    client could then read the stored messages of the conversation; the last one is the answer so
    far.
    """

    def __init__(
        self, message: str, *, hint: str | None = None, argument: str | None = None
    ) -> None:
        message = printable(message)  # it may contain a server's text
        super().__init__(message)
        self.message: str = message
        self.hint: str | None = hint if isinstance(hint, Hint | None) else printable(hint)
        self.argument: str | None = argument
        self.partial: str = ""
        self.conversation_id: str | None = None
        self.resendable: bool | None = None
        self.stored: tuple[Message, ...] = ()

    def __str__(self) -> str:
        text = self.describe()
        if self.partial:
            text += f" {len(self.partial)} characters of the answer are in .partial."
        if self.stored:
            text += " The stored messages are in .stored."
        return text

    def describe(self, spelling: Spelling = in_python) -> str:
        """What happened and what to do, as an interface writes it."""
        sentences = (_sentence(self.message), spelled(self.hint, spelling), self._prompt_note())
        return " ".join(sentence for sentence in sentences if sentence)

    def _prompt_note(self) -> str:
        """A sentence about sending the prompt again; "" if none is needed."""
        return ""

    def _render_traceback_(self) -> list[str]:
        # IPython's own hook.
        return import_module("h2o_client.notebook").of_error(self)  # type: ignore[no-any-return]

    def __reduce__(self) -> tuple[object, ...]:
        # Exception.__reduce__ would call the class with the message alone.
        return _restored, (type(self), self.message), self.__dict__


class ConfigurationError(H2oError, ValueError):
    """The call or the configuration is wrong; the caller can fix it without the server.

    ``suggestion`` is a value that is likely to work, or None.
    """

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        argument: str | None = None,
        suggestion: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint, argument=argument)
        self.suggestion: str | None = suggestion


class ConversationBusyError(H2oError):
    """An earlier answer in this conversation has not ended on the server; nothing was sent.

    On v0.3 to v0.6, an abandoned answer (stopped, closed or timed out) may continue on the server
    and, when it ends, overwrite later messages. ``seconds`` is how long the client waited.
    """

    def __init__(self, message: str, *, seconds: float) -> None:
        super().__init__(
            f"{message} after {seconds:g} s and could overwrite the next one. Nothing was sent",
            hint=Hint("Send the message again later, or in {a new conversation}."),
        )
        self.seconds = seconds


class UnsupportedError(H2oError):
    """The server does not support ``feature``.

    ``versions`` is the range of versions of the server, such as "chat-ui v0.3 to v0.6".
    """

    def __init__(self, feature: str, versions: str, *, hint: str | None = None) -> None:
        super().__init__(f"{versions} cannot {feature}", hint=hint)
        self.feature = feature
        self.versions = versions


Stage = Literal["lookup", "connect", "proxy", "TLS", "exchange"]
TimeoutName = Literal["connect", "first_token", "idle", "total", "silence"]
Origin = Literal["server", "model", "gateway"]
LimitName = Literal["rate", "conversations", "messages", "login"]


class TransportError(H2oError):
    """The network failed. ``url`` is the address of the request.

    ``stage`` is the stage that failed: "lookup" (DNS), "connect", "proxy", "TLS", or "exchange"
    (request and response). If ``permanent`` is True, a retry cannot help, as with an untrusted
    certificate.
    """

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        argument: str | None = None,
        url: str = "",
        stage: Stage = "exchange",
        permanent: bool = False,
    ) -> None:
        super().__init__(message, hint=hint, argument=argument)
        self.url = url
        self.stage: Stage = stage
        self.permanent = permanent

    def _prompt_note(self) -> str:
        return _prompt_note(self.resendable)


class TransportTimeout(TransportError, TimeoutError):
    """A timeout expired: ``which`` is "connect", "first_token", "idle", "total" or "silence".

    You cannot set "silence" in `Timeouts`: servers since v0.9.6 send data ten times a second, so if
    nothing arrives for several seconds, the connection is dead or the server hangs.
    """

    def __init__(self, which: TimeoutName, seconds: float, *, url: str = "") -> None:
        hint = (
            "This server normally sends data ten times a second, so the connection is dead or the "
            "server hangs."
            if which == "silence"
            else Hint(f"If the server is slow, allow more with {{timeout:Timeouts({which}=...)}}.")
        )
        super().__init__(
            f"{_TIMEOUTS[which]} within {seconds:g} s",
            hint=hint,
            url=url,
            stage="connect" if which == "connect" else "exchange",
        )
        self.which: TimeoutName = which
        self.seconds = seconds


_TIMEOUTS: dict[TimeoutName, str] = {
    "connect": "No connection",
    "first_token": "No first token",
    "idle": "Nothing more came from the server",
    "total": "The answer did not end",
    "silence": "No byte came",
}


class StatusError(H2oError):
    """The server refused the request with an error status.

    The fields are ``status``, ``said`` (the server's message), ``url``, ``body`` (shortened text),
    ``request_id``, ``retry_after`` in seconds, and ``error_type`` from a model server. ``origin``
    says where the status is from: "server" (chat-ui itself), "model" (chat-ui of 2023 passes on
    the responses of its model server), or "gateway" (a proxy in front of the chat-ui).
    """

    _hint: ClassVar[str] = (
        "The same request would be refused again. Change it, or ask the server's operator."
    )

    def __init__(
        self,
        status: int,
        said: str,
        *,
        url: str = "",
        body: str = "",
        request_id: str | None = None,
        retry_after: float | None = None,
        error_type: str | None = None,
        origin: Origin = "server",
        hint: str | None = None,
    ) -> None:
        self.said: str = printable(said)
        is_broken_model = origin == "model" and status not in _WRONG_REQUESTS
        if hint is None and is_broken_model and type(self) is StatusError:
            hint = _MODEL_HINT
        super().__init__(
            f"{_WHO[origin]} answered {status}: {self.said or 'no reason given'}",
            hint=self._next_step() if hint is None else hint,
        )
        self.status = status
        self.url = url
        self.body = body
        self.request_id: str | None = None if request_id is None else printable(request_id)
        self.retry_after = retry_after
        self.error_type: str | None = None if error_type is None else printable(error_type)
        self.origin: Origin = origin

    def _next_step(self) -> str:
        """What to do, which may depend on ``said``."""
        return self._hint


_WHO: dict[Origin, str] = {
    "server": "The server",
    "model": "The model server behind the chat-ui",
    "gateway": "A gateway in front of the chat-ui",
}
_WRONG_REQUESTS = (400, 413, 422)
_MODEL_HINT = "Your session works. The operator of the server has to check its model."


class AuthenticationError(StatusError):
    """Status 401 or 403, or a redirect to a login page."""

    _hint = Hint(
        "To chat behind a login, pass the session cookie of a logged-in browser: "
        '{cookies:"name=value"}, or H2O_CLIENT_COOKIE in the environment. A Bearer token cannot '
        "chat."
    )


class OriginError(StatusError):
    """Status 403 for the Referer or Origin: the server is configured with another address."""

    _hint = Hint(
        "The server's ORIGIN setting is not the address that you use, or a proxy removes the "
        "Referer. Pass the address in ORIGIN as {base_url}."
    )


class NotFoundError(StatusError):
    """Status 404: the conversation does not exist, or belongs to another session."""

    _hint = (
        "The conversation was deleted, or it belongs to another session: the session cookie may "
        "have been lost."
    )


class TermsNotAcceptedError(StatusError):
    """Status 405: this session has not accepted the server's terms."""

    _hint = Hint("Accept the terms: {accept_terms:True}.")


class ElicitationClosedError(StatusError):
    """Status 409: a tool's question to the user was answered before, or has expired."""

    _hint = (
        "The question can no longer be answered. Read the rest of the reply, or send the prompt "
        "again."
    )


class ModelUnavailableError(StatusError):
    """Status 410, or an unknown model: the server does not offer the conversation's model."""

    _hint = Hint("Choose one of the models that {models()} lists.")


class RateLimitError(StatusError):
    """Status 429: a limit is exceeded.

    ``limit`` is the exceeded limit: "rate", "conversations", "messages" (in one conversation), or
    "login" (messages without a login). Waiting helps only for "rate". If ``retry_after`` is None,
    wait a minute: refused attempts can prolong the ban.
    """

    _hint = "Wait before you send the next prompt. Earlier attempts can prolong the ban."

    @property
    def limit(self) -> LimitName:
        """The exceeded limit, recognized by chat-ui's message; by default "rate"."""
        return next((limit for words, limit, _ in _LIMITS if words in self.said), "rate")

    def _next_step(self) -> str:
        return next((hint for words, _, hint in _LIMITS if words in self.said), self._hint)


_LIMITS: tuple[tuple[str, LimitName, str], ...] = (
    (
        "maximum number of conversations",
        "conversations",
        Hint("Waiting does not help. Delete some, or all of them with {delete_conversations()}."),
    ),
    (
        "This conversation has more than",
        "messages",
        Hint("Waiting does not help. Continue in {a new conversation}."),
    ),
    (
        "number of messages before login",
        "login",
        Hint(
            "Waiting does not help, but a login does. Pass the session cookie of a logged-in "
            'browser: {cookies:"name=value"}, or H2O_CLIENT_COOKIE in the environment.'
        ),
    ),
)


class ServerError(StatusError):
    """Status 5xx: the server failed."""

    _hint = "Try again later, or ask the operator."

    def _prompt_note(self) -> str:
        return _prompt_note(self.resendable)


class GenerationError(H2oError):
    """The model failed after the answer had started.

    ``said``, ``error_type`` and ``status`` are the model server's message, error type and status.
    """

    def __init__(
        self, said: str, *, error_type: str | None = None, status: int | None = None
    ) -> None:
        hint: str = Hint("{Send the prompt again}.")
        if any(words in said.lower() for words in _UNREACHABLE):
            hint = MODEL_DOWN
        if status in _WRONG_REQUESTS:
            hint = "The same prompt would fail again. Change it, or make it shorter."
        elif status == 429:
            hint = "Wait before you send the prompt again."
        super().__init__(f"The model failed while it was answering: {said}", hint=hint)
        self.said: str = printable(said)
        self.error_type: str | None = None if error_type is None else printable(error_type)
        self.status = status


MODEL_DOWN = (
    "The model server behind the chat-ui seems to be down. Its operator has to check the server."
)

# The messages of the libraries that chat-ui uses to call the model server.
_UNREACHABLE = ("connection error", "fetch failed", "econnrefused", "enotfound")


class IncompleteAnswerError(H2oError):
    """The stream ended without its terminal event. ``partial`` holds the text received so far."""

    def __init__(
        self, message: str = "The answer ended before it was complete", *, hint: str | None = None
    ) -> None:
        super().__init__(
            message, hint=hint or Hint("{Send the prompt again}, or use the text so far.")
        )


class ProtocolError(H2oError):
    """A response cannot be parsed. ``where`` says which part, ``excerpt`` shows it."""

    def __init__(self, where: str, excerpt: str = "", *, hint: str | None = None) -> None:
        super().__init__(
            f"Cannot parse {where}" + (f": {excerpt!r}" if excerpt else ""),
            hint=hint or "Is this a chat-ui server?",
        )
        self.where = where
        self.excerpt = excerpt


def _restored(kind: type[H2oError], message: str) -> H2oError:
    """Create a pickled or copied error, without its fields."""
    error = kind.__new__(kind)
    error.args = (message,)
    return error


def _sentence(message: str) -> str:
    """Add a full stop, unless the message has one."""
    return message if message.endswith((".", "?", "!", "…")) else f"{message}."


def _prompt_note(resendable: bool | None) -> str:
    if resendable is None:
        return ""
    if resendable:
        return "The prompt did not reach the server, so it can be sent again."
    return "The prompt may have reached the server, so it may be answered twice if sent again."


def install_hint(extra: str) -> str:
    """How to install an extra. The package is not on PyPI."""
    return f"In the clone of h2o-chat, run: python -m pip install '.[{extra}]'"


def missing_extra(extra: str, exc: ModuleNotFoundError) -> ModuleNotFoundError:
    """The error for an import that needs an extra, with how to install it."""
    told = f"{exc.msg}: this import needs the extra {extra!r}. {install_hint(extra)}"
    return ModuleNotFoundError(told, name=exc.name, path=exc.path)
