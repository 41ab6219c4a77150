"""Reads JSON documents. Raises `InvalidJson` for every kind of invalid document.

No other module handles msgspec's exceptions, which differ between its versions: bytes that are not
UTF-8 raise UnicodeDecodeError up to 0.22 and DecodeError from 0.23, and DecodeError is a ValueError
from 0.21.
"""

from __future__ import annotations

import codecs
import json
from typing import Generic, TypeVar

import msgspec

_Value = TypeVar("_Value")

_REFUSALS = (msgspec.MsgspecError, ValueError, RecursionError)
_UTF_8 = codecs.getincrementaldecoder("utf-8")
_PIECE = 65536  # bytes


class InvalidJson(ValueError):
    """Not UTF-8, not JSON, or nested too deeply."""


class UnexpectedShape(InvalidJson):
    """The document is JSON, but does not have the expected shape."""


class Shape(Generic[_Value]):
    """The type that documents are expected to have: a Struct, or a tagged union of several."""

    def __init__(self, type: object) -> None:
        self._decoder: msgspec.json.Decoder[_Value] = msgspec.json.Decoder(type)

    def read(self, document: bytes) -> _Value:
        """The value of one document. Raises `InvalidJson`.

        Refuses half a surrogate pair, even as an escape. The function `read` accepts it.
        """
        try:
            if not document.isascii():
                _check_utf_8(document)
            return self._decoder.decode(document)
        except _REFUSALS as exc:
            raise _refusal(exc) from exc

    def read_lines(self, documents: list[bytes]) -> list[_Value]:
        """The values of several documents, decoded together. Raises `InvalidJson`.

        A blank line has no value, and a line of several documents has several.
        """
        lines = b"\n".join(documents)
        try:
            if not lines.isascii():
                _check_utf_8(lines)
            return self._decoder.decode_lines(lines)
        except _REFUSALS as exc:
            raise _refusal(exc) from exc


def read(document: bytes | str) -> object:
    """The value of one document, of any shape. Raises `InvalidJson`.

    Accepts some invalid JSON that servers send: half a surrogate pair as an escape (chat-ui
    v0.8.4), NaN, a byte order mark.
    """
    try:
        text = document if isinstance(document, str) else document.decode("utf-8-sig")
        value: object = json.loads(text)
    except _REFUSALS as exc:
        raise _refusal(exc) from exc
    return value


def read_as(document: bytes, type: type[_Value]) -> _Value:
    """The value of one document, of that type. Raises `InvalidJson` or `UnexpectedShape`."""
    try:
        if not document.isascii():
            _check_utf_8(document)
        return msgspec.json.decode(document, type=type)
    except _REFUSALS as exc:
        raise _refusal(exc) from exc


def convert(value: object, type: type[_Value]) -> _Value:
    """Convert a value to ``type``, for example a text to a datetime. Raises `UnexpectedShape`."""
    try:
        return msgspec.convert(value, type)
    except _REFUSALS as exc:
        raise UnexpectedShape(str(exc)) from exc


def _refusal(exc: BaseException) -> InvalidJson:
    kind = UnexpectedShape if isinstance(exc, msgspec.ValidationError) else InvalidJson
    return kind(str(exc))


def _check_utf_8(document: bytes) -> None:
    # msgspec does not check the parts that it skips. The document is checked in pieces, so that a
    # large one is not in memory twice.
    decoder = _UTF_8()
    for start in range(0, len(document), _PIECE):
        decoder.decode(document[start : start + _PIECE])
    decoder.decode(b"", final=True)
