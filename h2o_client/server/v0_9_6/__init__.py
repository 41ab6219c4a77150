"""The routes and rules of chat-ui v0.9.6 to v0.10.0 (2025 and 2026)."""

from h2o_client.server.v0_9_6.routes import Routes
from h2o_client.server.v0_9_6.rules import RULES

__all__ = ["RULES", "Routes"]
