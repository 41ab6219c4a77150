from __future__ import annotations

import pytest

from h2o_client.server import EngineFailure
from h2o_client.server.sampling import Sampling, read_sampling


def test_missing_and_null_parameters_are_none() -> None:
    assert read_sampling({}) == Sampling()
    assert read_sampling({"temperature": None, "weird_key": 1, "details": True}) == Sampling()


def test_all_parameters_are_read() -> None:
    given = {
        "temperature": 1,
        "top_p": 0.9,
        "top_k": 50,
        "typical_p": 0.5,
        "repetition_penalty": 1.2,
        "max_new_tokens": 1024,
        "truncate": 2048,
        "seed": 7,
        "do_sample": True,
        "return_full_text": False,
        "stop": ["</s>", ""],
    }
    assert read_sampling(given) == Sampling(
        temperature=1.0,
        top_p=0.9,
        top_k=50,
        typical_p=0.5,
        repetition_penalty=1.2,
        max_new_tokens=1024,
        truncate=2048,
        seed=7,
        do_sample=True,
        return_full_text=False,
        stop=("</s>",),
    )


def test_a_single_stop_text_needs_no_list() -> None:
    assert read_sampling({"stop": "."}).stop == (".",)


def test_numbers_that_are_too_large_become_the_maximum() -> None:
    assert read_sampling({"max_new_tokens": 10**30}).max_new_tokens == 2**31 - 1


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("temperature", 0, "`temperature` must be strictly positive"),
        ("temperature", -1.0, "`temperature` must be strictly positive"),
        ("temperature", float("nan"), "`temperature` must be strictly positive"),
        ("temperature", float("inf"), "`temperature` must be strictly positive"),
        ("temperature", "hot", "`temperature` must be a number"),
        ("temperature", True, "`temperature` must be a number"),
        ("top_p", 1.1, "`top_p` must be > 0.0 and <= 1.0"),
        ("top_k", -1, "`top_k` must be positive"),
        ("top_k", 1.5, "`top_k` must be an integer"),
        ("repetition_penalty", 0.0, "`repetition_penalty` must be strictly positive"),
        ("max_new_tokens", 0, "`max_new_tokens` must be strictly positive"),
        ("max_new_tokens", True, "`max_new_tokens` must be an integer"),
        ("truncate", 0, "`truncate` must be strictly positive"),
        ("seed", -1, "`seed` must be positive"),
        ("do_sample", "yes", "`do_sample` must be true or false"),
        ("return_full_text", 1, "`return_full_text` must be true or false"),
        ("stop", [1], "`stop` must be a list of strings"),
        ("stop", 1, "`stop` must be a list of strings"),
    ],
)
def test_invalid_parameters_are_refused_with_the_text_of_tgi(
    name: str, value: object, said: str
) -> None:
    with pytest.raises(EngineFailure) as caught:
        read_sampling({name: value})
    assert caught.value.said == f"Input validation error: {said}"
    assert (caught.value.status, caught.value.error_type) == (422, "validation")


@pytest.mark.parametrize(
    ("given", "greedy"),
    [
        ({}, True),
        ({"repetition_penalty": 1.2}, True),
        ({"temperature": 0.4}, False),
        ({"top_k": 5}, False),
        ({"do_sample": True}, False),
        ({"do_sample": False, "temperature": 0.4}, True),
    ],
)
def test_do_sample_decides_and_without_it_any_sampling_parameter(
    given: dict[str, object], greedy: bool
) -> None:
    assert read_sampling(given).greedy is greedy
