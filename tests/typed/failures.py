"""A program that handles errors: the fields of each class."""

from __future__ import annotations

from typing import Literal

from typing_extensions import assert_type

from h2o_client import (
    AuthenticationError,
    ConfigurationError,
    GenerationError,
    H2oError,
    H2oSession,
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


def asks(client: H2oSession) -> str:
    try:
        return str(client.chat("Hi"))
    except RateLimitError as error:
        assert_type(error.retry_after, float | None)
        assert_type(error.status, int)
    except (AuthenticationError, NotFoundError, TermsNotAcceptedError) as error:
        assert_type(error.url, str)
    except (ModelUnavailableError, ServerError) as error:
        assert_type(error.origin, Literal["server", "model", "gateway"])
        assert_type(error.error_type, str | None)
    except StatusError as error:
        assert_type(error.body, str)
        assert_type(error.request_id, str | None)
    except TransportTimeout as error:
        assert_type(error.which, Literal["connect", "first_token", "idle", "total", "silence"])
        assert_type(error.seconds, float)
        timed_out: TimeoutError = error
        raise RuntimeError from timed_out
    except TransportError as error:
        assert_type(error.permanent, bool)
    except UnsupportedError as error:
        assert_type(error.feature, str)
        assert_type(error.versions, str)
    except ConfigurationError as error:
        wrong: ValueError = error
        raise RuntimeError from wrong
    except GenerationError as error:
        assert_type(error.said, str)
    except (IncompleteAnswerError, ProtocolError) as error:
        return error.partial
    except H2oError as error:
        assert_type(error.partial, str)
        assert_type(error.conversation_id, str | None)
        assert_type(error.resendable, bool | None)
    return ""


def is_wrong(error: H2oError) -> None:
    error.status = 404  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    UnsupportedError("this")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
