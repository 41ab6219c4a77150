"""What is said behind ``%h2o``: options, and then the prompt as it stands."""

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
class Order:
    """One ``%h2o`` or ``%%h2o``. None: nothing was said about it."""

    prompt: str | None
    url: str | None = None
    model: str | None = None
    system: str | None = None
    into: str | None = None
    keep: bool = False
    new: bool = False
    options: Options = field(default_factory=lambda: Options())

    @classmethod
    def of(cls, line: str, cell: str | None) -> Order:
        """What ``line`` and, of ``%%h2o``, ``cell`` say. Raises `ConfigurationError`."""
        found, begin = _read(line)
        behind = line[begin:].strip()
        if cell is not None:
            behind = "\n".join(each for each in (behind, cell.strip("\n")) if each)
        said = {name: value for name, value in found if name in _TAKING}
        into = said.get("into")
        if into is not None and (not into.isidentifier() or iskeyword(into)):
            raise ConfigurationError(
                f"Invalid variable name --into {into}", hint="Use a name that Python takes."
            )
        names = {name for name, _ in found}
        return cls(
            prompt=behind if behind or cell is not None else None,
            url=said.get("url"),
            model=said.get("model"),
            system=said.get("system"),
            into=into,
            keep="keep" in names,
            new="new" in names,
            options=_parameters([value for name, value in found if name == "p"]),
        )


def _read(line: str) -> tuple[list[tuple[str, str]], int]:
    """The options, and where the prompt begins."""
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


def _parameters(given: list[str]) -> Options:
    named: dict[str, object] = {}
    others: dict[str, object] = {}
    for pair in given:
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
    """A number, true, false, a list: what JSON knows; else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text
