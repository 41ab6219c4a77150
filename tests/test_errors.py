from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest

from h2o_client import errors
from h2o_client.errors import (
    AuthenticationError,
    ConfigurationError,
    ConversationBusyError,
    ElicitationClosedError,
    GenerationError,
    H2oError,
    IncompleteAnswerError,
    ModelUnavailableError,
    NotFoundError,
    ProtocolError,
    RateLimitError,
    ServerError,
    StatusError,
    TermsNotAcceptedError,
    TransportError,
    TransportTimeout,
    UnsupportedError,
)
from h2o_client.wire.refusal import OriginError


def status_error(kind: type[StatusError], status: int) -> StatusError:
    return kind(
        status,
        "so it said",
        url="http://a/b",
        body="the body",
        request_id="r1",
        retry_after=7.5,
        error_type="overloaded",
    )


# One of each, and what its sentence must tell.
EACH: dict[str, tuple[H2oError, str]] = {
    "H2oError": (H2oError("Something."), "Something."),
    "ConfigurationError": (ConfigurationError("Say it so."), "Say it so."),
    "ConversationBusyError": (
        ConversationBusyError("An answer has not ended", seconds=30.0),
        "An answer has not ended after 30 s, and would overwrite the next one. Nothing was sent.",
    ),
    "UnsupportedError": (
        UnsupportedError("Continuing", "chat-ui v0.3", "Ask again."),
        "Continuing is not supported by chat-ui v0.3. Ask again.",
    ),
    "TransportError": (TransportError("No route.", url="http://a"), "No route."),
    "TransportTimeout": (
        TransportTimeout("first_token", 2.5, url="http://a"),
        "The server sent no first token within 2.5 s. "
        "Allow more with timeout=Timeouts(first_token=...) if the server is merely slow.",
    ),
    "StatusError": (status_error(StatusError, 400), "change the request"),
    "AuthenticationError": (status_error(AuthenticationError, 401), "H2O_CLIENT_COOKIE"),
    "NotFoundError": (status_error(NotFoundError, 404), "the session cookie was lost"),
    "TermsNotAcceptedError": (status_error(TermsNotAcceptedError, 405), "accept_terms=True"),
    "ElicitationClosedError": (status_error(ElicitationClosedError, 409), "read the reply on"),
    "ModelUnavailableError": (status_error(ModelUnavailableError, 410), ".models()"),
    "RateLimitError": (status_error(RateLimitError, 429), "Wait before you ask again"),
    "ServerError": (status_error(ServerError, 500), "Try again later"),
    "GenerationError": (
        GenerationError("CUDA out of memory", error_type="overloaded", status=503),
        "The model failed while it was answering: CUDA out of memory. Ask again.",
    ),
    "IncompleteAnswerError": (IncompleteAnswerError(), "Ask again, or use what came"),
    "ProtocolError": (
        ProtocolError("line 3 of the answer", "<html>"),
        "Cannot understand line 3 of the answer: '<html>'. Is this really a chat-ui server?",
    ),
    "OriginError": (status_error(OriginError, 403), "ORIGIN"),
}
ERRORS = pytest.mark.parametrize("error", [error for error, _ in EACH.values()], ids=EACH)


def test_there_is_one_of_each_here() -> None:
    assert set(EACH) == {*errors.__all__, "OriginError"}
    assert all(type(error).__name__ == name for name, (error, _) in EACH.items())


@pytest.mark.parametrize(("error", "remedy"), EACH.values(), ids=EACH)
def test_the_sentence_says_what_to_do(error: H2oError, remedy: str) -> None:
    assert remedy in str(error)
    assert str(error).endswith((".", "?"))
    assert ".." not in str(error).replace("...", "")


@pytest.mark.parametrize(
    ("kind", "also"),
    [
        (ConfigurationError, ValueError),
        (TransportTimeout, TimeoutError),
        (TransportTimeout, TransportError),
        (AuthenticationError, StatusError),
        (NotFoundError, StatusError),
        (TermsNotAcceptedError, StatusError),
        (ModelUnavailableError, StatusError),
        (RateLimitError, StatusError),
        (ServerError, StatusError),
    ],
)
def test_an_error_is_also_what_callers_know(kind: type[H2oError], also: type[Exception]) -> None:
    assert issubclass(kind, also)


@pytest.mark.parametrize("name", errors.__all__)
def test_every_error_is_an_h2o_error(name: str) -> None:
    assert issubclass(getattr(errors, name), H2oError)


@ERRORS
@pytest.mark.parametrize(
    "again",
    [copy.copy, copy.deepcopy]
    + [
        lambda error, protocol=protocol: pickle.loads(pickle.dumps(error, protocol))
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
    ],
    ids=["copy", "deepcopy", *(f"pickle {n}" for n in range(pickle.HIGHEST_PROTOCOL + 1))],
)
def test_an_error_crosses_processes_with_all_its_facts(
    error: H2oError, again: Callable[[H2oError], H2oError]
) -> None:
    # Exception's own pickling calls the class with the sentence: a TypeError for half of them.
    error = copy.copy(error)
    error.partial = "The answer is"
    error.conversation_id = "6b02"
    error.resendable = False
    error.__dict__["__notes__"] = ["a note"]
    copied = again(error)
    assert type(copied) is type(error)
    assert copied is not error
    assert copied.__dict__ == error.__dict__
    assert str(copied) == str(error)
    assert copied.args == (error.message,)
    assert repr(copied).startswith(type(error).__name__)


def test_a_subclass_of_the_users_own_crosses_processes() -> None:
    copied = pickle.loads(pickle.dumps(Own(5, "x")))
    assert (type(copied), copied.five, str(copied)) == (Own, 5, "x")


class Own(H2oError):
    def __init__(self, five: int, message: str) -> None:
        super().__init__(message)
        self.five = five


@ERRORS
def test_an_error_says_what_became_of_the_prompt_and_the_text(error: H2oError) -> None:
    error = copy.copy(error)
    plain = str(error)
    assert (error.partial, error.conversation_id, error.resendable) == ("", None, None)
    error.resendable = True
    # A refusal or a mistake in the call speaks for itself.
    unsure = isinstance(error, TransportError | ServerError)
    assert str(error) == plain + unsure * " The prompt was not taken: it can be sent again."
    error.resendable = False
    maybe = plain + unsure * " The prompt may have been taken: sending it again may ask twice."
    assert str(error) == maybe
    error.partial = "äöü"
    assert str(error) == maybe + " 3 characters of the answer are on .partial."


def test_the_facts_are_in_fields() -> None:
    unsupported = UnsupportedError("Voting", "HEAD")
    assert (unsupported.feature, unsupported.generation) == ("Voting", "HEAD")
    assert str(unsupported) == "Voting is not supported by HEAD."
    timeout = TransportTimeout("idle", 60, url="http://a")
    assert (timeout.which, timeout.seconds, timeout.url) == ("idle", 60, "http://a")
    failed = GenerationError("x", error_type="t", status=503)
    assert (failed.said, failed.error_type, failed.status) == ("x", "t", 503)
    protocol = ProtocolError("the page", "<", "Look at it.")
    assert (protocol.where, protocol.excerpt) == ("the page", "<")
    assert str(protocol) == "Cannot understand the page: '<'. Look at it."
    assert str(ProtocolError("the page")).startswith("Cannot understand the page. Is this")
    assert TransportError("x").url == ""
    assert not TransportError("x").permanent


def test_a_status_error_holds_the_answer() -> None:
    error = status_error(ServerError, 503)
    assert (error.status, error.said, error.url, error.body) == (
        503,
        "so it said",
        "http://a/b",
        "the body",
    )
    assert (error.request_id, error.retry_after, error.error_type) == ("r1", 7.5, "overloaded")
    assert error.origin == "server"
    assert str(error).startswith("The server answered 503: so it said. ")
    assert "503: no reason given. " in str(ServerError(503, ""))


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (StatusError(401, "x", origin="model"), "Your session is fine"),
        (StatusError(422, "x", origin="model"), "change the request"),
        (RateLimitError(429, "x", origin="model"), "Wait"),
        (ServerError(503, "x", origin="model"), "Try again later"),
    ],
)
def test_a_model_servers_error_says_whose_it_is(error: StatusError, hint: str) -> None:
    assert str(error).startswith("The model server behind the chat-ui answered")
    assert hint in str(error)


@pytest.mark.parametrize("which", ["connect", "first_token", "idle", "total"])
def test_a_timeout_names_the_time_to_allow_more_of(which: str) -> None:
    assert f"within 0.25 s. Allow more with timeout=Timeouts({which}=...)" in str(
        TransportTimeout(which, 0.25)
    )


def test_a_full_stop_is_not_said_twice() -> None:
    assert "overloaded. Ask again." in str(GenerationError("overloaded."))
