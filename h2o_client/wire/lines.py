r"""Splits bytes into lines while they arrive, at newline bytes only.

The bytes may be fed in pieces of any size. Complete lines are returned at once, without their
ends. Other characters at which `str.splitlines` splits (U+2028, U+0085, ...) do not end a line.
"""

from __future__ import annotations


class LineSplitter:
    r"""Splits at ``\n``, with ``carriage_returns`` also at ``\r\n`` and ``\r``, as in SSE."""

    def __init__(self, *, carriage_returns: bool = False) -> None:
        self._carriage_returns = carriage_returns
        # It grows in place, so that the time for a long line in small pieces is linear.
        self._begun = bytearray()
        self._after_return = False

    @property
    def pending(self) -> int:
        """The size in bytes of the unfinished line."""
        return len(self._begun)

    def feed(self, data: bytes) -> list[bytes]:
        """Add ``data``, and return the lines that it completes."""
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
        """Remove and return the bytes after the last newline."""
        rest = bytes(self._begun)
        self._begun.clear()
        return rest

    def clear(self) -> None:
        """Forget the unfinished line."""
        self._begun.clear()

    def _normalized(self, data: bytes) -> bytes:
        # A line that ended with \r has already been returned. A \n directly after it belongs to it.
        if self._after_return and data.startswith(b"\n"):
            data = data[1:]
            self._after_return = False
        if data:
            self._after_return = data.endswith(b"\r")
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
