"""The options that say how a prompt is to be answered, and what they make of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, cast

import click

from h2o_client import options as opts
from h2o_client.options import Options

_OPTIONS = (
    click.option("-m", "--model", metavar="NAME", help="The model, else the server's first."),
    click.option("-s", "--system", metavar="TEXT", help="How the model is to behave."),
    click.option(
        "-p",
        "--parameter",
        "parameters",
        multiple=True,
        metavar="NAME=VALUE",
        help="A sampling parameter, as temperature=0.7 or max_new_tokens=200.",
    ),
    click.option("--keep", is_flag=True, help="Leave the conversation on the server."),
)


def asks(function: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a command these options: ``model``, ``system``, ``parameters`` and ``keep``."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def options_of(parameters: tuple[str, ...], files: tuple[str, ...] = ()) -> Options:
    """The library's options for ``-p`` and ``--file``."""
    named: dict[str, object] = {}
    others: dict[str, object] = {}
    for pair in parameters:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise click.UsageError(f"-p {pair}: a parameter is given as NAME=VALUE.")
        (named if name in opts.SAMPLING else others)[name] = _value(value)
    if others:
        named["parameters"] = others
    if files:
        named["files"] = list(files)
    return cast(Options, named)


def _value(text: str) -> object:
    """A number, true, false, a list: what JSON knows; else the text itself."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
