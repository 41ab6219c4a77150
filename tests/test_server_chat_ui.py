from __future__ import annotations

import pytest

from h2o_client.errors import ConfigurationError
from h2o_client.server import serve
from h2o_client.server.chat_ui import DEFAULT, generation_of


@pytest.mark.parametrize(
    ("version", "generation"),
    [
        (DEFAULT, "A"),
        ("0.3", "A"),
        ("0.3.0", "A"),
        ("0.6", "A"),
        ("0.6.9", "A"),
        ("0.9.6", "E"),
        ("0.9.9", "E"),
        ("0.10", "E"),
        ("0.10.0", "E"),
        ("latest", "F"),
    ],
)
def test_a_version_belongs_to_a_generation(version: str, generation: str) -> None:
    assert generation_of(version) == generation


@pytest.mark.parametrize(
    "version",
    ["", "0", "0.2", "0.7", "0.8.4", "0.9", "0.9.5", "0.10.1", "0.11", "v0.4", "A", "Latest"],
)
def test_a_version_that_cannot_be_is_a_configuration_error(version: str) -> None:
    with pytest.raises(ConfigurationError, match=r"0\.3 to 0\.6, 0\.9\.6 to 0\.10\.0 or latest"):
        generation_of(version)


def test_only_the_earlier_ones_demand_terms() -> None:
    assert generation_of("0.4", terms=True) == "A"
    for later in ("0.10", "latest"):
        with pytest.raises(ConfigurationError, match="consent to terms"):
            generation_of(later, terms=True)


def test_no_server_starts_as_what_cannot_be() -> None:
    with pytest.raises(ConfigurationError, match=r"not '0\.8'"):
        serve("Hello", chat_ui="0.8")
    with pytest.raises(ConfigurationError, match="consent to terms"):
        serve("Hello", chat_ui="0.10", terms=True)
