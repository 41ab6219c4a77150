"""What a stream says, one frozen struct an event. The readers of every format give these."""

from __future__ import annotations

from typing import Literal

import msgspec

FinishReason = Literal["stop", "length", "stopped"]
"""How an answer ended; "stopped" by a stop."""

ReplyEnd = FinishReason | Literal["error", "incomplete"]
"""How a reply ended, with an answer or without."""


class Token(msgspec.Struct, frozen=True, gc=False):
    """A piece of the answer. Special tokens (end marks and the like) are no part of the text."""

    text: str = ""
    special: bool = False
    id: int | None = None
    logprob: float | None = None


class Source(msgspec.Struct, frozen=True):
    """A page a web search found."""

    title: str
    link: str


class Final(msgspec.Struct, frozen=True):
    """The terminal event. ``text`` is the whole answer where the format's word on it counts.

    ``interrupted`` is None where servers do not tell whether a stop ended the answer.
    """

    text: str | None = None
    finish_reason: Literal["stop", "length"] = "stop"
    interrupted: bool | None = None
    sources: tuple[Source, ...] = ()


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


class Reasoning(msgspec.Struct, frozen=True):
    """A piece of what the model thinks before it answers (v0.9.5 and later, where it is apart)."""

    text: str


class File(msgspec.Struct, frozen=True):
    """A file the model or a tool made; the server keeps it under ``sha``."""

    name: str
    sha: str = ""
    mime: str = ""


class Route(msgspec.Struct, frozen=True):
    """What answered: the route a router chose, its model, and the model's provider (v0.10)."""

    route: str = ""
    model: str = ""
    provider: str = ""


class Elicitation(msgspec.Struct, frozen=True):
    """A tool asks the user something (the newest servers): see `Reply.answer_elicitation`.

    ``state`` is "request", or "resolved" once it has been answered. ``mode`` is "form", whose
    ``fields`` say what is asked, or "url", to be visited.
    """

    id: str
    state: str
    message: str = ""
    mode: str = ""
    url: str = ""
    server: str = ""
    fields: tuple[dict[str, object], ...] = ()


class Notice(msgspec.Struct, frozen=True):
    """Something this client has no name for, kept as it came."""

    raw: object


class Malformed(msgspec.Struct, frozen=True):
    """A whole line that does not decode. ``line`` counts from 1."""

    line: int
    excerpt: str
    reason: str


Event = (
    Token
    | Final
    | Failure
    | Title
    | Status
    | WebSearch
    | Tool
    | Reasoning
    | File
    | Route
    | Elicitation
    | Notice
    | Malformed
)
