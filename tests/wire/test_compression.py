"""Bodies that are compressed although nothing compressed was asked for."""

from __future__ import annotations

import gzip
import zlib

import pytest

from h2o_client.wire.compression import CompressionError, Decompressor, decompressor

TEXT = b'data:{"token":{"text":"Hello"}}\n\n' * 50


def compressed(kind: str) -> bytes:
    if kind == "gzip":
        return gzip.compress(TEXT)
    if kind == "gzip in members":
        return gzip.compress(TEXT[:100]) + gzip.compress(b"") + gzip.compress(TEXT[100:])
    if kind == "gzip with padding":
        return gzip.compress(TEXT) + bytes(5)
    return zlib.compress(TEXT) if kind == "deflate" else TEXT


def fed(pieces: list[bytes]) -> bytes:
    found = Decompressor()
    whole = b""
    for piece in pieces:
        whole += found.feed(piece)
        while found.is_pending:
            whole += found.feed(b"")
    return whole + found.end()


@pytest.mark.parametrize(
    "kind", ["gzip", "gzip in members", "gzip with padding", "deflate", "a lie"]
)
def test_the_division_of_a_body_makes_no_difference(kind: str) -> None:
    data = compressed(kind)
    assert fed([data]) == TEXT
    assert fed([data[place : place + 1] for place in range(len(data))]) == TEXT
    for place in range(len(data)):
        assert fed([data[:place], data[place:]]) == TEXT


@pytest.mark.parametrize("data", [b"", b"{", b"\x1f", b"xx"])
def test_a_body_that_is_too_short_to_examine_is_unchanged(data: bytes) -> None:
    assert fed([data]) == data


def test_a_highly_compressed_body_is_expanded_in_pieces() -> None:
    found = Decompressor()
    data = gzip.compress(b"x" * (10 << 20))
    pieces = [found.feed(data)]
    while found.is_pending:
        pieces.append(found.feed(b""))
    assert max(map(len, pieces)) <= 1 << 20
    assert sum(map(len, pieces)) == 10 << 20


def test_an_invalid_compressed_body_is_an_error() -> None:
    found = Decompressor()
    with pytest.raises(CompressionError):
        found.feed(gzip.compress(TEXT)[:10] + b"\xff" * 100)


@pytest.mark.parametrize(
    ("encoding", "is_one"),
    [("gzip", True), ("x-gzip", True), ("Deflate", True), ("br, gzip", True), ("identity", False),
     ("", False), ("br", False)],
)  # fmt: skip
def test_only_a_declared_compression_is_decoded(encoding: str, is_one: bool) -> None:
    assert (decompressor(encoding) is not None) is is_one
