r"""Lines out of bytes as they arrive, split on newline bytes and nothing else.

Feed bytes in any cut; complete lines come back at once, without their ends. Characters that
`str.splitlines` would split on (U+2028, U+0085, ...) stay inside their line.
"""

from __future__ import annotations


class LineSplitter:
    r"""Splits on ``\n``; with ``carriage_returns`` also on ``\r\n`` and ``\r``, as SSE does."""

    def __init__(self, *, carriage_returns: bool = False) -> None:
        self._carriage_returns = carriage_returns
        # It grows in place, so that reading a long line in small pieces stays linear.
        self._begun = bytearray()
        self._after_return = False

    @property
    def pending(self) -> int:
        """The size in bytes of the line that has begun and not ended."""
        return len(self._begun)

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that ``data`` completes."""
        if self._carriage_returns and (self._after_return or b"\r" in data):
            data = self._normalized(data)
        lines = data.split(b"\n")
        rest = lines.pop()
        if lines and self._begun:
            self._begun += lines[0]
            lines[0] = self.rest()
        self._begun += rest
        return lines

    def rest(self) -> bytes:
        """What was fed after the last newline; it is given once."""
        rest = bytes(self._begun)
        self._begun.clear()
        return rest

    def clear(self) -> None:
        """Forgets the line that has begun."""
        self._begun.clear()

    def _normalized(self, data: bytes) -> bytes:
        # A line that ended in \r was given at once: a \n that follows belongs to it.
        if self._after_return and data.startswith(b"\n"):
            data = data[1:]
            self._after_return = False
        if data:
            self._after_return = data.endswith(b"\r")
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
