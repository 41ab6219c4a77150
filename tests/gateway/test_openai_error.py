from __future__ import annotations

import json

import pytest

from h2o_client import errors
from h2o_client.errors import H2oError
from h2o_client.gateway.openai_error import from_error

LIMIT = "You have reached the maximum number of conversations"


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (errors.ConfigurationError("no"), 400, None),
        (errors.ConfigurationError("no", argument="files"), 400, None),
        (errors.ConfigurationError("no", argument="base_url"), 502, "gateway_configuration"),
        (errors.UnsupportedError("Files", "chat-ui v0.4"), 400, None),
        (errors.ConversationBusyError("busy", seconds=30), 409, "conversation_busy"),
        (errors.AuthenticationError(401, "Login"), 401, "chat_ui_login"),
        (errors.TermsNotAcceptedError(405, "Terms"), 403, "chat_ui_terms"),
        (errors.NotFoundError(404, "gone"), 404, "conversation_not_found"),
        (errors.ModelUnavailableError(410, "gone"), 404, "model_not_found"),
        (errors.StatusError(413, "too long"), 400, None),
        (errors.StatusError(401, "key", origin="model"), 502, "upstream_401"),
        (errors.StatusError(422, "temperature", origin="model"), 400, None),
        (errors.RateLimitError(429, "slowly"), 429, "rate_limit_exceeded"),
        (errors.RateLimitError(429, LIMIT), 429, "limit_conversations"),
        (errors.ServerError(500, "Internal Error"), 502, "upstream_500"),
        (errors.ServerError(503, "Loading"), 503, "upstream_503"),
        (errors.TransportError("refused"), 502, "transport"),
        (errors.TransportTimeout("first_token", 3), 504, "timeout_first_token"),
        (errors.GenerationError("failed"), 502, "generation_failed"),
        (errors.GenerationError("too long", status=422), 400, None),
        (errors.GenerationError("slowly", status=429), 429, "rate_limit_exceeded"),
        (errors.IncompleteAnswerError(), 502, "incomplete_answer"),
        (errors.ProtocolError("the answer"), 502, "protocol"),
    ],
)
def test_each_failure_has_a_status_of_openais_api(
    error: H2oError, status: int, code: str | None
) -> None:
    found = from_error(error)
    assert (found.status, found.code) == (status, code)
    assert json.loads(found.body())["error"]["message"] == str(error)


def test_the_message_names_no_attribute_of_an_exception() -> None:
    error = errors.TransportError("reset")
    error.partial = "Hello"
    assert ".partial" not in from_error(error).message


def test_retry_after_is_the_servers_or_a_minute() -> None:
    assert (
        from_error(errors.RateLimitError(429, "slowly", retry_after=7.2)).headers["retry-after"]
        == "8"
    )
    assert from_error(errors.RateLimitError(429, "slowly")).headers["retry-after"] == "60"
    assert (
        from_error(errors.ServerError(503, "Loading", retry_after=2)).headers["retry-after"] == "2"
    )


def test_clients_are_told_not_to_retry_what_cannot_be_retried() -> None:
    taken, not_taken = errors.TransportError("reset"), errors.TransportError("refused")
    taken.resendable, not_taken.resendable = False, True
    assert from_error(taken).headers == {"x-should-retry": "false"}
    assert from_error(not_taken).headers == {}
    assert from_error(errors.RateLimitError(429, LIMIT)).headers == {"x-should-retry": "false"}
