"""Calls of a transport, and the ends of a server's responses."""

from __future__ import annotations

import threading
from collections.abc import Callable

from h2o_client.timeouts import Timeouts
from h2o_client.transport.call import Call
from scripted import Exchange


def call(**seconds: float) -> Call:
    return Call(Timeouts(**seconds))


def woken_after(call: Call, until: Callable[[], object]) -> threading.Thread:
    def wake() -> None:
        until()
        call.wake()

    thread = threading.Thread(target=wake)
    thread.start()
    return thread


def ok(exchange: Exchange) -> None:
    exchange.json({"ok": True})


def cut_in_a_body(exchange: Exchange) -> None:
    exchange.head(200)
    exchange.write(b"half")
    exchange.cut()
