"""The routes and rules of chat-ui since July 2026: those of v0.9.6, and resumable runs."""

from h2o_client.server.latest.routes import Routes
from h2o_client.server.v0_9_6 import RULES

__all__ = ["RULES", "Routes"]
