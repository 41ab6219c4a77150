from __future__ import annotations

import pytest

from h2o_client.errors import ConfigurationError
from h2o_client.server import serve
from h2o_client.server.chat_ui import DEFAULT, OLDEST, dialect_of


@pytest.mark.parametrize(
    ("version", "dialect"),
    [
        (DEFAULT, "latest"),
        (OLDEST, "v0_3"),
        ("0.3", "v0_3"),
        ("0.3.0", "v0_3"),
        ("0.6", "v0_3"),
        ("0.6.9", "v0_3"),
        ("0.9.6", "v0_9_6"),
        ("0.9.9", "v0_9_6"),
        ("0.10", "v0_9_6"),
        ("0.10.0", "v0_9_6"),
        ("latest", "latest"),
    ],
)
def test_a_version_belongs_to_a_dialect(version: str, dialect: str) -> None:
    assert dialect_of(version) == dialect


@pytest.mark.parametrize(
    "version",
    ["", "0", "0.2", "0.7", "0.8.4", "0.9", "0.9.5", "0.10.1", "0.11", "v0.4", "A", "Latest"],
)
def test_an_invalid_version_is_a_configuration_error(version: str) -> None:
    with pytest.raises(ConfigurationError, match=r"0\.3 to 0\.6, 0\.9\.6 to 0\.10\.0, latest\."):
        dialect_of(version)


def test_only_earlier_versions_require_terms() -> None:
    assert dialect_of("0.4", terms=True) == "v0_3"
    for later in ("0.10", "latest"):
        with pytest.raises(ConfigurationError, match="has no terms"):
            dialect_of(later, terms=True)


def test_no_server_starts_with_an_invalid_version() -> None:
    with pytest.raises(ConfigurationError, match=r"version '0\.8'"):
        serve("Hello", chat_ui="0.8")
    with pytest.raises(ConfigurationError, match="has no terms"):
        serve("Hello", chat_ui="0.10", terms=True)
