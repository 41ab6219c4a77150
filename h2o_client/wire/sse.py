"""Reads and writes the lines of server-sent events.

Each ``data`` line of chat-ui has a whole JSON document. So a reader can return its token at once,
without waiting for the blank line that ends the event.
"""

from __future__ import annotations


def field(line: bytes) -> tuple[bytes, bytes]:
    """The name and value of the field in a line. A comment has the name "" (WHATWG HTML, 9.2.6)."""
    name, _, value = line.partition(b":")
    return name, value.removeprefix(b" ")


def write_event(data: bytes, *, event: str = "", id: str = "") -> bytes:
    """One event; ``data`` may have several lines."""
    head = f"id: {id}\n" if id else ""
    head += f"event: {event}\n" if event else ""
    body = b"".join(b"data:" + line + b"\n" for line in data.split(b"\n"))
    return head.encode() + body + b"\n"


def write_comment(text: str = "") -> bytes:
    """A comment. Readers ignore it, and it keeps proxies from closing a silent stream."""
    return b":" + text.encode() + b"\n\n"
