"""Finds what the log of an answer has beyond what the caller has already received.

Pure: the events of the log go in, beginning with the first, and the new ones come out. The log
repeats the updates of the stream in their order. It joins tokens that came soon after each other,
and leaves out the padding that tokens of the stream may have.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from h2o_client.wire.events import Event, Status, Token

PADDING = "\0"
_STATUSES = ("started", "keepAlive", "finished", "error")


class Overlap:
    """Removes from a log what was received: ``text``, and a number of events of each kind.

    If the text of the log differs from the received one, only what exceeds its length is new.
    """

    def __init__(self, text: str, kinds: Mapping[str, int] | None = None) -> None:
        self._text = text
        self._at = 0  # characters of the text that the log has repeated so far
        self._kinds = Counter(kinds or {})

    def rest(self, events: Sequence[Event]) -> list[Event]:
        """The new ones of the log's next ``events``, or the new parts of them."""
        found: list[Event] = []
        for event in events:
            if type(event) is Token:
                text = self.rest_of(event.text)
                if text or not event.text:
                    found.append(event if text == event.text else Token(text))
            elif self._kinds[kind := kind_of(event)] > 0:
                self._kinds[kind] -= 1
            else:
                found.append(event)
        return found

    def rest_of(self, text: str) -> str:
        """The new part of the log's next ``text``."""
        missing = len(self._text) - self._at
        if self._text.startswith(text[:missing], self._at):
            self._at += min(len(text), missing)
            return text[missing:]
        return self._compare(text)

    def _compare(self, text: str) -> str:
        for place, character in enumerate(text):
            missing = len(self._text) - self._at
            if not missing:
                return text[place:]
            if character == self._text[self._at]:
                self._at += 1
            elif character != PADDING:  # the stream's reader removed it from the end of a token
                self._at += min(len(text) - place, missing)
                return text[place + missing :]
        return ""


def counted(events: Iterable[Event]) -> Counter[str]:
    """The number of events of each kind that a log has, apart from text."""
    kinds = Counter(kind_of(event) for event in events if type(event) is not Token)
    del kinds["Status keepAlive"]
    return kinds


def kind_of(event: Event) -> str:
    """The kind of an event, which matches the events of a log with those already received."""
    name = type(event).__name__
    if isinstance(event, Status) and event.status in _STATUSES:
        return f"{name} {event.status}"
    return name  # the same for all unknown statuses, since a server could make up endless new ones
