"""A session's configuration: the environment, the checks, and hidden secrets."""

from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest

from h2o_client import H2oSession
from h2o_client.config import DEFAULT_URL, SessionConfig
from h2o_client.errors import ConfigurationError
from h2o_client.timeouts import Timeouts


def test_the_url_and_the_model_default_to_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("H2O_CLIENT_URL", "http://from.env")
    monkeypatch.setenv("H2O_CLIENT_MODEL", "from/env")
    config = SessionConfig()
    assert (config.base_url, config.model) == ("http://from.env", "from/env")
    config = SessionConfig("http://own", model="own")
    assert (config.base_url, config.model) == ("http://own", "own")


def test_without_a_url_the_default_is_used_and_marked_as_default() -> None:
    config = SessionConfig()
    assert (config.address, config.has_address) == (DEFAULT_URL, False)
    config = SessionConfig(DEFAULT_URL)
    assert (config.address, config.has_address) == (DEFAULT_URL, True)


def test_an_empty_url_is_not_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="Invalid server address ''"):
        H2oSession("")
    monkeypatch.setenv("H2O_CLIENT_URL", "")
    assert not SessionConfig().has_address


@pytest.mark.parametrize(
    "arguments",
    [{"max_retries": -1}, {"max_retries": True}, {"max_connections": 0}, {"max_connections": 1.5}],
)
def test_invalid_counts_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(arguments))):
        SessionConfig(**arguments)


def test_a_number_sets_all_timeouts_except_the_total() -> None:
    assert SessionConfig(timeout=5).timeouts == Timeouts(connect=5, first_token=5, idle=5)


def test_a_configuration_is_frozen_hides_secrets_and_can_be_pickled() -> None:
    config = SessionConfig("http://host", cookies="hf-chat=s3cret", headers={"X-Key": "s3cret"})
    assert "s3cret" not in repr(config)
    with pytest.raises(FrozenInstanceError):
        config.model = "other"  # type: ignore[misc]
    copied = pickle.loads(pickle.dumps(replace(config, max_retries=0)))
    assert (copied.base_url, copied.headers, copied.max_retries) == (
        "http://host",
        {"X-Key": "s3cret"},
        0,
    )
