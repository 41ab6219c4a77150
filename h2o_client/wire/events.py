"""What a stream says, one frozen struct an event. The readers of every format give these."""

from __future__ import annotations

import msgspec


class Token(msgspec.Struct, frozen=True, gc=False):
    """A piece of the answer. Special tokens (end marks and the like) are no part of the text."""

    text: str = ""
    special: bool = False
    id: int | None = None
    logprob: float | None = None


class Final(msgspec.Struct, frozen=True):
    """The terminal event. ``text`` is the whole answer where the format's word on it counts."""

    text: str | None = None
    finish_reason: str = "stop"
    interrupted: bool = False


class Failure(msgspec.Struct, frozen=True):
    """The model server failed in mid-stream; ``status`` is the HTTP status where it is known."""

    message: str
    error_type: str | None = None
    status: int | None = None


class Title(msgspec.Struct, frozen=True):
    """The conversation's new title."""

    title: str


class Status(msgspec.Struct, frozen=True):
    """The server's progress: "started", "finished", "keepAlive", ..."""

    status: str
    message: str = ""


class Source(msgspec.Struct, frozen=True):
    """A page a web search found."""

    title: str
    link: str


class WebSearch(msgspec.Struct, frozen=True):
    """A step of a web search; ``sources`` come with its last one."""

    kind: str
    message: str = ""
    sources: tuple[Source, ...] = ()


class Tool(msgspec.Struct, frozen=True):
    """A step of a tool the model uses; ``raw`` is the update as it came."""

    kind: str
    name: str
    raw: dict[str, object]


class Notice(msgspec.Struct, frozen=True):
    """Something this client has no name for, kept as it came."""

    raw: object


class Malformed(msgspec.Struct, frozen=True):
    """A whole line that does not decode. ``line`` counts from 1."""

    line: int
    excerpt: str
    reason: str


Event = Token | Final | Failure | Title | Status | WebSearch | Tool | Notice | Malformed
