"""Transports that are closed at the end of the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from h2o_client.config import SessionConfig
from h2o_client.transport.transport import Transport


@pytest.fixture
def to() -> Iterator[Callable[..., Transport]]:
    """Create transports, and close them at the end of the test."""
    made: list[Transport] = []

    def make(url: str, **settings: object) -> Transport:
        made.append(Transport(SessionConfig(url, **{"max_retries": 0, **settings})))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for transport in made:
        transport.close()
