"""Decompresses a body while it arrives.

The client does not request compression. Some gateways compress anyway, and a chat-ui of 2023 passes
on the header "gzip" with a body of plain text. So the first bytes of the body decide.
"""

from __future__ import annotations

import zlib

_GZIP = b"\x1f\x8b"
_MOST = 1 << 20  # bytes returned at once: a few compressed bytes may expand to gigabytes


class CompressionError(ValueError):
    """The body starts like a compressed one, but cannot be decompressed."""


class Decompressor:
    """Decompresses gzip and deflate, and returns an uncompressed body unchanged.

    A gzip body may have several members. What follows the last one is ignored.
    """

    def __init__(self) -> None:
        self._first = b""  # what is too short to detect its compression
        self._inflate: zlib._Decompress | None = None  # None before a body or a member
        self._is_plain = False
        self._has_member = False  # whether a gzip member has ended

    @property
    def is_pending(self) -> bool:
        """Whether ``feed(b"")`` would return more bytes."""
        if self._inflate is None:
            return self._has_member and self._first.startswith(_GZIP)
        return bool(self._inflate.unconsumed_tail)

    def feed(self, data: bytes) -> bytes:
        """Decompress ``data`` and the rest of earlier calls. Raises `CompressionError`."""
        if self._is_plain:
            return data
        if self._inflate is None:
            self._first += data
            if len(self._first) < len(_GZIP):
                return b""
            data = self._detect()
            if self._inflate is None:
                return data
        else:
            data = self._inflate.unconsumed_tail + data
        try:
            found = self._inflate.decompress(data, _MOST)
        except zlib.error as exc:
            raise CompressionError(str(exc)) from exc
        if self._inflate.eof:
            self._first, self._inflate, self._has_member = self._inflate.unused_data, None, True
        return found

    def end(self) -> bytes:
        """The bytes of a body that was too short to detect its compression."""
        rest, self._first = self._first, b""
        return b"" if self._has_member else rest

    def _detect(self) -> bytes:
        first, self._first = self._first, b""
        is_zlib = first[0] == 0x78 and int.from_bytes(first[:2], "big") % 31 == 0
        if first.startswith(_GZIP) or (is_zlib and not self._has_member):
            self._inflate = zlib.decompressobj(zlib.MAX_WBITS | 32)  # either header
        elif self._has_member:
            return b""
        else:
            self._is_plain = True
        return first


def decompressor(content_encoding: str) -> Decompressor | None:
    """Return a decompressor for that Content-Encoding; None unless it names gzip or deflate."""
    named = {each.strip().lower() for each in content_encoding.split(",")}
    return Decompressor() if named & {"gzip", "x-gzip", "deflate"} else None
