"""Collect the updates of an answer, to be stored with it."""

from __future__ import annotations

from h2o_client.server.records import Streamed, Update


class AnswerUpdates:
    """The updates of one answer. Consecutive pieces of text are one update.

    ``generation_id`` is the id of its run, "" if runs have none.
    """

    def __init__(self, generation_id: str = "") -> None:
        self.generation_id = generation_id
        self._updates: list[Update] = []

    def add_text(self, text: str) -> None:
        """Add a piece of the answer's text."""
        length = units(text)
        last = self._updates[-1] if self._updates else None
        if isinstance(last, Streamed):
            self._updates[-1] = Streamed(last.length + length)
        else:
            self._updates.append(Streamed(length))

    def add(self, update: Update) -> None:
        """Add another update."""
        self._updates.append(update)

    def all(self) -> tuple[Update, ...]:
        """All updates so far."""
        return tuple(self._updates)

    def close(self) -> None:
        """End the updates."""


def units(text: str) -> int:
    """The length of a text in UTF-16 units, as in JavaScript."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2
