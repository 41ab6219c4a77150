"""The async face, for asyncio and trio: the blocking objects, their waiting done elsewhere.

The only folder that knows anyio. Nothing in it knows the protocol, and nothing that belongs to one
event loop is kept between calls.
"""

from h2o_client.aio.conversation import AsyncConversation
from h2o_client.aio.reply import AsyncReply
from h2o_client.aio.session import AsyncH2oSession

__all__ = ["AsyncConversation", "AsyncH2oSession", "AsyncReply"]
