"""The options that say how a prompt is to be answered, and what they make of it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any, cast

import click

from h2o_client import options as opts
from h2o_client.cli.cookies import saved
from h2o_client.cli.output import say
from h2o_client.options import Options
from h2o_client.session import H2oSession

_NEAR = 0.85  # max_tokens is none of max_new_tokens' misspellings


def _check_folder(context: click.Context, option: click.Parameter, path: str | None) -> str | None:
    if path is not None and not os.access(os.path.dirname(path) or ".", os.W_OK):
        raise click.BadParameter(f"{path} cannot be written: is its folder there?")
    return path


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
    click.option(
        "--save-cookies",
        "cookies_into",
        metavar="FILE",
        type=click.Path(dir_okay=False, writable=True),
        callback=_check_folder,
        help="Write the session's cookies there, for --cookie FILE.",
    ),
)


def asks(function: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a command these options: ``model``, ``system`` ... ``cookies_into``."""
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
        _check_spelling(name)
        (named if name in opts.SAMPLING else others)[name] = _value(value)
    if others:
        named["parameters"] = others
    if files:
        named["files"] = list(files)
    return cast(Options, named)


def _check_spelling(name: str) -> None:
    """Names that are not known are the server's, unless they look like one that is."""
    if name in opts.SAMPLING:
        return
    usual = name.lower().replace("-", "_")
    if near := get_close_matches(usual, opts.SAMPLING, n=1, cutoff=_NEAR):
        raise click.UsageError(f"-p {name}: did you mean {near[0]}?")


def _value(text: str) -> object:
    """A number, true, false, a list: what JSON knows; else the text itself."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def save_cookies(client: H2oSession, path: str | None) -> None:
    """Writes them, if that is wanted and there are some."""
    if path is not None and saved(client)[0]:
        client.save_cookies(path)


def tell_kept(
    client: H2oSession, conversation_id: str | None, path: str | None, *, local: bool
) -> None:
    """Says how a conversation that was kept is found again, unless its user has the cookie."""
    is_known = path or saved(client)[1]
    if conversation_id and not is_known and not local:
        say(
            f"(The conversation {conversation_id} is kept, but only its session's cookie opens it: "
            "with --save-cookies FILE that is kept as well, for --cookie FILE.)"
        )
