"""Decide the consequence of a failed attempt for its prompt and its account. No I/O."""

from __future__ import annotations

import random
from enum import Enum, auto

from h2o_client.errors import (
    MODEL_DOWN,
    AuthenticationError,
    ConfigurationError,
    GenerationError,
    H2oError,
    IncompleteAnswerError,
    ModelUnavailableError,
    RateLimitError,
    StatusError,
    TermsNotAcceptedError,
    TransportError,
    TransportTimeout,
    UnsupportedError,
)

MOST_ATTEMPTS = 5

_FIRST_DELAY = 0.5  # seconds before a failed prompt is sent again; doubled each time
_LONGEST_DELAY = 30.0
_GATEWAY_FAILED = (502, 503, 504, 520, 521, 522, 523, 524, 525, 526, 530)
_WRONG_REQUESTS = (400, 410, 413, 414, 422)


class Verdict(Enum):
    """The meaning of an error.

    SHUT_OUT: the account cannot send any more prompts. LIMITED: the account has reached the rate
    limit. FULL: the account has too many conversations. DOWN: the server or its model is down, and
    has not received the prompt. FINAL: the same prompt would fail again. LOST: the server may have
    the answer, but it did not arrive. FAILED: the prompt can be sent again.
    """

    SHUT_OUT = auto()
    LIMITED = auto()
    FULL = auto()
    DOWN = auto()
    FINAL = auto()
    LOST = auto()
    FAILED = auto()


def judge(exc: H2oError) -> Verdict:
    """Decide the consequence of the error of an attempt."""
    if isinstance(exc, RateLimitError):
        return _LIMITS.get(exc.limit, Verdict.FINAL)
    if isinstance(exc, AuthenticationError | TermsNotAcceptedError):
        return Verdict.SHUT_OUT
    if isinstance(exc, ConfigurationError | UnsupportedError | ModelUnavailableError):
        return Verdict.FINAL
    if isinstance(exc, StatusError):
        return _judge_status(exc.status)
    if isinstance(exc, GenerationError):
        return _judge_generation(exc)
    if isinstance(exc, TransportError):
        return _judge_transport(exc)
    return Verdict.LOST if isinstance(exc, IncompleteAnswerError) else Verdict.FAILED


_LIMITS = {
    "rate": Verdict.LIMITED,
    "conversations": Verdict.FULL,
    "login": Verdict.SHUT_OUT,
}


def _judge_status(status: int) -> Verdict:
    if status in _WRONG_REQUESTS:
        return Verdict.FINAL
    return Verdict.DOWN if status in _GATEWAY_FAILED else Verdict.FAILED


def _judge_generation(exc: GenerationError) -> Verdict:
    if exc.status == 429:
        return Verdict.LIMITED
    if exc.status in _WRONG_REQUESTS:
        return Verdict.FINAL
    return Verdict.DOWN if exc.hint == MODEL_DOWN else Verdict.FAILED


def _judge_transport(exc: TransportError) -> Verdict:
    if exc.permanent:
        return Verdict.SHUT_OUT  # such as an untrusted certificate
    if exc.resendable is not False:
        return Verdict.DOWN
    is_over = isinstance(exc, TransportTimeout) and exc.which == "total"
    return Verdict.FAILED if is_over else Verdict.LOST


def delay_before(attempts: int) -> float:
    """Seconds to wait before a prompt is sent again, after ``attempts`` failed attempts."""
    return min(_LONGEST_DELAY, _FIRST_DELAY * 2.0**attempts) * random.uniform(0.5, 1.0)
