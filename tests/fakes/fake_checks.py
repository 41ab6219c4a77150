"""Checks for every test of the matrix."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from fake_chatui import FakeChatUi
from fake_store import VERSIONS
from h2o_client import H2oSession

ALL = tuple(VERSIONS)
PNG = (
    b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\0\0\0\0:~\x9bU"
    b"\0\0\0\nIDATx\x9cc`\0\0\0\x02\0\x01H\xaf\xa4q\0\0\0\0IEND\xaeB`\x82"
)
"""An image of one pixel: v0.7 and v0.8 take nothing but images."""

MESSAGE = re.compile(r"(/chat)?/conversation/[^/]+")

# One version of each era, for claims that do not differ within it.
SIX = ("0.4", "0.7", "0.9.1", "0.9.4", "0.10.0", "head")

every_version = pytest.mark.parametrize("version", ALL)
every_era = pytest.mark.parametrize("version", SIX)


def of(first: tuple[int, ...] = (), before: tuple[int, ...] = (99,)) -> tuple[str, ...]:
    """The versions from ``first`` on that are older than ``before``."""
    return tuple(name for name, each in VERSIONS.items() if each.within(first, before))


def versions(first: tuple[int, ...] = (), before: tuple[int, ...] = (99,)) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("version", of(first, before))


def spoken(version: str) -> str:
    """The versions that `H2oSession.server` returns for this one."""
    number = VERSIONS[version].number
    return next(words for before, words in _SPOKEN if number < before)


_SPOKEN = (
    ((0, 7), "chat-ui v0.3 to v0.6"),
    ((0, 8), "chat-ui v0.7"),
    ((0, 9, 2), "chat-ui v0.8 to v0.9.1"),
    ((0, 9, 6), "chat-ui v0.9.2 to v0.9.5"),
    ((0, 11), "chat-ui v0.9.6 to v0.10.0"),
    ((99,), "chat-ui since July 2026"),
)


def stops(version: str) -> bool:
    """Whether stops work."""
    return VERSIONS[version].stops


@contextmanager
def talking(
    version: str, *, client: dict[str, Any] | None = None, **server: Any
) -> Iterator[tuple[FakeChatUi, H2oSession]]:
    """A server, and a client that must leave it clean."""
    with FakeChatUi(version, **server) as fake:
        with H2oSession(fake.url, **(client or {})) as session:
            yield fake, session
        check(fake)


def check(fake: FakeChatUi) -> None:
    """Check that nothing is left, shared, stopped late, sent twice, or sent in a wrong order."""
    left = [each.id for each in fake.conversations.values() if each.title != "kept"]
    assert not left, f"left there: {left}; {fake!r}"
    assert not fake.shared, f"shared: {fake.shared}"
    assert not fake.violations, f"{fake.violations}; {fake!r}"
    assert not fake.late_stops, f"stopped too late: {fake.late_stops}"
    sent = fake.count("POST", MESSAGE)
    assert sent == len(fake.prompts) + fake.refused_messages, f"{sent} messages sent; {fake!r}"
