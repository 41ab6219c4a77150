"""Text comes in pieces and goes out up to the stop sequence that is complete first. Pure."""

from __future__ import annotations

from collections.abc import Sequence


class StopSequences:
    """Ends a text before whichever of the ``sequences`` is complete first, as models stop.

    How the text is cut into pieces makes no difference. What could be the beginning of a sequence
    is held back. ``found`` says that one has come.
    """

    def __init__(self, sequences: Sequence[str]) -> None:
        self.found: bool = False
        self._sequences = tuple(sequences)
        self._held = ""

    def add(self, piece: str) -> str:
        """The text that can go out now."""
        if not self._sequences:
            return piece
        if self.found:
            return ""
        text = self._held + piece
        places = {sequence: text.find(sequence) for sequence in self._sequences}
        ends = [(place + len(each), place) for each, place in places.items() if place >= 0]
        if ends:
            self.found, self._held = True, ""
            return text[: min(ends)[1]]
        held = max(_overlap(text, sequence) for sequence in self._sequences)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]

    def end(self) -> str:
        """The text that was held back, as nothing more comes."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, sequence: str) -> int:
    """How many characters at the end of ``text`` are a beginning of ``sequence``."""
    most = min(len(text), len(sequence) - 1)
    return next((size for size in range(most, 0, -1) if text.endswith(sequence[:size])), 0)
