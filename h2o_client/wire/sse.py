"""Server-sent events: lines to the data of events, and back.

The streams read here put one whole JSON document into each ``data`` line, so a reader need not
wait for the blank line behind it: the token in it can be handed over at once.
"""

from __future__ import annotations


def field(line: bytes) -> tuple[bytes, bytes]:
    """A line's field name and value; a comment's name is empty. (WHATWG HTML, section 9.2.6)"""
    name, _, value = line.partition(b":")
    return name, value.removeprefix(b" ")


def write_event(data: bytes, *, event: str = "", id: str = "") -> bytes:
    """One event; ``data`` may have several lines."""
    head = f"id: {id}\n" if id else ""
    head += f"event: {event}\n" if event else ""
    body = b"".join(b"data:" + line + b"\n" for line in data.split(b"\n"))
    return head.encode() + body + b"\n"


def write_comment(text: str = "") -> bytes:
    """A comment, which readers pass over: it keeps proxies from closing a silent stream."""
    return b":" + text.encode() + b"\n\n"
