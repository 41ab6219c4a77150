from __future__ import annotations

import copy
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from h2o_client import errors
from h2o_client.errors import (
    AuthenticationError,
    ConfigurationError,
    ConversationBusyError,
    ElicitationClosedError,
    GenerationError,
    H2oError,
    Hint,
    IncompleteAnswerError,
    ModelUnavailableError,
    NotFoundError,
    OriginError,
    ProtocolError,
    RateLimitError,
    ServerError,
    StatusError,
    TermsNotAcceptedError,
    TimeoutName,
    TransportError,
    TransportTimeout,
    UnsupportedError,
    spelled,
)


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


# One error of each class, and a text that its message must contain.
EACH: dict[str, tuple[H2oError, str]] = {
    "H2oError": (H2oError("Something."), "Something."),
    "ConfigurationError": (ConfigurationError("Say it so."), "Say it so."),
    "ConversationBusyError": (
        ConversationBusyError("An answer has not ended", seconds=30.0),
        "An answer has not ended after 30 s and could overwrite the next one. Nothing was sent. "
        "Send the message again later, or in a new conversation.",
    ),
    "UnsupportedError": (
        UnsupportedError("continue answers", "chat-ui v0.3", hint="Send the prompt again."),
        "chat-ui v0.3 cannot continue answers. Send the prompt again.",
    ),
    "TransportError": (TransportError("No route.", url="http://a"), "No route."),
    "TransportTimeout": (
        TransportTimeout("first_token", 2.5, url="http://a"),
        "No first token within 2.5 s. "
        "If the server is slow, allow more with timeout=Timeouts(first_token=...).",
    ),
    "StatusError": (status_error(StatusError, 400), "Change it, or ask"),
    "AuthenticationError": (status_error(AuthenticationError, 401), "H2O_CLIENT_COOKIE"),
    "NotFoundError": (status_error(NotFoundError, 404), "the session cookie may have been lost"),
    "TermsNotAcceptedError": (status_error(TermsNotAcceptedError, 405), "accept_terms=True"),
    "ElicitationClosedError": (
        status_error(ElicitationClosedError, 409),
        "Read the rest of the reply",
    ),
    "ModelUnavailableError": (status_error(ModelUnavailableError, 410), "models()"),
    "RateLimitError": (status_error(RateLimitError, 429), "Wait before you send the next prompt"),
    "ServerError": (status_error(ServerError, 500), "Try again later"),
    "GenerationError": (
        GenerationError("CUDA out of memory", error_type="overloaded", status=503),
        "The model failed while it was answering: CUDA out of memory. Send the prompt again.",
    ),
    "IncompleteAnswerError": (
        IncompleteAnswerError(),
        "Send the prompt again, or use the text so far",
    ),
    "ProtocolError": (
        ProtocolError("line 3 of the answer", "<html>"),
        "Cannot parse line 3 of the answer: '<html>'. Is this a chat-ui server?",
    ),
    "OriginError": (status_error(OriginError, 403), "ORIGIN"),
}
ERRORS = pytest.mark.parametrize("error", [error for error, _ in EACH.values()], ids=EACH)


def test_every_error_class_has_an_example_here() -> None:
    assert set(EACH) == set(errors.__all__)
    assert all(type(error).__name__ == name for name, (error, _) in EACH.items())


@pytest.mark.parametrize(("error", "remedy"), EACH.values(), ids=EACH)
def test_the_message_contains_a_remedy(error: H2oError, remedy: str) -> None:
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
def test_errors_are_also_the_matching_builtin_errors(
    kind: type[H2oError], also: type[Exception]
) -> None:
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
def test_an_error_is_pickled_with_all_its_fields(
    error: H2oError, again: Callable[[H2oError], H2oError]
) -> None:
    # The default pickling calls the class with the message: a TypeError for half of them.
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


def test_a_users_subclass_can_be_pickled() -> None:
    copied = pickle.loads(pickle.dumps(Own(5, "x")))
    assert (type(copied), copied.five, str(copied)) == (Own, 5, "x.")


class Own(H2oError):
    def __init__(self, five: int, message: str) -> None:
        super().__init__(message)
        self.five = five


@ERRORS
def test_an_error_states_whether_the_prompt_arrived_and_has_the_text(error: H2oError) -> None:
    error = copy.copy(error)
    plain = str(error)
    assert (error.partial, error.conversation_id, error.resendable) == ("", None, None)
    error.resendable = True
    # A refusal or a wrong call needs no further explanation.
    unsure = isinstance(error, TransportError | ServerError)
    assert (
        str(error)
        == plain + unsure * " The prompt did not reach the server, so it can be sent again."
    )
    error.resendable = False
    may = " The prompt may have reached the server, so it may be answered twice if sent again."
    maybe = plain + unsure * may
    assert str(error) == maybe
    error.partial = "äöü"
    assert str(error) == maybe + " 3 characters of the answer are in .partial."


def test_details_are_in_fields() -> None:
    unsupported = UnsupportedError("take votes", "HEAD")
    assert (unsupported.feature, unsupported.versions) == ("take votes", "HEAD")
    assert str(unsupported) == "HEAD cannot take votes."
    timeout = TransportTimeout("idle", 60, url="http://a")
    assert (timeout.which, timeout.seconds, timeout.url) == ("idle", 60, "http://a")
    failed = GenerationError("x", error_type="t", status=503)
    assert (failed.said, failed.error_type, failed.status) == ("x", "t", 503)
    protocol = ProtocolError("the page", "<", hint="Look at it.")
    assert (protocol.where, protocol.excerpt) == ("the page", "<")
    assert str(protocol) == "Cannot parse the page: '<'. Look at it."
    assert str(ProtocolError("the page")).startswith("Cannot parse the page. Is this")
    assert TransportError("x").url == ""
    assert not TransportError("x").permanent


def test_a_status_error_contains_the_response() -> None:
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
        (StatusError(401, "x", origin="model"), "Your session works"),
        (StatusError(422, "x", origin="model"), "Change it, or ask"),
        (RateLimitError(429, "x", origin="model"), "Wait"),
        (ServerError(503, "x", origin="model"), "Try again later"),
    ],
)
def test_an_error_of_the_model_server_states_its_origin(error: StatusError, hint: str) -> None:
    assert str(error).startswith("The model server behind the chat-ui answered")
    assert hint in str(error)


@pytest.mark.parametrize("which", ["connect", "first_token", "idle", "total"])
def test_a_timeout_error_names_the_timeout_to_increase(which: TimeoutName) -> None:
    assert (
        f"within 0.25 s. If the server is slow, allow more with timeout=Timeouts({which}=...)."
        in str(TransportTimeout(which, 0.25))
    )


def test_a_full_stop_is_not_repeated() -> None:
    assert "overloaded. Send the prompt again." in str(GenerationError("overloaded."))


def test_an_error_has_its_message_hint_and_argument_in_fields() -> None:
    error = ConfigurationError("Unknown model 'nope'", hint="Available: a, b.", argument="model")
    assert (error.message, error.hint) == ("Unknown model 'nope'", "Available: a, b.")
    assert error.argument == "model"
    assert str(error) == "Unknown model 'nope'. Available: a, b."
    assert (H2oError("x").hint, H2oError("x").argument) == (None, None)


def test_each_interface_formats_hints_itself() -> None:
    hint = Hint(
        'Pass {model}, {cookies:"name=value"} or {base_url:"{url}"}, or call {models()} in '
        "{a shop}.",
        url="http://localhost:3000",
    )
    assert hint == (
        'Pass model=, cookies="name=value" or H2oSession("http://localhost:3000"), '
        "or call models() in a shop."
    )
    assert spelled(hint, lambda name, value: f"<{name}|{value}>") == (
        'Pass <model|>, <cookies|"name=value"> or <base_url|"http://localhost:3000">, '
        "or call <models()|> in <a shop|>."
    )
    assert spelled("Plain {text}.", lambda name, value: "") == "Plain {text}."
    assert spelled(None, lambda name, value: "") == ""


def test_values_inserted_into_a_hint_are_not_formatted() -> None:
    hint = Hint("Use {base_url:{url}} or {url}.", url="http://{model}/{url}\x1b")
    shown = "http://{model}/{url}\N{REPLACEMENT CHARACTER}"
    assert hint == f"Use H2oSession({shown}) or {shown}."


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_another_process_formats_a_hint_in_the_same_way(protocol: int) -> None:
    error = ConfigurationError("No", hint=Hint("Use {base_url:{url}}.", url="http://a"))
    copied = pickle.loads(pickle.dumps(error, protocol))
    assert (
        copied.describe(lambda name, value: f"--{name} {value}") == "No. Use --base_url http://a."
    )


def test_describe_names_no_python_fields() -> None:
    error = TransportTimeout("idle", 60)
    error.partial, error.resendable = "The answer is", False
    assert error.describe(lambda name, value: "--timeout SECONDS") == (
        "Nothing more came from the server within 60 s. If the server is slow, allow more with "
        "--timeout SECONDS. The prompt may have reached the server, so it may be answered twice if "
        "sent again."
    )


def test_the_documented_tree_of_errors_matches_the_classes() -> None:
    drawn = re.findall(r"^(?:    )?((?:│   )*)[├└]── (\w+)", errors.__doc__ or "", re.MULTILINE)
    parents = {name: getattr(errors, name).__bases__[0] for name in errors.__all__}
    path: list[str] = ["H2oError"]
    found = {"H2oError"}
    for bars, name in drawn:
        path[len(bars) // 4 + 1 :] = [name]
        assert parents[name].__name__ == path[-2]
        found.add(name)
    assert found == set(errors.__all__)
    pages = Path(__file__).parents[1] / "docs" / "errors.rst"
    assert all(f"── {name}" in pages.read_text("utf-8") for name in found - {"H2oError"})


@pytest.mark.parametrize(
    ("module", "extra", "statement"),
    [
        ("starlette", "gateway", "from h2o_client.gateway import gateway"),
        ("uvicorn", "local", "from h2o_client.server import serve"),
    ],
)
def test_an_import_without_its_extra_says_how_to_install_it(
    module: str, extra: str, statement: str
) -> None:
    code = f"import sys; sys.modules[{module!r}] = None; {statement}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert f"needs the extra '{extra}'. In the clone of h2o-chat, run: " in done.stderr
    assert done.stderr.count("Traceback") == 1
