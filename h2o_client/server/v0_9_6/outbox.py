"""The data of an answer that its client has not received yet."""

from __future__ import annotations

import asyncio

_MOST_UNREAD = 256 * 1024  # bytes
_PATIENCE = 10.0  # seconds


class Outbox:
    """Bytes for one client.

    ``left`` is set when the client has disconnected, ``neglected`` if the client does not read.
    """

    def __init__(self) -> None:
        self.neglected: asyncio.Event = asyncio.Event()
        self.left: asyncio.Event = asyncio.Event()
        self._pieces: list[bytes] = []
        self._size = 0
        self._told = asyncio.Event()
        self._taken = asyncio.Event()
        self._closed = False

    @property
    def empty(self) -> bool:
        """Whether all data was taken."""
        return not self._pieces

    def put(self, data: bytes) -> None:
        """Add data, if the client is still connected."""
        if not self.left.is_set():
            self._pieces.append(data)
            self._size += len(data)
            self._taken.clear()
            self._told.set()

    async def room(self) -> None:
        """Wait if there is too much unread data. If the client does not read it, discard it."""
        if self._size > _MOST_UNREAD:
            try:
                await asyncio.wait_for(self._taken.wait(), _PATIENCE)
            except asyncio.TimeoutError:
                self.neglected.set()
                self.leave()

    async def take(self) -> bytes:
        """Wait for data and return it; empty at the end."""
        await self._told.wait()
        data = b"".join(self._pieces)
        self._forget()
        if not self._closed:
            self._told.clear()
        return data

    def close(self) -> None:
        """End the data."""
        self._closed = True
        self._told.set()

    def leave(self) -> None:
        """Note that the client has disconnected, and discard all data."""
        self.left.set()
        self._forget()

    def _forget(self) -> None:
        self._pieces.clear()
        self._size = 0
        self._taken.set()
