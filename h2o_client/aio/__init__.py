"""The async face, for asyncio and trio: the blocking objects, their waiting done elsewhere.

The only folder that knows anyio. Nothing in it knows the protocol, and nothing that belongs to one
event loop is kept between calls.
"""
