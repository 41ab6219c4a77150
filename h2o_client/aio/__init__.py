"""The async API, for asyncio and trio. Its classes wrap the blocking ones.

Only this folder imports anyio. It has no logic of the protocol, and a session keeps no object of an
event loop, so several loops can use it one after another.
"""
