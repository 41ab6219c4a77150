"""Sanitize text that a server wrote, for a message, a title or a line of a log. Pure."""

from __future__ import annotations

import re

# The tab, and every character that some programs treat as a line end.
_BLANKS = re.compile("[\t-\r\x1c-\x1e\x85\u2028\u2029]+")
# Characters that control a terminal or the direction of text, and half surrogate pairs.
_CONTROLS = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


_HALF_PAIR = re.compile("[\ud800-\udfff]")


def whole_characters(text: str) -> str:
    """Replace each half of a surrogate pair by U+FFFD, because files and terminals refuse it."""
    return text if text.isascii() else _HALF_PAIR.sub("\ufffd", text)


def printable(text: str, *, most: int | None = None) -> str:
    """Return ``text`` as one line that is safe in any terminal, file or log.

    Line ends become spaces; control characters, bidi marks and half surrogate pairs become U+FFFD.
    A text of more than ``most`` characters is shortened at its end.
    """
    if most is not None and len(text) > most:
        text = text[: most - 1] + "…"
    return _CONTROLS.sub("\ufffd", _BLANKS.sub(" ", text.rstrip("\r\n")))
