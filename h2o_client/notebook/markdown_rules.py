"""Rules of the Markdown parser that differ from the standard's: a text is shown whole, and soon.

Definitions of links are shown, and so are the cells that a row has too many. A text that nests too
deeply or takes too many steps raises `Unfit`.
"""

from __future__ import annotations

import re
from collections.abc import MutableMapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from markdown_it.rules_block import reference, table

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.rules_block import StateBlock
    from markdown_it.rules_core import StateCore
    from markdown_it.rules_inline import StateInline
    from markdown_it.token import Token

DEEPEST = 130
_MOST_STEPS = 500_000  # less than a second

_STEPS_A_ROW = 50
_BAR = re.compile(r"(?<!\\)\|")


class Unfit(Exception):
    """The text is one that cannot be rendered whole, or not soon."""


def set_limits(parser: MarkdownIt) -> None:
    """Has the ``parser``, which goes as deep as `DEEPEST`, raise `Unfit`."""
    parser.core.ruler.after("block", "depth", _check_depth)
    skip = parser.inline.skipToken

    def counted(state: StateInline) -> None:
        # Brackets that make no links are looked at again and again, in quadratic time.
        spend(state.env, 1)
        skip(state)

    parser.inline.skipToken = counted  # type: ignore[method-assign]


def spend(env: MutableMapping[str, Any], steps: int) -> None:
    """Counts ``steps`` that may be many. Raises `Unfit` when they are too many."""
    env["steps"] = env.get("steps", 0) + steps
    if env["steps"] > _MOST_STEPS:
        raise Unfit("it takes too long")


def _check_depth(state: StateCore) -> None:
    # The parser drops what is nested deeper than it goes.
    if any(token.level >= DEEPEST - 1 for token in state.tokens):
        raise Unfit("it is nested too deeply")


def keep_leftovers(parser: MarkdownIt) -> None:
    """Has the ``parser`` show all of a text."""
    parser.block.ruler.at("reference", _reference)
    parser.block.ruler.at("table", _table, {"alt": ["paragraph", "reference"]})
    parser.add_render_rule("definition", _definition)


def _reference(state: StateBlock, first: int, last: int, silent: bool) -> bool:
    """A definition, which whoever uses no such link would not see: "[Ada]: Hello" is one."""
    if not reference(state, first, last, silent):
        return False
    token = state.push("definition", "", 0)
    token.content = state.getLines(first, state.line, state.blkIndent, False).strip()
    return True


def _table(state: StateBlock, first: int, last: int, silent: bool) -> bool:
    """A table, unless a row has more cells than the head: they would be dropped."""
    before = len(state.tokens)
    if not table(state, first, last, silent):
        return False
    rows = [token for token in state.tokens[before:] if token.type == "tr_open"]
    if silent or all(_cells(state, row) <= _cells(state, rows[0]) for row in rows):
        return True
    # The next table may begin in this one: these lines will be read again.
    spend(state.env, _STEPS_A_ROW * len(rows))
    del state.tokens[before:]
    state.line = first
    return False


def _cells(state: StateBlock, row: Token) -> int:
    assert row.map is not None
    line = state.getLines(row.map[0], row.map[0] + 1, state.blkIndent, False).strip()
    return len(_BAR.split(line.removeprefix("|").removesuffix("|")))


def _definition(
    renderer: object, tokens: Sequence[Token], place: int, options: object, env: object
) -> str:
    return f"<p>{escape(tokens[place].content)}</p>\n"
