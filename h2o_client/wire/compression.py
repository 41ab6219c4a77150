"""A compressed body in, what it holds out, as it comes.

Nothing compressed is asked for. Some gateways compress all the same, and a chat-ui of 2023 passes
on "gzip" over plain text: the first bytes tell which it is.
"""

from __future__ import annotations

import zlib

_GZIP = b"\x1f\x8b"
_MOST = 1 << 20  # bytes at once, however much a few of the body stand for


class CompressionError(ValueError):
    """The body is not what its first bytes say."""


class Decompressor:
    """Undoes gzip and deflate; what is not compressed is passed as it is."""

    def __init__(self) -> None:
        self._first = b""
        self._inflate: zlib._Decompress | None = None
        self._is_plain = False

    @property
    def is_pending(self) -> bool:
        """Whether `feed` with nothing gives more."""
        return self._inflate is not None and bool(self._inflate.unconsumed_tail)

    def feed(self, data: bytes) -> bytes:
        """What ``data`` adds, and what was left of the bytes before. Raises `CompressionError`."""
        if self._is_plain:
            return data
        if self._inflate is None:
            self._first += data
            if len(self._first) < len(_GZIP):
                return b""
            data = self._begun()
            if self._inflate is None:
                return data
        else:
            data = self._inflate.unconsumed_tail + data
        try:
            return self._inflate.decompress(data, _MOST)
        except zlib.error as exc:
            raise CompressionError(str(exc)) from exc

    def end(self) -> bytes:
        """What is left of a body that was too short to tell."""
        rest, self._first = self._first, b""
        return rest

    def _begun(self) -> bytes:
        first, self._first = self._first, b""
        is_zlib = first[0] == 0x78 and int.from_bytes(first[:2], "big") % 31 == 0
        if first.startswith(_GZIP) or is_zlib:
            self._inflate = zlib.decompressobj(zlib.MAX_WBITS | 32)  # either header
        else:
            self._is_plain = True
        return first


def decompressor(content_encoding: str) -> Decompressor | None:
    """For a body with that Content-Encoding; None where it says nothing of gzip or deflate."""
    named = {each.strip().lower() for each in content_encoding.split(",")}
    return Decompressor() if named & {"gzip", "x-gzip", "deflate"} else None
