"""Write the page on the command, docs/command.rst, from the command's own help.

Run ``python docs/command.py`` after each change of the help. A test fails if the page is stale.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import fields
from pathlib import Path

import click

from h2o_client.cli.command import NAME, command
from h2o_client.cli.shared_options import Connection

CHAPTER = Path(__file__).with_name("command.rst")
_TITLE = "The command h2o-chat"
_OF_SERVERS = {field.name for field in fields(Connection)}
_OPENING = """\
``docs/command.py`` writes this page from the command's own help.

The extra ``cli`` installs the command: run ``pip install '.[cli]'`` in the clone. If the first word
is the name of a sub-command, the sub-command is run, also if options stand before it: ``h2o-chat
--url URL doctor`` is ``h2o-chat doctor --url URL``. Everything else is a prompt. Words after
``ask`` or ``--`` are always a prompt: ``h2o-chat ask models``.
"""


def chapter() -> str:
    """Return the page as reStructuredText."""
    parts = [f"{_TITLE}\n{'=' * len(_TITLE)}", _OPENING.rstrip()]
    context = click.Context(command, info_name=NAME)
    ask = command.get_command(context, "ask")
    assert ask is not None
    parts += _section(ask, NAME)
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        if found is not None and found is not ask:
            parts += _section(found, f"{NAME} {name}")
    options = [each for each in ask.params if each.name in _OF_SERVERS]
    title = "Options for the server"
    parts += [f"{title}\n{'-' * len(title)}"]
    parts += _options(context, [each for each in options if isinstance(each, click.Option)])
    return "\n\n".join(parts) + "\n"


def _section(found: click.Command, name: str) -> Iterator[str]:
    context = click.Context(found, info_name=name)
    yield f"{name}\n{'-' * len(name)}"
    usage = " ".join([name, *found.collect_usage_pieces(context)])
    yield f"::\n\n    {usage}"
    yield from _paragraphs(found.help or "")
    options = [each for each in found.get_params(context) if isinstance(each, click.Option)]
    names = {str(each.name) for each in options}
    if names >= _OF_SERVERS:
        yield from _options(context, [each for each in options if each.name not in _OF_SERVERS])
        yield "And the `options for the server`_."
    else:
        yield from _options(context, options)
    yield from _paragraphs(found.epilog or "")
    if isinstance(found, click.Group):
        for each in found.list_commands(context):
            inner = found.get_command(context, each)
            assert inner is not None
            yield from _section(inner, f"{name} {each}")


def _options(context: click.Context, options: Iterable[click.Option]) -> Iterator[str]:
    shown = (each.get_help_record(context) for each in options if "--help" not in each.opts)
    if rows := [f"``{row[0]}``\n    {_escaped(row[1])}" for row in shown if row is not None]:
        yield "\n".join(rows)


def _paragraphs(text: str) -> Iterator[str]:
    """Yield the paragraphs of a help text; those marked with \\b keep their lines."""
    for paragraph in filter(str.strip, re.split(r"\n\s*\n", text)):
        lines = [line.strip(" ") for line in paragraph.strip(" \n").splitlines()]
        if lines[0] != "\b":
            yield _escaped("\n".join(lines))
        elif lines[1] == "Examples:":
            yield "Examples::\n\n" + "\n".join(f"    {line}" for line in lines[2:])
        else:
            yield _escaped("\n".join(lines[1:]))


def _escaped(text: str) -> str:
    return re.sub(r"([*|\\`])", r"\\\1", text)


if __name__ == "__main__":
    CHAPTER.write_text(chapter(), encoding="utf-8")
