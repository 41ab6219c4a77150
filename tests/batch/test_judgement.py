"""The meaning of each error for a batch, as a table."""

from __future__ import annotations

import pytest

from h2o_client import (
    AuthenticationError,
    ConfigurationError,
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
from h2o_client.batch.judgement import Verdict, delay_before, judge


def sent(error: H2oError, *, resendable: bool | None = False) -> H2oError:
    error.resendable = resendable
    return error


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (AuthenticationError(401, "Log in"), Verdict.SHUT_OUT),
        (TermsNotAcceptedError(405, "Terms"), Verdict.SHUT_OUT),
        (RateLimitError(429, "Exceeded number of messages before login"), Verdict.SHUT_OUT),
        (TransportError("self-signed", permanent=True), Verdict.SHUT_OUT),
        (RateLimitError(429, "You are sending too many messages."), Verdict.LIMITED),
        (GenerationError("Too many requests", status=429), Verdict.LIMITED),
        (RateLimitError(429, "You have reached the maximum number of conversations"), Verdict.FULL),
        (RateLimitError(429, "This conversation has more than 9 messages"), Verdict.FINAL),
        (sent(TransportError("refused"), resendable=True), Verdict.DOWN),
        (sent(TransportError("refused"), resendable=None), Verdict.DOWN),
        (ServerError(502, "Bad gateway"), Verdict.DOWN),
        (ServerError(503, "Unavailable"), Verdict.DOWN),
        (GenerationError("Connection error."), Verdict.DOWN),
        (StatusError(413, "Too large"), Verdict.FINAL),
        (StatusError(400, "Bad request"), Verdict.FINAL),
        (ModelUnavailableError(410, "Gone"), Verdict.FINAL),
        (GenerationError("Bad request", status=400), Verdict.FINAL),
        (ConfigurationError("Blank"), Verdict.FINAL),
        (UnsupportedError("Files", "chat-ui v0.4"), Verdict.FINAL),
        (sent(TransportError("reset")), Verdict.LOST),
        (sent(TransportTimeout("idle", 60)), Verdict.LOST),
        (IncompleteAnswerError(), Verdict.LOST),
        (sent(TransportTimeout("total", 60)), Verdict.FAILED),
        (GenerationError("The model fell over"), Verdict.FAILED),
        (ServerError(500, "Internal Error"), Verdict.FAILED),
        (NotFoundError(404, "Conversation not found"), Verdict.FAILED),
        (ProtocolError("a line", "?"), Verdict.FAILED),
    ],
    ids=str,
)
def test_an_error_is_judged(error: H2oError, verdict: Verdict) -> None:
    assert judge(error) is verdict


def test_the_delay_grows_and_is_bounded() -> None:
    assert 0.5 <= delay_before(1) <= 1.0
    assert delay_before(50) <= 30.0
