"""What can go wrong, by who is to blame. Everything raised on purpose is an `H2oError`.

::

    H2oError
    ├── ConfigurationError          the caller can fix it without the server
    ├── ConversationBusyError       an earlier answer has not ended on the server: nothing was sent
    ├── UnsupportedError            this generation of server cannot do it
    ├── TransportError              the network: refused, reset, TLS, proxy
    │   └── TransportTimeout        which time ran out (also a builtin TimeoutError)
    ├── StatusError                 an HTTP status that is not a success
    │   ├── AuthenticationError     401, 403, a login wall
    │   ├── NotFoundError           404
    │   ├── TermsNotAcceptedError   405
    │   ├── ElicitationClosedError  409: what a tool asked was answered before, or has expired
    │   ├── ModelUnavailableError   410, an unknown model
    │   ├── RateLimitError          429
    │   └── ServerError             5xx
    ├── GenerationError             the model server failed inside a stream that began well
    ├── IncompleteAnswerError       the stream ended without its terminal event
    └── ProtocolError               what came cannot be understood

The classes carry the facts in fields; ``str()`` makes the sentence and says what to do next.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

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
    "ProtocolError",
    "RateLimitError",
    "ServerError",
    "StatusError",
    "TermsNotAcceptedError",
    "TransportError",
    "TransportTimeout",
    "UnsupportedError",
]


class H2oError(Exception):
    """The root of all errors of this package.

    ``partial`` is the text of the answer received before the error (``""`` outside a stream),
    ``conversation_id`` the conversation it came in, where there was one, and ``resendable`` says
    whether the prompt certainly did not reach the server, so that sending it again cannot ask
    the question twice (None: no prompt was involved). ``stored`` holds the messages that the
    server has stored of the conversation, the answer as far as it has it last, where the
    connection broke in mid-answer and they could be read back.
    """

    def __init__(self, message: str) -> None:
        message = printable(message)  # a server's words may be in it
        super().__init__(message)
        self.message = message
        self.partial = ""
        self.conversation_id: str | None = None
        self.resendable: bool | None = None
        self.stored: tuple[Message, ...] = ()

    def __str__(self) -> str:
        return self.message + self._notes()

    def _notes(self) -> str:
        """What else to say: nothing that the sentence says already."""
        notes = ""
        if self.partial:
            notes += f" {len(self.partial)} characters of the answer are on .partial."
        if self.stored:
            notes += " What the server has stored of it is on .stored."
        return notes

    def __reduce__(self) -> tuple[object, ...]:
        # Exception's own calls the class with the message, which is not what each class takes.
        return _restored, (type(self), self.message), self.__dict__


class ConfigurationError(H2oError, ValueError):
    """The call or the configuration is wrong; the caller can mend it without the server."""


class ConversationBusyError(H2oError):
    """An earlier answer in this conversation has not ended on the server; nothing was sent.

    On v0.3 to v0.6 an answer that was given up (stopped, closed, timed out) may still be generated
    and, when it ends, overwrites what was said meanwhile. ``seconds`` is how long it was waited
    for.
    """

    def __init__(self, message: str, *, seconds: float) -> None:
        super().__init__(
            f"{message} after {seconds:g} s, and would overwrite the next one. Nothing was sent. "
            "Send the message again later, or in a new conversation."
        )
        self.seconds = seconds


class UnsupportedError(H2oError):
    """The server's generation cannot do ``feature``."""

    def __init__(self, feature: str, generation: str, hint: str = "") -> None:
        super().__init__(_join(f"{feature} is not supported by {generation}", hint))
        self.feature = feature
        self.generation = generation


class TransportError(H2oError):
    """The network failed: no connection, a reset, TLS, a proxy. ``url`` says towards where.

    ``permanent``: trying again cannot help (a certificate that is not trusted).
    """

    permanent = False

    def _notes(self) -> str:
        return _prompt_note(self.resendable) + super()._notes()

    def __init__(self, message: str, *, url: str = "") -> None:
        super().__init__(message)
        self.url = url


class TransportTimeout(TransportError, TimeoutError):
    """A time ran out: ``which`` is "connect", "first_token", "idle", "total" or "silence".

    "silence" is not one of `Timeouts`: servers since v0.9.6 send a sign of life ten times a second,
    and a connection without one for several seconds is dead, or its server hangs.
    """

    def __init__(self, which: str, seconds: float, *, url: str = "") -> None:
        super().__init__(_timeout_sentence(which, seconds), url=url)
        self.which = which
        self.seconds = seconds


def _timeout_sentence(which: str, seconds: float) -> str:
    if which == "silence":
        return (
            f"Not a byte came for {seconds:g} s, where this server sends some all the time: "
            "the connection is dead, or the server hangs."
        )
    return (
        f"{_TIMEOUTS[which]} within {seconds:g} s. "
        f"Allow more with timeout=Timeouts({which}=...) if the server is merely slow."
    )


_TIMEOUTS = {
    "connect": "No connection was made",
    "first_token": "The server sent no first token",
    "idle": "The server sent nothing more",
    "total": "The answer did not end",
}


class StatusError(H2oError):
    """The server refused with an HTTP status.

    ``status``, ``url``, ``body`` (shortened text), ``request_id``, ``retry_after`` in seconds,
    ``error_type`` as model servers name it, and ``origin``: "server", "model" where a chat-ui of
    2023 passed on the answer of the model server behind it, or "gateway" for a page that is not
    chat-ui's.
    """

    hint: str = "The same would be refused again: change the request, or ask the server's operator."

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
        origin: str = "server",
        hint: str | None = None,
    ) -> None:
        self.said: str = printable(said)
        self.hint = self._hint() if hint is None else hint
        if hint is None and origin == "model" and type(self) is StatusError:
            self.hint = self.hint if status in _WRONG_REQUESTS else _MODEL_HINT
        shown = self.said or "no reason given"
        super().__init__(_join(f"{_WHO[origin]} answered {status}: {shown}", self.hint))
        self.status = status
        self.url = url
        self.body = body
        self.request_id: str | None = None if request_id is None else printable(request_id)
        self.retry_after = retry_after
        self.error_type: str | None = None if error_type is None else printable(error_type)
        self.origin = origin

    def _hint(self) -> str:
        """What to do next, after what was ``said``."""
        return self.hint


_WHO = {
    "server": "The server",
    "model": "The model server behind the chat-ui",
    "gateway": "A gateway in front of the chat-ui",
}
_WRONG_REQUESTS = (400, 413, 422)
_MODEL_HINT = "Your session is fine; the operator of the server has to look at its model."


class AuthenticationError(StatusError):
    """401, 403 or a login wall."""

    hint = (
        "Chatting behind a login needs the session cookie of a logged-in browser: "
        'pass cookies="name=value" or set H2O_CLIENT_COOKIE. A Bearer token cannot chat.'
    )


class NotFoundError(StatusError):
    """404: the conversation does not exist, or belongs to another session."""

    hint = (
        "It was deleted, or the session cookie was lost on the way (another session's "
        "conversations are not found either)."
    )


class TermsNotAcceptedError(StatusError):
    """405: the server's terms were not accepted by this session."""

    hint = "Let the session accept the terms: H2oSession(..., accept_terms=True)."


class ElicitationClosedError(StatusError):
    """409: what a tool asked the user was answered before, or has expired."""

    hint = "It cannot be answered any more: read the reply on, or ask again."


class ModelUnavailableError(StatusError):
    """410 or an unknown model: the conversation's model is not served."""

    hint = "Choose one of the models the server lists: H2oSession(...).models()."


class RateLimitError(StatusError):
    """429. Without ``retry_after``, wait a minute: refused attempts can prolong the ban.

    ``limit`` says of what there was too much: "rate", for which waiting helps, "conversations",
    "messages" (in one conversation), or "login" (messages without a login).
    """

    hint = "Wait before you ask again; attempts made meanwhile can prolong the ban."

    @property
    def limit(self) -> str:
        """What waiting does not help against, by chat-ui's own words; else "rate"."""
        return next((limit for words, limit, _ in _LIMITS if words in self.said), "rate")

    def _hint(self) -> str:
        return next((hint for words, _, hint in _LIMITS if words in self.said), self.hint)


_LIMITS = (
    (
        "maximum number of conversations",
        "conversations",
        "Waiting does not help: delete some, or all with H2oSession(...).delete_conversations().",
    ),
    (
        "This conversation has more than",
        "messages",
        "Waiting does not help: go on in a new conversation.",
    ),
    (
        "number of messages before login",
        "login",
        f"Waiting does not help: only a login does. {AuthenticationError.hint}",
    ),
)


class ServerError(StatusError):
    """5xx: the server failed."""

    hint = "Try again later, or ask the operator."

    def _notes(self) -> str:
        return _prompt_note(self.resendable) + super()._notes()


class GenerationError(H2oError):
    """The model server failed inside a stream that had begun well."""

    def __init__(
        self, said: str, *, error_type: str | None = None, status: int | None = None
    ) -> None:
        hint = "Ask again."
        if any(words in said.lower() for words in _UNREACHABLE):
            hint = MODEL_DOWN
        if status in _WRONG_REQUESTS:
            hint = "The same would fail again: change the prompt, or make it shorter."
        elif status == 429:
            hint = "Wait before you ask again."
        super().__init__(_join(f"The model failed while it was answering: {said}", hint))
        self.said: str = printable(said)
        self.error_type: str | None = None if error_type is None else printable(error_type)
        self.status = status


MODEL_DOWN = "The model server behind the chat-ui seems to be down: its operator has to look at it."

# What chat-ui says of it, by the library that it asks the model server with.
_UNREACHABLE = ("connection error", "fetch failed", "econnrefused", "enotfound")


class IncompleteAnswerError(H2oError):
    """The stream ended without its terminal event, however cleanly. The text is on ``partial``."""

    def __init__(self, message: str = "The answer ended before it was complete") -> None:
        super().__init__(f"{message}. Ask again, or use what came of it.")


class ProtocolError(H2oError):
    """What came cannot be understood; ``where`` says in which part, ``excerpt`` shows it."""

    def __init__(self, where: str, excerpt: str = "", hint: str = "") -> None:
        shown = f"Cannot understand {where}" + (f": {excerpt!r}" if excerpt else "")
        super().__init__(_join(shown, hint or "Is this really a chat-ui server?"))
        self.where = where
        self.excerpt = excerpt


def _restored(kind: type[H2oError], message: str) -> H2oError:
    """A pickled or copied error; its fields follow."""
    error = kind.__new__(kind)
    error.args = (message,)
    return error


def _join(sentence: str, hint: str) -> str:
    sentence = sentence.rstrip(".")
    return f"{sentence}. {hint}" if hint else f"{sentence}."


def _prompt_note(resendable: bool | None) -> str:
    if resendable is None:
        return ""
    if resendable:
        return " The prompt was not taken: it can be sent again."
    return " The prompt may have been taken: sending it again may ask twice."


def install_hint(extra: str) -> str:
    """How to install an extra, for every error about a missing one. The package is not on PyPI."""
    return f"In the clone of h2o-chat, run: python -m pip install '.[{extra}]'"
