"""`Options`: the keyword arguments of every method that sends a prompt."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import TypedDict, TypeVar

from h2o_client.arguments import document
from h2o_client.messages import PromptFormat
from h2o_client.timeouts import Timeouts

F = TypeVar("F", bound=Callable[..., object])


class Options(TypedDict, total=False):
    """The options of one prompt. By default, or with None, the session or the server decides.

    The first ten are sampling parameters as defined by text-generation-inference; ``parameters``
    holds any others. Only chat-ui v0.3 to v0.6 passes them to the model; later versions ignore
    them, and you get a warning once per session for each name. ``prompt_format`` is a function that
    joins several messages to one prompt. ``timeout`` is `Timeouts`, or seconds for all timeouts
    except ``total``. ``files`` are paths, or the bytes of a file (v0.7 and later). With
    ``web_search`` the server searches the web first (up to v0.9.5). If the server does not support
    ``files`` or ``web_search``, an `UnsupportedError` is raised.
    """

    temperature: float | None
    top_p: float | None
    top_k: int | None
    repetition_penalty: float | None
    max_new_tokens: int | None
    truncate: int | None
    do_sample: bool | None
    return_full_text: bool | None
    stop: list[str] | str | None
    seed: int | None
    parameters: Mapping[str, object] | None
    prompt_format: PromptFormat | None
    timeout: Timeouts | float | None
    files: Sequence[str | os.PathLike[str] | bytes] | None
    web_search: bool | None


_NOT_SAMPLING = ("parameters", "prompt_format", "timeout", "files", "web_search")
SAMPLING = tuple(name for name in Options.__annotations__ if name not in _NOT_SAMPLING)


def takes_options(function: F) -> F:
    """Show the options in the signature of a function that takes them as ``**options``."""
    signature = inspect.signature(function)
    own = [each for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD]
    options = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None)
        for name in Options.__annotations__
    ]
    function.__signature__ = signature.replace(parameters=[*own, *options])  # type: ignore[attr-defined]
    return function


def check_options(options: Options) -> None:
    """Raise TypeError for an unknown option, as Python does for an unexpected argument.

    Raises `ConfigurationError` for invalid values.
    """
    for name in options:
        if name not in Options.__annotations__:
            raise TypeError(f"Unexpected option {name!r}. {_advice(name)}")
    sampling(options, server={}, otherwise={})
    Timeouts.of(options.get("timeout"))


def sampling_given(options: Options) -> list[str]:
    """The names of the sampling parameters that the caller passed."""
    own = [name for name in SAMPLING if options.get(name) is not None]
    return own + list(options.get("parameters") or {})


def sampling(
    options: Options, *, server: Mapping[str, object], otherwise: Mapping[str, object]
) -> dict[str, object]:
    """The parameters to send: the caller's override ``server``, which overrides ``otherwise``."""
    own = {name: value for name, value in options.items() if name in SAMPLING}
    given = {name: value for name, value in own.items() if value is not None}
    if isinstance(given.get("stop"), str):
        given["stop"] = [given["stop"]]
    others = options.get("parameters")
    own_others = {} if others is None else document(others, "parameters", "parameters")
    for name, value in given.items():
        given[name] = document({name: value}, f"The parameter {name}", name)[name]
    return {**otherwise, **server, **own_others, **given}


_OTHER_NAMES = {
    "max_tokens": "max_new_tokens",
    "max_completion_tokens": "max_new_tokens",
    "max_output_tokens": "max_new_tokens",
    "max_length": "max_new_tokens",
    "num_predict": "max_new_tokens",
    "n_predict": "max_new_tokens",
    "stop_sequences": "stop",
    "stop_strings": "stop",
    "random_seed": "seed",
    "repeat_penalty": "repetition_penalty",
}
"""The names of the sampling parameters in other clients and servers."""


def suggested(name: str) -> str | None:
    """The sampling parameter that an unknown ``name`` probably means, or None."""
    usual = name.lower().replace("-", "_")
    if usual in SAMPLING:
        return usual
    near = get_close_matches(usual, SAMPLING, n=1, cutoff=_NEAR)
    return _OTHER_NAMES.get(usual) or (near[0] if near else None)


_NEAR = 0.85  # the least similarity of a misspelt name


def _advice(name: str) -> str:
    if name == "stream":
        return "stream() returns the tokens as they arrive, chat() the whole answer."
    near = get_close_matches(name, Options.__annotations__, n=1, cutoff=_NEAR)
    if meant := suggested(name) or "".join(near):
        return f"Did you mean {meant!r}?"
    return f"Available: {', '.join(Options.__annotations__)}."
