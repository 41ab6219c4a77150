"""How an answer comes about: what is said and told of it goes in, updates to keep come out."""

from __future__ import annotations

from h2o_client.server.records import Streamed, Update


class Account:
    """The updates of one answer; what is said in one go counts as one of them.

    ``generation_id`` is that of its run, where runs have one.
    """

    def __init__(self, generation_id: str = "") -> None:
        self.generation_id = generation_id
        self._updates: list[Update] = []

    def say(self, text: str) -> None:
        """A piece of the answer has been said."""
        length = units(text)
        last = self._updates[-1] if self._updates else None
        if isinstance(last, Streamed):
            self._updates[-1] = Streamed(last.length + length)
        else:
            self._updates.append(Streamed(length))

    def tell(self, update: Update) -> None:
        """Something else has been told."""
        self._updates.append(update)

    def so_far(self) -> tuple[Update, ...]:
        """All updates until now."""
        return tuple(self._updates)

    def close(self) -> None:
        """Nothing more comes."""


def units(text: str) -> int:
    """The length of a text where characters are UTF-16 units, as in JavaScript."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2
