"""What an answer's client is still to be told."""

from __future__ import annotations

import asyncio

_MUCH = 256 * 1024
_PATIENCE = 10.0


class Outbox:
    """Bytes for one client: ``left`` is set when it has gone, ``neglected`` before that if it stays
    and does not read."""

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
        """Whether everything has been taken."""
        return not self._pieces

    def put(self, data: bytes) -> None:
        """Tell the client, if it is still there."""
        if not self.left.is_set():
            self._pieces.append(data)
            self._size += len(data)
            self._taken.clear()
            self._told.set()

    async def room(self) -> None:
        """Wait while much is unread, for so long as one may hope that it will be."""
        if self._size > _MUCH:
            try:
                await asyncio.wait_for(self._taken.wait(), _PATIENCE)
            except asyncio.TimeoutError:
                self.neglected.set()
                self.leave()

    async def take(self) -> bytes:
        """What has come since the last time, once there is something; empty at the end."""
        await self._told.wait()
        data = b"".join(self._pieces)
        self._forget()
        if not self._closed:
            self._told.clear()
        return data

    def close(self) -> None:
        """Nothing more comes."""
        self._closed = True
        self._told.set()

    def leave(self) -> None:
        """The client has gone: what it was told and will be told is thrown away."""
        self.left.set()
        self._forget()

    def _forget(self) -> None:
        self._pieces.clear()
        self._size = 0
        self._taken.set()
