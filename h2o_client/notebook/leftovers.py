"""What Markdown leaves out of a text, shown none the less: definitions of links, cells too many."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from markdown_it.rules_block import reference, table

from h2o_client.notebook.limits import spend

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.rules_block import StateBlock
    from markdown_it.token import Token

_STEPS_A_ROW = 50
_BAR = re.compile(r"(?<!\\)\|")


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
