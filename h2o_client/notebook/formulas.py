r"""Formulas in Markdown: between ``$``, ``$$``, ``\(`` and ``\)``, ``\[`` and ``\]``.

They are marked for the front end's typesetter, unless they hold a command that makes links or
styles, or defines others: such a one is shown as text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.rules_block import StateBlock
    from markdown_it.rules_inline import StateInline
    from markdown_it.token import Token

# Longer ones are none. This also bounds the search for the end of each.
_LONGEST = 4000  # characters
_MOST_LINES = 60
_DISPLAYED = (("$$", "$$"), ("\\[", "\\]"))
_DELIMITERS = (*_DISPLAYED, ("\\(", "\\)"), ("$", "$"))
_REFUSED = re.compile(
    r"\\(?:href|url|html\w*|class|style|cssId|data|bbox|require|g?def|[ex]def|let|futurelet|global"
    r"|(?:re)?newcommand|providecommand|(?:re)?newenvironment|DeclareMathOperator|csname|catcode"
    r"|includegraphics|input|include|mmlToken|enclose|toggle|mathtip|texttip|tip|action)(?![A-Za-z])"
)


def find_formulas(parser: MarkdownIt) -> None:
    """Has the ``parser`` find formulas and show them."""
    parser.block.ruler.before(
        "fence", "formula", _block, {"alt": ["paragraph", "reference", "blockquote", "list"]}
    )
    parser.inline.ruler.before("escape", "formula", _inline)
    parser.add_render_rule("formula", _render)


def _inline(state: StateInline, silent: bool) -> bool:
    for opens, closes in _DELIMITERS:
        if state.src.startswith(opens, state.pos):
            begin = state.pos + len(opens)
            end = state.src.find(closes, begin, min(state.posMax, begin + _LONGEST))
            if end < 0 or not _is_formula(state.src, begin, end, opens):
                return False
            if not silent:
                token = state.push("formula", "", 0)
                token.content, token.markup = state.src[begin:end], opens
            state.pos = end + len(closes)
            return True
    return False


def _is_formula(text: str, begin: int, end: int, opens: str) -> bool:
    content = text[begin:end]
    if opens != "$":
        return bool(content.strip())
    # As pandoc has it, so that prices are none.
    return content.strip() == content != "" and not text[end + 1 : end + 2].isdigit()


def _block(state: StateBlock, first: int, last: int, silent: bool) -> bool:
    """A formula over several lines, which may begin like those of lists."""
    start = state.bMarks[first] + state.tShift[first]
    for opens, closes in _DISPLAYED:
        if state.src.startswith(opens, start) and not state.is_code_block(first):
            lines = range(first, min(last, first + _MOST_LINES))
            return _take_lines(state, lines, opens, closes, silent)
    return False


def _take_lines(state: StateBlock, lines: range, opens: str, closes: str, silent: bool) -> bool:
    for line in lines:
        if line > lines.start and state.sCount[line] < state.blkIndent:
            return False
        said = state.getLines(lines.start, line + 1, state.blkIndent, False).strip()[len(opens) :]
        if said.endswith(closes) and said[: -len(closes)].strip():
            if not silent:
                token = state.push("formula", "", 0)
                token.content, token.markup = said[: -len(closes)], opens
                token.block = True
                state.line = line + 1
            return True
    return False


def _render(
    renderer: Any, tokens: Sequence[Token], place: int, options: object, env: object
) -> str:
    token = tokens[place]
    closes = dict(_DELIMITERS)[token.markup]
    if _REFUSED.search(token.content):
        return f"<code>{escape(token.markup + token.content + closes)}</code>"
    displayed = (token.markup, closes) in _DISPLAYED
    begin, end = ("\\[", "\\]") if displayed else ("\\(", "\\)")
    formula = escape(f"{begin}{token.content}{end}")
    marked = f'<span class="tex2jax_process mathjax_process">{formula}</span>'
    return f"<p>{marked}</p>\n" if token.block else marked
