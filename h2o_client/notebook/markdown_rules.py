"""Changed rules of the Markdown parser, so that it drops no text and takes little time.

Link definitions and surplus cells of table rows are shown. A text that is nested too deeply, or
takes too many steps, raises `Unfit`.
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
    """The text cannot be rendered completely, or only slowly."""


def set_limits(parser: MarkdownIt) -> None:
    """Let the ``parser`` raise `Unfit`. Its ``maxNesting`` must be `DEEPEST`."""
    parser.core.ruler.after("block", "depth", _check_depth)
    skip = parser.inline.skipToken

    def counted(state: StateInline) -> None:
        # Brackets without links are parsed repeatedly, in quadratic time.
        spend(state.env, 1)
        skip(state)

    parser.inline.skipToken = counted  # type: ignore[method-assign]


def spend(env: MutableMapping[str, Any], steps: int) -> None:
    """Count ``steps``. Raises `Unfit` if there are too many."""
    env["steps"] = env.get("steps", 0) + steps
    if env["steps"] > _MOST_STEPS:
        raise Unfit("it takes too long")


def _check_depth(state: StateCore) -> None:
    # The parser drops text that is nested more deeply.
    if any(token.level >= DEEPEST - 1 for token in state.tokens):
        raise Unfit("it is nested too deeply")


def keep_leftovers(parser: MarkdownIt) -> None:
    """Let the ``parser`` show text that it would drop."""
    parser.block.ruler.at("reference", _reference)
    parser.block.ruler.at("table", _table, {"alt": ["paragraph", "reference"]})
    parser.add_render_rule("definition", _definition)


def _reference(state: StateBlock, first: int, last: int, silent: bool) -> bool:
    """Show a link definition as text, because normal text such as "[Ada]: Hello" can be one."""
    if not reference(state, first, last, silent):
        return False
    token = state.push("definition", "", 0)
    token.content = state.getLines(first, state.line, state.blkIndent, False).strip()
    return True


def _table(state: StateBlock, first: int, last: int, silent: bool) -> bool:
    """Parse a table, unless a row has more cells than the header: they would be dropped."""
    before = len(state.tokens)
    if not table(state, first, last, silent):
        return False
    rows = [token for token in state.tokens[before:] if token.type == "tr_open"]
    if silent or all(_cells(state, row) <= _cells(state, rows[0]) for row in rows):
        return True
    # The next table may begin in this one, so these lines are parsed again.
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
