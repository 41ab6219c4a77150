"""A Python client for chat-ui servers, from H2O.ai's gpt-gm.h2o.ai of 2023 to those people run.

::

    from h2o_client import H2oSession

    with H2oSession("http://localhost:3000") as client:
        for token in client.stream("Hello"):
            print(token, end="", flush=True)
"""

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
from h2o_client.generations.v0_3 import Model
from h2o_client.messages import Message, Messages
from h2o_client.options import Options
from h2o_client.reply import Answer, Reply
from h2o_client.session import H2oSession
from h2o_client.timeouts import Timeouts
from h2o_client.version import __version__
from h2o_client.wire.events import (
    Failure,
    Notice,
    Source,
    Status,
    Title,
    Token,
    Tool,
    WebSearch,
)

__all__ = [
    "Answer",
    "AuthenticationError",
    "ConfigurationError",
    "Conversation",
    "Failure",
    "GenerationError",
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
    "Reply",
    "ServerError",
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
    "WebSearch",
    "__version__",
    "chat",
    "stream",
]
