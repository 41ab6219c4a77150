r"""Decode the bytes of an answer, in any format, to events.

The first bytes decide the format, not the Content-Type, which several versions set wrongly: ``{``
starts JSON lines (v0.7 and later), ``data:``, another field or a comment starts server-sent events
(v0.3 to v0.6), ``[`` starts an answer that was not streamed. The events do not depend on how the
bytes are divided. Decoding does not raise: invalid bytes become a `Malformed` event, which is the
last one.
"""

from __future__ import annotations

import re

from msgspec.structs import replace

from h2o_client.printable import printable
from h2o_client.wire import json, tgi, updates
from h2o_client.wire.events import Event, Failure, Final, Malformed, Notice, Title, Token
from h2o_client.wire.lines import LineSplitter
from h2o_client.wire.sse import field

_BLANK = b" \t\r\n"
_IN_FRONT = _BLANK + b"\xef\xbb\xbf"  # blanks, and the bytes of a byte order mark
_SSE_BEGINS = re.compile(rb"(?:data|event|id|retry)?:")
_SSE_MAY_BEGIN = (b"data:", b"event:", b"id:", b"retry:")
_SURROGATE = re.compile("[\ud800-\udfff]")
_SHOWN: dict[type, str] = {Final: "text", Failure: "message", Title: "title"}
_LONGEST_LINE = 16 << 20
_EXCERPT = 200


class Decoder:
    """Decodes bytes to events.

    The reader sets ``text_bytes`` to the number of bytes of text received so far. This limits the
    length of a line: the terminal event repeats the whole answer in one line.
    """

    def __init__(self) -> None:
        self.text_bytes = 0
        self._start = b""
        self._format: Format | None = None

    def feed(self, data: bytes) -> list[Event]:
        """Return the events that ``data`` completes."""
        if self._format is None:
            # Drop blanks in front: a silent server may send blank lines for a long time.
            self._start = (self._start + data).lstrip(_IN_FRONT)
            self._format = _found_format(self._start)
            if self._format is None:
                return []
            data, self._start = self._start, b""
        events = self._format.feed(data)
        self._format.check_length(self.text_bytes, events)
        return events

    def end(self, *, whole: bool = True) -> list[Event]:
        """Return the events at the end of the body. The last line needs no newline.

        If the body is not the ``whole`` answer, an incomplete character at its end is dropped.
        """
        if self._format is None:
            return []
        return self._format.end(whole=whole)


class Format:
    """Decodes lines to events, and counts them. Each format has its own subclass."""

    carriage_returns = False

    def __init__(self) -> None:
        self._splitter = LineSplitter(carriage_returns=self.carriage_returns)
        self._line = 0
        self._half = ""  # a high surrogate whose other half is in the next token
        self._kept = 0  # bytes of complete lines that do not form an event yet
        self._over = False

    @property
    def pending(self) -> int:
        return 0 if self._over else self._splitter.pending + self._kept

    def check_length(self, text_bytes: int, events: list[Event]) -> None:
        """Limit the length of a line, depending on the text received so far."""
        longest = max(_LONGEST_LINE, 2 * text_bytes + (1 << 20))
        if self.pending > longest:
            events.append(self.malformed(b"", f"a line of over {longest} bytes"))

    def feed(self, data: bytes) -> list[Event]:
        events: list[Event] = []
        if self._over:
            return events
        lines = self._splitter.feed(data)
        if len(lines) > 2 and not self._half:
            tokens = self.read_lines(lines)
            if tokens is not None:
                self._line += len(lines)
                return tokens
        for line in lines:
            self._line += 1
            if line:
                self.read_line(line, events)
            else:
                self.read_blank(events)
            if self._over:
                break
        return events

    def end(self, *, whole: bool = True) -> list[Event]:
        events: list[Event] = []
        if not self._over:
            self._line += 1
            self.read_rest(self._splitter.rest(), events)
            if whole and self._half and not self._over:
                events.append(self._flushed())
            self._over = True
        return events

    def read_lines(self, lines: list[bytes]) -> list[Event] | None:
        """Decode many lines at once, if they have the usual format; else return None."""
        return None

    def read_line(self, line: bytes, events: list[Event]) -> None:
        raise AssertionError("every format reads lines")  # pragma: no cover

    def read_blank(self, events: list[Event]) -> None:
        """Read an empty line."""

    def read_rest(self, rest: bytes, events: list[Event]) -> None:
        """Read the bytes after the last newline: an event, or a part of one."""

    def malformed(self, excerpt: bytes, reason: str) -> Malformed:
        """Return the last event, and stop decoding."""
        self._over = True
        shown = excerpt[:_EXCERPT].decode("utf-8", "replace")
        self._splitter.clear()
        return Malformed(self._line, shown, reason)

    def give(self, event: Event, events: list[Event]) -> None:
        """Append ``event`` without halves of surrogate pairs, and with a printable title."""
        if type(event) is Token:
            text = event.text
            if self._half and event.special:
                events.append(self._flushed())
            if self._half or not text.isascii():
                event = self._joined(event)
        else:
            if self._half and isinstance(event, Final | Failure):
                events.append(self._flushed())
            shown = _SHOWN.get(type(event), "")
            words = getattr(event, shown) if shown else None
            if words and _SURROGATE.search(words):
                event = replace(event, **{shown: _paired(words)})
            if isinstance(event, Title):
                event = Title(printable(event.title))
        events.append(event)

    def _joined(self, token: Token) -> Token:
        # v0.8.4 splits surrogate pairs between tokens: "\ud83e", then "\uddea".
        text = self._half + token.text
        if not _SURROGATE.search(text):
            return token
        self._half = text[-1] if "\ud800" <= text[-1] <= "\udbff" else ""
        whole = text[: len(text) - len(self._half)]
        return Token(_paired(whole), token.special, token.id, token.logprob)

    def _flushed(self) -> Token:
        self._half = ""
        return Token("\ufffd")


class _ServerSentEvents(Format):
    """Decodes events of text-generation-inference. Comments and unknown fields are ignored."""

    carriage_returns = True

    def __init__(self) -> None:
        super().__init__()
        # The standard allows several data lines in one event. Lines that are not a document by
        # themselves are kept, and parsed together when the event ends.
        self._data = bytearray()

    def read_lines(self, lines: list[bytes]) -> list[Event] | None:
        documents = [line[5:] for line in lines if line.startswith(b"data:{")]
        if self._data or len(documents) + lines.count(b"") < len(lines):
            return None
        found: list[Event] | None = tgi.read_tokens(documents)  # type: ignore[assignment]
        return found

    def read_line(self, line: bytes, events: list[Event]) -> None:
        if line.startswith(b"data:{") and not self._data and self._read_data(line[5:], events):
            return  # true for nearly every line
        if not line.startswith(b"data"):
            return
        name, value = field(line)
        if name != b"data" or not value or value == b"[DONE]":
            return
        if self._data or not self._read_data(value, events):
            self._data += value + b"\n"
            self._kept = len(self._data)

    def read_blank(self, events: list[Event]) -> None:
        if self._data:
            data = self._taken()
            if not self._read_data(data, events):
                events.append(self.malformed(data, "not a JSON document"))

    def read_rest(self, rest: bytes, events: list[Event]) -> None:
        self.read_line(rest, events)
        if not rest:
            self.read_blank(events)
        elif self._data:
            self._read_data(self._taken(), events)  # an incomplete document was cut off

    def malformed(self, excerpt: bytes, reason: str) -> Malformed:
        self._data.clear()
        return super().malformed(excerpt, reason)

    def _taken(self) -> bytes:
        data = bytes(self._data[:-1])
        self._data.clear()
        self._kept = 0
        return data

    def _read_data(self, data: bytes, events: list[Event]) -> bool:
        try:
            found = tgi.read(data)
        except json.InvalidJson:
            return False
        for event in found:
            self.give(event, events)
        return True


class _JsonLines(Format):
    """Decodes updates of chat-ui. 4096 spaces follow finalAnswer, then later updates."""

    def read_lines(self, lines: list[bytes]) -> list[Event] | None:
        return updates.read_several(lines)

    def read_line(self, line: bytes, events: list[Event]) -> None:
        try:
            event = updates.read(line)
        except json.InvalidJson:
            if line.strip(_BLANK):
                events.append(self.malformed(line.strip(_BLANK), "not a JSON document"))
            return
        if isinstance(event, Notice):
            self._give_unknown(event, events)
        else:
            self.give(event, events)

    def read_rest(self, rest: bytes, events: list[Event]) -> None:
        try:
            json.read(rest)
        except json.InvalidJson:
            return  # a line that was cut, or blanks
        self.read_line(rest, events)

    def _give_unknown(self, notice: Notice, events: list[Event]) -> None:
        # An answer that was not streamed can also be one object.
        if isinstance(notice.raw, dict) and "generated_text" in notice.raw:
            for event in tgi.read_whole(notice.raw):
                self.give(event, events)
        else:
            events.append(notice)


class _WholeDocument(Format):
    """Decodes an answer that was not streamed, of a model server that ignores ``stream``."""

    def feed(self, data: bytes) -> list[Event]:
        if not self._over:
            self._splitter.feed(data.replace(b"\n", b" "))
        return []

    def read_rest(self, rest: bytes, events: list[Event]) -> None:
        try:
            document = json.read(rest)
        except json.InvalidJson:
            return
        for event in tgi.read_whole(document):
            self.give(event, events)


class _Unreadable(Format):
    """Any other format, most often an HTML page."""

    def feed(self, data: bytes) -> list[Event]:
        if self._over:
            return []
        self._line = 1
        return [self.malformed(data, "neither server-sent events nor JSON lines")]


def _found_format(start: bytes) -> Format | None:
    if start.startswith(b"{"):
        return _JsonLines()
    if start.startswith(b"["):
        return _WholeDocument()
    if _SSE_BEGINS.match(start):
        return _ServerSentEvents()
    if any(name.startswith(start) for name in _SSE_MAY_BEGIN):
        return None
    return _Unreadable()


def _paired(text: str) -> str:
    # Through UTF-16, which joins two halves; a half without the other one becomes U+FFFD.
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
