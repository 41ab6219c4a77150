"""Cut a text, which arrives in pieces, before its first stop sequence. No I/O."""

from __future__ import annotations

from collections.abc import Sequence


class StopSequences:
    """Ends a text before the first complete stop sequence, as models do.

    The result does not depend on how the text is divided into pieces, because a possible beginning
    of a sequence is held back. ``found`` says whether a sequence was found.
    """

    def __init__(self, sequences: Sequence[str]) -> None:
        self.found: bool = False
        self._sequences = tuple(sequences)
        self._held = ""

    def add(self, piece: str) -> str:
        """Add a piece, and return the text that can now be passed on."""
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
        """End the text, and return the text that was held back."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, sequence: str) -> int:
    """How many characters at the end of ``text`` are a beginning of ``sequence``."""
    most = min(len(text), len(sequence) - 1)
    return next((size for size in range(most, 0, -1) if text.endswith(sequence[:size])), 0)
