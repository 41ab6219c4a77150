"""The routes and rules of chat-ui v0.3 to v0.6 (2023)."""

from h2o_client.server.v0_3.routes import Routes
from h2o_client.server.v0_3.rules import RULES

__all__ = ["RULES", "Routes"]
