"""What the server says as generation F alone, the chat-ui of today (since July 2026): E, with runs
that outlive their connection."""

from h2o_client.server.latest.routes import Routes
from h2o_client.server.v0_9_6 import RULES

__all__ = ["RULES", "Routes"]
