"""Collects the events of an answer, and determines its text and its end.

Pure: only events go in. If the stream ends without a final answer or an error, the answer is
incomplete. An error takes precedence over a final answer. Events after a final answer without a
text are ignored.

The text of the answer is the text that the server stores, and shows when the conversation is
opened:

- v0.3 to v0.6: the joined tokens. The text in the last event is unreliable.
- v0.7 and later: the text of the final answer. It differs from the joined tokens if a server trims
  it (v0.8.4 and later), or repeats tokens after it has called its model again (v0.9.6 and later).
  On v0.7 it is the prompt if the model generated nothing.
- With tools (v0.9.6 and later): the joined tokens, because the final answer has only the text after
  the last tool. `answer_text` applies the rule of the server, and that of its page in the browser.
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

_LARGEST_FILES = 16 << 20  # characters of all names, plus _TO_KEEP_ONE for each
_TO_KEEP_ONE = 64
_EXCERPT = 80


class Transcript:
    """The text received so far, and the events that decide how the answer ends."""

    def __init__(self) -> None:
        self.text_bytes: int = 0
        self.characters: int = 0
        self.final: Final | None = None
        self.failure: Failure | None = None
        self.malformed: Malformed | None = None
        self.title: str | None = None
        self.has_updates: bool = False  # whether it has chat-ui's updates, not a model server's
        self.finished: bool = False  # whether the last status (newest servers) was "finished"
        self.sources: tuple[Source, ...] = ()
        self._files: list[str] = []
        self._files_size = 0
        self.has_tools: bool = False
        # The text of the final answer if the model has generated nothing; None if that is "".
        self.empty_answer_text: str | None = None
        # A tool's question that has not been answered yet. A stream may end while it is open.
        self.elicitation: Elicitation | None = None
        # The text of all tokens. The final answer does not change it.
        self.joined: str = ""

    @property
    def text(self) -> str:
        """The answer, or the part of it received so far."""
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
        """The names of the files received with the answer."""
        return tuple(self._files)

    @property
    def ended(self) -> bool:
        """Whether the answer has its last event. Other events may follow, but no text."""
        return self.final is not None or self.failure is not None

    def is_stopped_empty(self, events: Sequence[Event]) -> bool:
        """Whether ``events`` stop an answer that has no text and has used no tool."""
        if self.characters or self.has_tools or self.elicitation is not None:
            return False
        if any(_says_or_does(event) for event in events):
            return False
        return any(_is_empty_stop(event) for event in events)

    def add(self, events: Sequence[Event]) -> list[Event]:
        """Add ``events``, in their order, and return those that are not tokens."""
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
        # CPython extends a str in place if a local variable has the only reference to it. So
        # nothing is copied, unless the caller has kept a reference to the previous text.
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
    """Return ``events`` without the final answer that `Transcript.is_stopped_empty` found."""
    return [event for event in events if not _is_empty_stop(event)]


def _is_empty_stop(event: Event) -> bool:
    return isinstance(event, Final) and event.interrupted is True and not event.text


def _says_or_does(event: Event) -> bool:
    if isinstance(event, Token):
        return bool(event.text) and not event.special
    return isinstance(event, Tool | Elicitation)


def answer_text(joined: str, final: str) -> str:
    """The answer of a model that has used tools: the text of all tokens, which ends with ``final``.

    If it does not end with ``final``, that is added as a paragraph, or replaces the text if it
    starts with the same text. The server stores the same.
    """
    if not joined or joined.rstrip().endswith(final.strip()):
        return joined or final
    if final.lstrip().startswith(joined.rstrip()):
        return final
    gap = "" if joined.endswith("\n\n") or final.startswith("\n") else "\n\n"
    return joined + gap + final
