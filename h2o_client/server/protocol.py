"""uvicorn's HTTP/1.1 protocol, with a limit on how long a client can occupy a connection."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from h2o_client.server.asgi_messages import DROP

MOST_CONNECTIONS = 900
"""Below the usual limit of 1024 file descriptors."""

REQUEST_SECONDS = 30.0
"""The time within which a request must be complete, headers and body."""

READ_SECONDS = 30.0
"""A client that does not read for this time, although there is data, counts as disconnected."""


class Protocol(H11Protocol):
    """A connection that is closed if its client takes too long to send a request or to read.

    If `MOST_CONNECTIONS` are open, a new one replaces the one that has waited longest for a
    request, so that clients without requests cannot block others. The application can drop the
    connection with the extension `DROP`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._request_due: asyncio.TimerHandle | None = None
        self._reading_due: asyncio.TimerHandle | None = None
        app = self.app

        async def app_that_can_drop(scope: Scope, receive: Receive, send: Send) -> None:
            scope["extensions"] = {**scope.get("extensions", {}), DROP: self._drop}
            await app(scope, receive, send)

        self.app = app_that_can_drop

    def connection_made(self, transport: object) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        self._make_room()
        self._expect_request()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        _cancel(self._request_due, self._reading_due)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._expect_request()

    def send_400_response(self, msg: str) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            # The application already has this request: its response would come too late.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:  # there is a response already, for a request whose body is invalid
            self.transport.close()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._expect_request()
        self._expect_reading()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._expect_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        _cancel(self._reading_due)
        self._reading_due = None
        if self.cycle.response_complete:  # the client may never read the rest
            self._expect_reading()

    def _expect_request(self) -> None:
        if self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):
            _cancel(self._request_due)
            self._request_due = None
        elif self._request_due is None:
            self._request_due = self.loop.call_later(REQUEST_SECONDS, self.transport.abort)

    def _expect_reading(self) -> None:
        if self._reading_due is None:
            self._reading_due = self.loop.call_later(READ_SECONDS, self._check_reading)

    def _check_reading(self) -> None:
        self._reading_due = None
        if self.transport.get_write_buffer_size():
            self.transport.abort()

    def _make_room(self) -> None:
        if len(self.connections) < MOST_CONNECTIONS:
            return
        waiting = [
            (each._request_due.when(), id(each), each)
            for each in self.connections
            if isinstance(each, Protocol) and each._request_due is not None
        ]
        if waiting:
            *_, longest = min(waiting)
            self.connections.discard(longest)  # at once: connection_lost is called only later
            longest.transport.abort()

    def _drop(self) -> None:
        # close() would wait until the client has read everything.
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            self.transport.close()


def _cancel(*timers: asyncio.TimerHandle | None) -> None:
    for timer in timers:
        if timer is not None:
            timer.cancel()
