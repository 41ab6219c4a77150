"""The events of a stream, each a frozen struct. The readers of all formats return these."""

from __future__ import annotations

from typing import Literal

import msgspec

FinishReason = Literal["stop", "length", "stopped"]
"""How an answer ended; "stopped" means that somebody stopped it."""

ReplyEnd = FinishReason | Literal["error", "incomplete"]
"""How a reply ended, with an answer or without."""


class Token(msgspec.Struct, frozen=True, gc=False):
    """A piece of the answer. Special tokens, such as end marks, do not belong to the text."""

    text: str = ""
    special: bool = False
    id: int | None = None
    logprob: float | None = None


class Source(msgspec.Struct, frozen=True):
    """A page that a web search found."""

    title: str
    link: str


class Final(msgspec.Struct, frozen=True):
    """The last event of an answer. ``text`` is the whole answer, or None if it cannot be relied on.

    ``interrupted`` is None if the server does not tell whether the answer was stopped.
    """

    text: str | None = None
    finish_reason: Literal["stop", "length"] = "stop"
    interrupted: bool | None = None
    sources: tuple[Source, ...] = ()


class Failure(msgspec.Struct, frozen=True):
    """The model server failed during the stream; ``status`` is the HTTP status if it is known."""

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
    """A step of a web search; the last step has the ``sources``."""

    kind: str
    message: str = ""
    sources: tuple[Source, ...] = ()


class Tool(msgspec.Struct, frozen=True):
    """A step of a tool that the model uses. ``raw`` is the server's update, unchanged."""

    kind: str
    name: str
    raw: dict[str, object]


class Reasoning(msgspec.Struct, frozen=True):
    """A piece of the model's reasoning before its answer (v0.9.5 and later send it separately)."""

    text: str


class File(msgspec.Struct, frozen=True):
    """A file that the model or a tool made; the server stores it under ``sha``."""

    name: str
    sha: str = ""
    mime: str = ""


class Route(msgspec.Struct, frozen=True):
    """The route that the server's router chose, its model, and the model's provider (v0.10)."""

    route: str = ""
    model: str = ""
    provider: str = ""


class Elicitation(msgspec.Struct, frozen=True):
    """A tool's question to the user (servers since July 2026): see `Reply.answer_elicitation`.

    ``state`` is "request", and "resolved" after it has been answered. ``mode`` is "form", with the
    questions in ``fields``, or "url", for a page that the user is to visit.
    """

    id: str
    state: str
    message: str = ""
    mode: str = ""
    url: str = ""
    server: str = ""
    fields: tuple[dict[str, object], ...] = ()


class Notice(msgspec.Struct, frozen=True):
    """An update of a type that this client does not know, unchanged."""

    raw: object


class Malformed(msgspec.Struct, frozen=True):
    """A complete line that cannot be decoded. ``line`` counts from 1."""

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
