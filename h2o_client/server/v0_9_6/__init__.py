"""What only chat-ui v0.9.6 to v0.10.0 (2025 and 2026) says."""

from h2o_client.server.v0_9_6.routes import Routes
from h2o_client.server.v0_9_6.rules import RULES

__all__ = ["RULES", "Routes"]
