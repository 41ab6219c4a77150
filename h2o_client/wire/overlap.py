"""Finds the events in the log of an answer that the caller has not received yet.

Pure: takes the events of the log, beginning with the first one, and returns the new ones. The log
repeats the updates of the stream in their order. It joins tokens that followed each other quickly,
and does not have the padding that tokens of the stream may have.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from h2o_client.wire.events import Event, Status, Token

PADDING = "\0"
_STATUSES = ("started", "keepAlive", "finished", "error")


class Overlap:
    """Removes the received ``text``, and the received number of events of each kind, from a log.

    If the text of the log differs from ``text``, only the part beyond the length of ``text`` is
    new.
    """

    def __init__(self, text: str, kinds: Mapping[str, int] | None = None) -> None:
        self._text = text
        self._at = 0  # characters of the text that the log has repeated so far
        self._kinds = Counter(kinds or {})

    def rest(self, events: Sequence[Event]) -> list[Event]:
        """The new events, or new parts of events, among the log's next ``events``."""
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
    """The number of events of each kind in a log, except text."""
    kinds = Counter(kind_of(event) for event in events if type(event) is not Token)
    del kinds["Status keepAlive"]
    return kinds


def kind_of(event: Event) -> str:
    """The kind of an event. Events of a log and received events are compared by their kind."""
    name = type(event).__name__
    if isinstance(event, Status) and event.status in _STATUSES:
        return f"{name} {event.status}"
    return name  # one kind for all unknown statuses, because a server could invent endless ones
