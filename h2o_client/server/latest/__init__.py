"""What only chat-ui since July 2026 says: v0.9.6, with runs that outlive their connection."""

from h2o_client.server.latest.routes import Routes
from h2o_client.server.v0_9_6 import RULES

__all__ = ["RULES", "Routes"]
