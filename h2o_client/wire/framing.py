"""The framing of HTTP/1.1 bodies, in both directions (RFC 9112, sections 6 and 7).

Pass the bytes of a connection to `Frame.feed`, in pieces of any size. It returns their payload at
once, even in the middle of a chunk. ``done`` says that the body has ended normally; ``excess``
holds the bytes after the body.
"""

from __future__ import annotations

import re
from typing import Protocol

# The limits do not depend on how the bytes are divided.
_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]{0,16}(?:;[^\r\n]{0,4096})?\r?\n")
_SIZE_LINE_BEGUN = re.compile(rb"[0-9A-Fa-f]{0,15}[ \t]{0,16}(?:;[^\r\n]{0,4096})?\r?")
_LONGEST_TRAILER = 65536
_MOST_DIGITS = 15
_HEX = b"0123456789abcdefABCDEF"
_WORTH_A_TRY = 512  # bytes


class FramingError(ValueError):
    """The framing is invalid at ``excerpt``; ``payload`` is the payload in this feed before it."""

    def __init__(self, excerpt: bytes, payload: bytes = b"") -> None:
        super().__init__(f"not a chunk: {excerpt!r}")
        self.excerpt = excerpt
        self.payload = payload


class Frame(Protocol):
    """How a body is delimited."""

    done: bool
    excess: bytes

    def feed(self, data: bytes) -> bytes:
        """Return the payload in ``data``. Raises `FramingError`."""

    def close(self) -> bool:
        """Note the end of the connection. Return whether the body is complete."""


class Chunked:
    """``Transfer-Encoding: chunked``. Decodes many chunks at once."""

    def __init__(self) -> None:
        self.done: bool = False
        self.excess: bytes = b""
        self._held = b""  # the start of a size line, of a chunk's CRLF or of a trailer
        self._left = 0  # missing bytes of the current chunk
        self._ending = False  # whether only the CRLF of the current chunk is missing
        self._trailers = -1  # bytes of trailer seen after the last chunk

    def feed(self, data: bytes) -> bytes:
        if self._left > len(data):
            self._left -= len(data)
            return data
        if self._held:
            data = self._held + data
            self._held = b""
        payload: list[bytes] = []
        place = 0
        untried = True
        match = _SIZE_LINE.match
        if self._left:
            payload.append(data[: self._left])
            place = self._left
            self._left = 0
            self._ending = True
        while self._trailers < 0:
            if self._ending:
                end = self._end_of_chunk(data, place, payload)
                if end < 0:
                    break
                place = end
                self._ending = False
            if len(data) - place > _WORTH_A_TRY and untried:
                untried = False
                place += self._whole_chunks(data[place:], payload)
            size_line = match(data, place)
            if size_line is None:
                self._hold_size_line(data, place, payload)
                break
            start = size_line.end()
            stop = start + int(size_line[1], 16)
            if stop == start:
                self._trailers = 0
                place = start
                break
            if stop > len(data):
                payload.append(data[start:])
                self._left = stop - len(data)
                break
            payload.append(data[start:stop])
            # In the common case, the chunk's CRLF has also arrived, and no state is needed.
            if data[stop : stop + 2] == b"\r\n":
                place = stop + 2
            else:
                place = stop
                self._ending = True
        if self._trailers >= 0:
            self._read_trailers(data, place, payload)
        return b"".join(payload)

    def close(self) -> bool:
        return self.done

    def _whole_chunks(self, data: bytes, payload: list[bytes]) -> int:
        """Decode the complete chunks at the start of ``data``; return their length.

        This handles the usual chunks only, which have no CRLF in the payload and no extensions.
        Returns 0 if a chunk is different.
        """
        parts = data.split(b"\r\n")
        whole = (len(parts) - 1) // 2
        sizes, contents = parts[0 : 2 * whole : 2], parts[1 : 2 * whole : 2]
        digits = [len(size) for size in sizes]
        if not all(digits) or max(digits, default=0) > _MOST_DIGITS:
            return 0
        if b"".join(sizes).translate(None, _HEX):
            return 0
        lengths = [int(size, 16) for size in sizes]
        if lengths != [len(content) for content in contents]:
            return 0
        if 0 in lengths:  # the last chunk, which trailers may follow
            whole = lengths.index(0)
        payload += contents[:whole]
        return sum(lengths[:whole]) + sum(digits[:whole]) + 4 * whole

    def _end_of_chunk(self, data: bytes, place: int, payload: list[bytes]) -> int:
        for end in (b"\r\n", b"\n"):
            if data.startswith(end, place):
                return place + len(end)
        rest = data[place : place + 2]
        if b"\r\n".startswith(rest):
            self._held = data[place:]
            return -1
        raise FramingError(data[place : place + 40], b"".join(payload))

    def _hold_size_line(self, data: bytes, place: int, payload: list[bytes]) -> None:
        held = data[place:]
        if _SIZE_LINE_BEGUN.fullmatch(held) is None:
            raise FramingError(held[:40], b"".join(payload))
        self._held = held

    def _read_trailers(self, data: bytes, place: int, payload: list[bytes]) -> None:
        ended = self.done
        while not ended:
            end = data.find(b"\n", place)
            if end < 0:
                self._held = data[place:]
                break
            ended = data[place:end] in (b"", b"\r")
            self._trailers += end + 1 - place
            place = end + 1
        if self._trailers + len(self._held) > _LONGEST_TRAILER:
            raise FramingError(self._held[:40], b"".join(payload))
        if ended:
            self.done = True
            self.excess += data[place:]


class Length:
    """``Content-Length``."""

    def __init__(self, length: int) -> None:
        self.excess: bytes = b""
        self._left = length
        self.done: bool = length == 0

    def feed(self, data: bytes) -> bytes:
        payload = data[: self._left]
        self.excess += data[self._left :]
        self._left -= len(payload)
        self.done = self._left == 0
        return payload

    def close(self) -> bool:
        return self.done


class UntilClose:
    """Without either header: the end of the connection ends the body, even if it was cut off."""

    def __init__(self) -> None:
        self.done: bool = False
        self.excess: bytes = b""

    def feed(self, data: bytes) -> bytes:
        return data

    def close(self) -> bool:
        self.done = True
        return True


def write_chunk(payload: bytes) -> bytes:
    """Return one chunk with ``payload``, which must not be empty (that would be the last chunk)."""
    return b"%x\r\n%b\r\n" % (len(payload), payload)


LAST_CHUNK = b"0\r\n\r\n"
