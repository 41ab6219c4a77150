from __future__ import annotations

import inspect
import math
from typing import TYPE_CHECKING, Any

import pytest

from h2o_client.errors import ConfigurationError
from h2o_client.options import SAMPLING, Options, check_options, sampling, takes_options

if TYPE_CHECKING:
    from typing_extensions import Unpack


@takes_options
def ask(prompt: str, *, model: str | None = None, **options: Unpack[Options]) -> Options:
    """Asks."""
    return options


def test_a_functions_signature_shows_the_options() -> None:
    parameters = inspect.signature(ask).parameters
    assert list(parameters) == ["prompt", "model", *Options.__annotations__]
    for name in Options.__annotations__:
        assert parameters[name].kind is inspect.Parameter.KEYWORD_ONLY
        assert parameters[name].default is None
    assert inspect.signature(ask).return_annotation == "Options"
    assert ask("x", temperature=0.5) == {"temperature": 0.5}
    assert (ask.__name__, ask.__doc__) == ("ask", "Asks.")


def test_the_sampling_options_are_the_first_ten() -> None:
    assert list(SAMPLING) == list(Options.__annotations__)[:10]
    assert not {"parameters", "prompt_format", "timeout"} & set(SAMPLING)


def test_an_unknown_option_is_a_type_error_that_lists_the_options() -> None:
    check_options({})
    check_options({"temperature": 0.5, "timeout": 5, "files": [], "web_search": False})
    wrong: Any = {"temprature": 0.5}
    with pytest.raises(
        TypeError, match=r"Unexpected option 'temprature'\. Did you mean 'temperature'\?"
    ):
        check_options(wrong)


SERVER = {"temperature": 0.3, "top_p": 0.9}
OTHERWISE = {"temperature": 0.4, "truncate": 2048}


@pytest.mark.parametrize(
    ("options", "parameters"),
    [
        ({}, {"temperature": 0.3, "top_p": 0.9, "truncate": 2048}),
        ({"temperature": 0.7}, {"temperature": 0.7, "top_p": 0.9, "truncate": 2048}),
        ({"temperature": None}, {"temperature": 0.3, "top_p": 0.9, "truncate": 2048}),
        ({"temperature": 0.0}, {"temperature": 0.0, "top_p": 0.9, "truncate": 2048}),
        (
            {"do_sample": False, "stop": []},
            {"temperature": 0.3, "top_p": 0.9, "truncate": 2048, "do_sample": False, "stop": []},
        ),
        (
            {"parameters": {"top_p": 0.5, "watermark": True}},
            {"temperature": 0.3, "top_p": 0.5, "truncate": 2048, "watermark": True},
        ),
        (
            {"parameters": {"seed": 1}, "seed": 2},
            {"temperature": 0.3, "top_p": 0.9, "truncate": 2048, "seed": 2},
        ),
        (
            {"parameters": None, "timeout": 5, "prompt_format": None},
            {"temperature": 0.3, "top_p": 0.9, "truncate": 2048},
        ),
    ],
)
def test_the_callers_parameters_precede_the_servers_and_the_defaults(
    options: Options, parameters: dict[str, object]
) -> None:
    assert sampling(options, server=SERVER, otherwise=OTHERWISE) == parameters


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": math.nan},
        {"top_p": math.inf},
        {"parameters": {"x": {"deep": [-math.inf]}}},
        {"parameters": ["x"]},
        {"stop": [object()]},
        {"stop": ["\ud83e"]},
    ],
)
def test_a_parameter_that_cannot_be_sent_is_refused(options: Any) -> None:
    with pytest.raises(ConfigurationError, match="parameter"):
        sampling(options, server={}, otherwise={})


def test_empty_parameters_add_nothing() -> None:
    assert sampling({}, server={}, otherwise={}) == {}
    assert OTHERWISE == {"temperature": 0.4, "truncate": 2048}
