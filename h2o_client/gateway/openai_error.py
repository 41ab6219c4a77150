"""Errors in the format of OpenAI's API: for invalid requests, and for failures of the chat-ui."""

from __future__ import annotations

import math

import msgspec

from h2o_client.errors import (
    AuthenticationError,
    ConfigurationError,
    ConversationBusyError,
    GenerationError,
    H2oError,
    ModelUnavailableError,
    NotFoundError,
    RateLimitError,
    StatusError,
    TermsNotAcceptedError,
    TransportTimeout,
    UnsupportedError,
)

INVALID = "invalid_request_error"

_WITHOUT_RETRY_AFTER = 60  # seconds; an earlier retry would count against chat-ui's limit
_SET_BY_OPERATOR = frozenset(
    {"base_url", "server_version", "cookies", "insecure_cookies", "headers", "proxy", "verify"}
)
"""Arguments of the gateway: a client cannot change them."""

_NO_RETRY = {"x-should-retry": "false"}  # OpenAI's clients retry 409, 429 and 5xx otherwise


class ApiError(Exception):
    """An error response: its HTTP status, and OpenAI's ``type``, ``param`` and ``code``."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type: str = INVALID,
        param: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.type = type
        self.param = param
        self.code = code
        self.headers: dict[str, str] = headers or {}

    def body(self) -> bytes:
        """The JSON document, for a response or for an event of a stream."""
        return msgspec.json.encode(
            {
                "error": {
                    "message": self.message,
                    "type": self.type,
                    "param": self.param,
                    "code": self.code,
                }
            }
        )


def invalid(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """400 for an invalid request."""
    return ApiError(400, message, param=param, code=code)


def unknown_model(model: str, available: list[str]) -> ApiError:
    """404 for an unknown model; lists the available ones."""
    shown = ", ".join(available[:20]) + (", ..." if len(available) > 20 else "")
    return ApiError(
        404,
        f"Unknown model {model!r}. Available: {shown or 'none'}.",
        param="model",
        code="model_not_found",
    )


def unknown_conversation() -> ApiError:
    """404 for an ``X-Conversation-Id`` that does not exist, or belongs to another key."""
    return ApiError(
        404,
        "Unknown X-Conversation-Id. The conversation has expired or never existed. Leave the "
        "header out, and send the whole history.",
        code="conversation_not_found",
    )


def busy_conversation() -> ApiError:
    """409 for a second request in a busy conversation."""
    return ApiError(
        409,
        "This conversation is answering another request. Wait for its end, or leave "
        "X-Conversation-Id out.",
        code="conversation_busy",
    )


def from_error(exc: H2oError) -> ApiError:
    """Translate a failure of the chat-ui to an error of OpenAI's API.

    If the client must not retry, because the prompt may have been received or because waiting does
    not help, ``x-should-retry`` says so.
    """
    if isinstance(exc, RateLimitError):
        return _rate_limit(exc)
    status, type, code = _kind(exc)
    headers: dict[str, str] = {}
    if isinstance(exc, StatusError) and exc.retry_after is not None:
        headers["retry-after"] = _seconds(exc.retry_after)
    elif status >= 500 and exc.resendable is not True:
        headers.update(_NO_RETRY)
    return ApiError(status, exc.describe(), type=type, code=code, headers=headers)


def _kind(exc: H2oError) -> tuple[int, str, str | None]:
    """The HTTP status, OpenAI's type and its code."""
    if isinstance(exc, ConfigurationError) and exc.argument in _SET_BY_OPERATOR:
        return 502, "server_error", "gateway_configuration"
    if isinstance(exc, ConfigurationError | UnsupportedError):
        return 400, INVALID, None
    if isinstance(exc, ConversationBusyError):
        return 409, INVALID, "conversation_busy"
    if isinstance(exc, TransportTimeout):
        return 504, "server_error", f"timeout_{exc.which}"
    if isinstance(exc, GenerationError):
        return _generation(exc)
    if not isinstance(exc, StatusError):
        return 502, "server_error", _code_of(exc)
    if exc.origin == "model":
        return (400, INVALID, None) if exc.status in (400, 413, 422) else _upstream(exc)
    if isinstance(exc, AuthenticationError):
        return 401, "authentication_error", "chat_ui_login"
    if isinstance(exc, TermsNotAcceptedError):
        return 403, "permission_error", "chat_ui_terms"
    if isinstance(exc, ModelUnavailableError):
        return 404, INVALID, "model_not_found"
    if isinstance(exc, NotFoundError):
        return 404, INVALID, "conversation_not_found"
    if exc.status in (400, 413, 422):
        return 400, INVALID, None
    return _upstream(exc)


def _upstream(exc: StatusError) -> tuple[int, str, str | None]:
    return 503 if exc.status == 503 else 502, "server_error", f"upstream_{exc.status}"


def _generation(exc: GenerationError) -> tuple[int, str, str | None]:
    if exc.status in (400, 413, 422):
        return 400, INVALID, exc.error_type
    if exc.status == 429:
        return 429, "rate_limit_error", "rate_limit_exceeded"
    return 502, "server_error", exc.error_type or "generation_failed"


def _rate_limit(exc: RateLimitError) -> ApiError:
    if exc.limit == "rate":
        headers = {"retry-after": _seconds(exc.retry_after or _WITHOUT_RETRY_AFTER)}
        type, code = "rate_limit_error", "rate_limit_exceeded"
    else:
        headers, type, code = dict(_NO_RETRY), "insufficient_quota", f"limit_{exc.limit}"
    return ApiError(429, exc.describe(), type=type, code=code, headers=headers)


def _seconds(value: float) -> str:
    return str(max(1, math.ceil(value)))


def _code_of(exc: H2oError) -> str:
    """The name of the error's class in OpenAI's style, such as ``incomplete_answer``."""
    name = type(exc).__name__.removesuffix("Error")
    return "".join(f"_{each.lower()}" if each.isupper() else each for each in name).lstrip("_")
