"""What has come of an answer so far, and what it amounts to when it ends.

Pure: events go in. An end without a final answer or an error leaves the answer incomplete. A final
answer loses to an error; one without a text of its own ends the answer, whatever follows.

Which text is the answer: what the server stores, and shows to whoever opens the conversation.

- v0.3 to v0.6: the joined tokens; their last event has no text whose word counts.
- v0.7 and later: the final answer's text. It differs from the joined tokens where a server trims
  (v0.8.4 and later), or repeats tokens after it has asked its model again (v0.9.6 and later). On
  v0.7 it is the prompt where the model has said nothing.
- With tools (v0.9.6 and later): the joined tokens, for the final answer has only what follows the
  last tool. `answer_text` is the server's rule, with what its own browser forgives.
"""

from __future__ import annotations

from collections.abc import Sequence

from h2o_client.wire.events import (
    Elicitation,
    Event,
    Failure,
    File,
    Final,
    Malformed,
    Source,
    Status,
    Title,
    Token,
    Tool,
    WebSearch,
)

_LARGEST_FILES = 16 << 20  # characters of all names, with what it takes to keep each
_TO_KEEP_ONE = 64
_EXCERPT = 80


class Transcript:
    """The text, as far as it has come, and the events that decide how the answer ends."""

    def __init__(self) -> None:
        self.text_bytes: int = 0
        self.characters: int = 0
        self.final: Final | None = None
        self.failure: Failure | None = None
        self.malformed: Malformed | None = None
        self.title: str | None = None
        self.has_updates: bool = False  # chat-ui's own, and not the model server's events
        self.finished: bool = False  # so the newest servers say, last of all
        self.sources: tuple[Source, ...] = ()
        self._files: list[str] = []
        self._files_size = 0
        self.has_tools: bool = False
        # The text of the final answer if the model has generated nothing; None if it is "".
        self.empty_answer_text: str | None = None
        # What a tool has asked the user and nobody has answered yet: a stream may end waiting.
        self.elicitation: Elicitation | None = None
        # All tokens, whatever the final answer says. See `_append` for how it grows.
        self.joined: str = ""

    @property
    def text(self) -> str:
        """The answer, or what has come of it."""
        final = self.final
        if final is None or final.text is None or self.failure is not None:
            return self.joined
        if not self.characters and final.text.strip() == self.empty_answer_text:
            return ""
        if not self.has_tools:
            return final.text
        return self.joined if final.interrupted else answer_text(self.joined, final.text)

    @property
    def files(self) -> tuple[str, ...]:
        """The names of the files that have come with the answer."""
        return tuple(self._files)

    @property
    def ended(self) -> bool:
        """Whether the event that ends every answer has come: more may follow, but no text."""
        return self.final is not None or self.failure is not None

    def is_stopped_unsaid(self, events: Sequence[Event]) -> bool:
        """Whether with ``events`` an answer that says nothing, and has done nothing, is stopped."""
        if self.characters or self.has_tools or self.elicitation is not None:
            return False
        if any(_says_or_does(event) for event in events):
            return False
        return any(_is_empty_stop(event) for event in events)

    def add(self, events: Sequence[Event]) -> list[Event]:
        """Takes note of ``events``, in their order, and gives those that are no tokens."""
        text = "".join(
            [event.text for event in events if type(event) is Token and not event.special]
        )
        if text:
            self._append(text)
            self.characters += len(text)
            self.text_bytes += (
                len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
            )
        others = [event for event in events if type(event) is not Token]
        for event in others:
            self._note(event)
        return others

    def _append(self, text: str) -> None:
        # CPython extends a str in place if a local variable holds the only reference to it, so
        # reading the text after each token copies nothing. One that the caller has kept is copied.
        joined, self.joined = self.joined, ""
        try:
            joined += text
        finally:
            self.joined = joined

    def _note(self, event: Event) -> None:
        if self.final is not None and self.final.text is None:
            return
        if isinstance(event, Final):
            self.final = event
            self.sources = event.sources or self.sources
        elif isinstance(event, Failure):
            self.failure = self.failure or event
        elif isinstance(event, Status):
            self.has_updates = True
            self.finished = event.status == "finished"
        elif isinstance(event, Title):
            self.title = event.title
        elif isinstance(event, WebSearch):
            self.sources = event.sources or self.sources
        elif isinstance(event, Tool):
            self.has_tools = True
        elif isinstance(event, File):
            self._add_file(event.name)
        elif isinstance(event, Elicitation):
            self.elicitation = event if event.state == "request" else None
        elif isinstance(event, Malformed):
            self.malformed = event

    def _add_file(self, name: str) -> None:
        self._files_size += len(name) + _TO_KEEP_ONE
        if self._files_size <= _LARGEST_FILES:
            self._files.append(name)
        else:
            self.malformed = Malformed(0, name[:_EXCERPT], "more files than an answer can have")


def without_stop(events: Sequence[Event]) -> list[Event]:
    """``events`` without the end of an answer that `Transcript.is_stopped_unsaid` found."""
    return [event for event in events if not _is_empty_stop(event)]


def _is_empty_stop(event: Event) -> bool:
    return isinstance(event, Final) and event.interrupted is True and not event.text


def _says_or_does(event: Event) -> bool:
    if isinstance(event, Token):
        return bool(event.text) and not event.special
    return isinstance(event, Tool | Elicitation)


def answer_text(joined: str, final: str) -> str:
    """The answer of a model that has used tools: all it said, of which ``final`` is the last part.

    Where it is not, as the server stores it: a paragraph of its own, unless it repeats the whole.
    """
    if not joined or joined.rstrip().endswith(final.strip()):
        return joined or final
    if final.lstrip().startswith(joined.rstrip()):
        return final
    gap = "" if joined.endswith("\n\n") or final.startswith("\n") else "\n\n"
    return joined + gap + final
