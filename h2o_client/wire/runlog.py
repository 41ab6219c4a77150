r"""The log of a run, which the newest servers send to a client that resumes an answer.

It consists of server-sent events, each with one update, numbered from 1. Between them the server
sends comments or heartbeats. An event ``end`` says how the run ended. If the body ends without it,
the log has to be requested again from the last number on. Measured on the chat-ui of August 2026.
"""

from __future__ import annotations

import msgspec

from h2o_client.printable import printable
from h2o_client.wire import json, updates
from h2o_client.wire.decoder import Format
from h2o_client.wire.events import Event
from h2o_client.wire.overlap import Overlap
from h2o_client.wire.sse import field

_MOST_DIGITS = 15
_LONGEST_NAME = 32


class RunLog(Format):
    """Decodes the bytes of a log, and returns the events that `Overlap` finds new.

    It is used in place of a `Decoder`. Call `again` before the bytes of another body. ``last`` is
    the number of the last update that was read. ``end_status`` is the status in the log's ``end``
    event, "completed", "interrupted", "error" or "gone"; None before that.
    """

    def __init__(self, overlap: Overlap) -> None:
        super().__init__()
        self.text_bytes = 0
        self.last: int = 0
        self.end_status: str | None = None
        self._overlap = overlap
        self._number = 0
        self._name = ""
        self._document = bytearray()

    def again(self) -> None:
        """Start another body. It repeats a line that was cut off."""
        self._splitter.clear()
        self._over = False
        self._forget_event()

    def feed(self, data: bytes) -> list[Event]:
        events = self._overlap.rest(super().feed(data))
        self.check_length(self.text_bytes, events)
        return events

    def end(self, *, whole: bool = True) -> list[Event]:
        """Note the end of the body. An incomplete event will be sent again."""
        return []

    def read_line(self, line: bytes, events: list[Event]) -> None:
        name, value = field(line)
        if name == b"id" and value.isdigit() and len(value) <= _MOST_DIGITS:
            self._number = int(value)
        elif name == b"event":
            self._name = value[:_LONGEST_NAME].decode("utf-8", "replace")
        elif name == b"data":
            if self._document:
                self._document += b"\n"
            self._document += value
            self._kept = len(self._document)

    def read_blank(self, events: list[Event]) -> None:
        name, document, number = self._name, bytes(self._document), self._number
        self._forget_event()
        if name == "end":
            self.end_status = _status(document)
        # Updates that the server repeats without a request are dropped.
        elif name == "update" and document and not 0 < number <= self.last:
            self.last = max(self.last, number)
            self._read_update(document, events)

    def _read_update(self, document: bytes, events: list[Event]) -> None:
        try:
            event = updates.read_logged(document)
        except json.InvalidJson:
            events.append(self.malformed(document, "not a JSON document"))
        else:
            self.give(event, events)

    def _forget_event(self) -> None:
        self._name, self._document, self._number = "", bytearray(), 0
        self._kept = 0


def read_running(line: bytes) -> list[tuple[str, str]] | None:
    """The ids and titles of the conversations with a run in progress; None if the line has no list.

    ``line`` is from the live list, which the server sends at once and then every two seconds.
    """
    name, value = field(line)
    found = json.read(value) if name == b"data" else None
    running = found.get("running") if isinstance(found, dict) else None
    if not isinstance(running, list):
        return None
    return [
        (each["conversationId"], printable(str(each.get("title") or "")))
        for each in running
        if isinstance(each, dict) and isinstance(each.get("conversationId"), str)
    ]


def write_update(number: int, update: bytes) -> bytes:
    """An update in a log, as the server of August 2026 writes it."""
    return b"id: %d\nevent: update\ndata: %s\n\n" % (number, update)


def write_end(status: str) -> bytes:
    """The end of a log."""
    return b"event: end\ndata: " + msgspec.json.encode({"status": status}) + b"\n\n"


def _status(document: bytes) -> str:
    try:
        found = json.read(document)
    except json.InvalidJson:
        return ""
    status = found.get("status") if isinstance(found, dict) else None
    return status if isinstance(status, str) else ""
