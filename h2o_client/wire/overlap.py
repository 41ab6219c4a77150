"""What the log of an answer holds beyond what was given of it already.

Pure: the events of the log go in, from its first on, and those that were not given come out. The
log repeats the updates of the stream in their order, with tokens that came soon after each other
joined, and without the padding that tokens of the stream may have.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from h2o_client.wire.events import Event, Status, Token

PADDING = "\0"
_STATUSES = ("started", "keepAlive", "finished", "error")


class Overlap:
    """Takes away from a log what was given: ``text``, and so many events of each of the ``kinds``.

    Where the log says something else than was given, what it has beyond that length is new.
    """

    def __init__(self, text: str, kinds: Mapping[str, int] | None = None) -> None:
        self._text = text
        self._at = 0  # so far the log repeats it
        self._kinds = Counter(kinds or {})

    def rest(self, events: Sequence[Event]) -> list[Event]:
        """Those of the log's next ``events``, or parts of them, that are new."""
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
        """The part of the log's next ``text`` that is new."""
        missing = len(self._text) - self._at
        if self._text.startswith(text[:missing], self._at):
            self._at += min(len(text), missing)
            return text[missing:]
        return self._told_apart(text)

    def _told_apart(self, text: str) -> str:
        for place, character in enumerate(text):
            missing = len(self._text) - self._at
            if not missing:
                return text[place:]
            if character == self._text[self._at]:
                self._at += 1
            elif character != PADDING:  # a token that ends with it was given without
                self._at += min(len(text) - place, missing)
                return text[place + missing :]
        return ""


def counted(events: Iterable[Event]) -> Counter[str]:
    """How many there are of each kind that is no text and stands in a log."""
    kinds = Counter(kind_of(event) for event in events if type(event) is not Token)
    del kinds["Status keepAlive"]
    return kinds


def kind_of(event: Event) -> str:
    """What an event is, by which a log's are matched with those that were given."""
    name = type(event).__name__
    if isinstance(event, Status) and event.status in _STATUSES:
        return f"{name} {event.status}"
    return name  # one for all unknown statuses: a server could make up another each time
