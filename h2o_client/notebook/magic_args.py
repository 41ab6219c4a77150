"""Parse the line after ``%h2o``: options, then the prompt."""

from __future__ import annotations

import getopt
import json
import re
from dataclasses import dataclass, field
from keyword import iskeyword
from typing import cast

from h2o_client.errors import ConfigurationError
from h2o_client.options import SAMPLING, Options, suggested

_WORDS = re.compile(r"""(?:"[^"]*"|'[^']*'|\S)+""")
_QUOTED = re.compile(r""""([^"]*)"|'([^']*)'""")
_TAKING = ("url", "model", "system", "into")
_ALONE = ("keep", "new")
_HELP = (
    "--url URL, --model NAME, --system TEXT, -p NAME=VALUE, --into VARIABLE, --keep, --new; then "
    "the prompt"
)


@dataclass(frozen=True)
class MagicCall:
    """The options and the prompt of one ``%h2o`` or ``%%h2o``. None: the option was not given."""

    prompt: str | None
    url: str | None = None
    model: str | None = None
    system: str | None = None
    into: str | None = None
    keep: bool = False
    new: bool = False
    options: Options = field(default_factory=lambda: Options())

    @classmethod
    def parse(cls, line: str, cell: str | None) -> MagicCall:
        """Parse ``line`` and, for ``%%h2o``, ``cell``. Raises `ConfigurationError`."""
        found, begin = _read(line)
        prompt = line[begin:].strip()
        if cell is not None:
            prompt = "\n".join(each for each in (prompt, cell.strip("\n")) if each)
        values = {name: value for name, value in found if name in _TAKING}
        into = values.get("into")
        if into is not None and (not into.isidentifier() or iskeyword(into)):
            raise ConfigurationError(
                f"Invalid variable name --into {into}", hint="Use a valid Python name."
            )
        names = {name for name, _ in found}
        return cls(
            prompt=prompt if prompt or cell is not None else None,
            url=values.get("url"),
            model=values.get("model"),
            system=values.get("system"),
            into=into,
            keep="keep" in names,
            new="new" in names,
            options=_parameters([value for name, value in found if name == "p"]),
        )


def _read(line: str) -> tuple[list[tuple[str, str]], int]:
    """Return the options, and the place where the prompt begins."""
    words = list(_WORDS.finditer(line))
    try:
        found, rest = getopt.getopt(
            [_QUOTED.sub(r"\1\2", each[0]) for each in words],
            "p:",
            [*(f"{name}=" for name in _TAKING), *_ALONE],
        )
    except getopt.GetoptError as exc:
        raise ConfigurationError(f"%h2o: {exc.msg}", hint=f"Options: {_HELP}.") from None
    begin = words[-len(rest)].start() if rest else len(line)
    return [(name.lstrip("-"), value) for name, value in found], begin


def _parameters(pairs: list[str]) -> Options:
    named: dict[str, object] = {}
    others: dict[str, object] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise ConfigurationError(
                f"Invalid parameter -p {pair}", hint="Use -p NAME=VALUE.", argument="parameters"
            )
        if name not in SAMPLING and (meant := suggested(name)):
            raise ConfigurationError(
                f"Unexpected parameter -p {name}=",
                hint=f"Did you mean -p {meant}=?",
                argument="parameters",
            )
        (named if name in SAMPLING else others)[name] = _value(value)
    return cast(Options, {**named, "parameters": others} if others else named)


def _value(text: str) -> object:
    """Parse a value as JSON, such as a number or a list; else return the text."""
    try:
        return json.loads(text)
    except ValueError:
        return text
