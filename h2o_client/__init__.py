"""A Python client for chat-ui servers, from H2O.ai's gpt-gm.h2o.ai of 2023 to today's servers.

::

    from h2o_client import H2oSession

    with H2oSession("http://localhost:3000") as client:
        for token in client.stream("Hello"):
            print(token, end="", flush=True)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from h2o_client.version import __version__

if TYPE_CHECKING:
    from h2o_client.aio.conversation import AsyncConversation
    from h2o_client.aio.reply import AsyncReply
    from h2o_client.aio.session import AsyncH2oSession
    from h2o_client.answer.reply import Reply
    from h2o_client.answer.server_run import Running
    from h2o_client.answer.steps import Answer
    from h2o_client.conversation import Conversation
    from h2o_client.dialects.documents import Model, Settings, User
    from h2o_client.doctor.checks import Check
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
        OriginError,
        ProtocolError,
        RateLimitError,
        ServerError,
        StatusError,
        TermsNotAcceptedError,
        TransportError,
        TransportTimeout,
        UnsupportedError,
    )
    from h2o_client.messages import Message, Messages
    from h2o_client.options import Options
    from h2o_client.provider import AsyncGeneratorProvider, AsyncResult, H2o
    from h2o_client.session import H2oSession, Server, chat, stream
    from h2o_client.timeouts import Timeouts
    from h2o_client.wire.events import (
        Elicitation,
        Event,
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

__all__ = [
    "Answer",
    "AsyncConversation",
    "AsyncGeneratorProvider",
    "AsyncH2oSession",
    "AsyncReply",
    "AsyncResult",
    "AuthenticationError",
    "Check",
    "ConfigurationError",
    "Conversation",
    "ConversationBusyError",
    "Elicitation",
    "ElicitationClosedError",
    "Event",
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
    "OriginError",
    "ProtocolError",
    "RateLimitError",
    "Reasoning",
    "Reply",
    "Route",
    "Running",
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

# Where each name is. Importing this package loads nothing: a program pays for what it uses.
_MODULES = {
    "h2o_client.aio.conversation": ("AsyncConversation",),
    "h2o_client.aio.reply": ("AsyncReply",),
    "h2o_client.aio.session": ("AsyncH2oSession",),
    "h2o_client.doctor.checks": ("Check",),
    "h2o_client.conversation": ("Conversation",),
    "h2o_client.errors": (
        "AuthenticationError",
        "ConfigurationError",
        "ConversationBusyError",
        "ElicitationClosedError",
        "GenerationError",
        "H2oError",
        "IncompleteAnswerError",
        "ModelUnavailableError",
        "NotFoundError",
        "OriginError",
        "ProtocolError",
        "RateLimitError",
        "ServerError",
        "StatusError",
        "TermsNotAcceptedError",
        "TransportError",
        "TransportTimeout",
        "UnsupportedError",
    ),
    "h2o_client.dialects.documents": (
        "Model",
        "Settings",
        "User",
    ),
    "h2o_client.messages": (
        "Message",
        "Messages",
    ),
    "h2o_client.notebook": (
        "load_ipython_extension",
        "unload_ipython_extension",
    ),
    "h2o_client.options": ("Options",),
    "h2o_client.provider": (
        "AsyncGeneratorProvider",
        "AsyncResult",
        "H2o",
    ),
    "h2o_client.answer.reply": ("Reply",),
    "h2o_client.answer.steps": ("Answer",),
    "h2o_client.answer.server_run": ("Running",),
    "h2o_client.session": (
        "H2oSession",
        "Server",
        "chat",
        "stream",
    ),
    "h2o_client.timeouts": ("Timeouts",),
    "h2o_client.wire.events": (
        "Elicitation",
        "Event",
        "Failure",
        "File",
        "Notice",
        "Reasoning",
        "Route",
        "Source",
        "Status",
        "Title",
        "Token",
        "Tool",
        "WebSearch",
    ),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}


if not TYPE_CHECKING:  # a type checker would accept any name

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = getattr(import_module(_HOMES[name]), name)
        globals()[name] = found
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
