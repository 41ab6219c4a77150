"""A Python client for chat-ui servers, from H2O.ai's gpt-gm.h2o.ai of 2023 to those people run.

::

    from h2o_client import H2oSession

    with H2oSession("http://localhost:3000") as client:
        for token in client.stream("Hello"):
            print(token, end="", flush=True)
"""

from typing import TYPE_CHECKING, Any

from h2o_client.calls import chat, stream
from h2o_client.conversation import Conversation
from h2o_client.errors import (
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
from h2o_client.generations.records import Model, Settings, User
from h2o_client.messages import Message, Messages
from h2o_client.options import Options
from h2o_client.reply import Answer, Reply
from h2o_client.session import H2oSession, Server
from h2o_client.timeouts import Timeouts
from h2o_client.version import __version__
from h2o_client.wire.events import (
    Elicitation,
    Failure,
    File,
    Notice,
    Reasoning,
    Route,
    Source,
    Status,
    Title,
    Token,
    Tool,
    WebSearch,
)

if TYPE_CHECKING:
    from h2o_client.aio import AsyncConversation, AsyncH2oSession, AsyncReply
    from h2o_client.provider import AsyncGeneratorProvider, AsyncResult, H2o

__all__ = [
    "Answer",
    "AsyncConversation",
    "AsyncGeneratorProvider",
    "AsyncH2oSession",
    "AsyncReply",
    "AsyncResult",
    "AuthenticationError",
    "ConfigurationError",
    "Conversation",
    "Elicitation",
    "Failure",
    "File",
    "GenerationError",
    "H2o",
    "H2oError",
    "H2oSession",
    "IncompleteAnswerError",
    "Message",
    "Messages",
    "Model",
    "ModelUnavailableError",
    "NotFoundError",
    "Notice",
    "Options",
    "ProtocolError",
    "RateLimitError",
    "Reasoning",
    "Reply",
    "Route",
    "Server",
    "ServerError",
    "Settings",
    "Source",
    "Status",
    "StatusError",
    "TermsNotAcceptedError",
    "Timeouts",
    "Title",
    "Token",
    "Tool",
    "TransportError",
    "TransportTimeout",
    "UnsupportedError",
    "User",
    "WebSearch",
    "__version__",
    "chat",
    "stream",
]

_LATE = {
    "AsyncConversation": "h2o_client.aio",
    "AsyncGeneratorProvider": "h2o_client.provider",
    "AsyncH2oSession": "h2o_client.aio",
    "AsyncReply": "h2o_client.aio",
    "AsyncResult": "h2o_client.provider",
    "H2o": "h2o_client.provider",
}


def __getattr__(name: str) -> Any:
    # Blocking programs do without anyio.
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_LATE[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
