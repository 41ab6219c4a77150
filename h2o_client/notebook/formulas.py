r"""Find formulas in Markdown: between ``$``, ``$$``, ``\(`` and ``\)``, ``\[`` and ``\]``.

Formulas are marked for the front end's typesetter. A formula with a command that is not in the
allowlist is shown as text.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from h2o_client.notebook.tex import is_allowed

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.rules_block import StateBlock
    from markdown_it.rules_inline import StateInline
    from markdown_it.token import Token

# Longer formulas are shown as text. This also bounds the search for their end.
_LONGEST = 4000  # characters
_MOST_LINES = 60
_DISPLAYED = (("$$", "$$"), ("\\[", "\\]"))
_DELIMITERS = (*_DISPLAYED, ("\\(", "\\)"), ("$", "$"))


def find_formulas(parser: MarkdownIt) -> None:
    """Let the ``parser`` find formulas and render them."""
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
    # Pandoc's rules, so that prices are not formulas.
    return content.strip() == content != "" and not text[end + 1 : end + 2].isdigit()


def _block(state: StateBlock, first: int, last: int, silent: bool) -> bool:
    """Find a formula of several lines, before lists are found: its lines may look like a list."""
    start = state.bMarks[first] + state.tShift[first]
    for opens, closes in _DISPLAYED:
        if state.src.startswith(opens, start) and not state.is_code_block(first):
            end = _closing_line(state, range(first, min(last, first + _MOST_LINES)), opens, closes)
            if end is None:
                return False
            if not silent:
                token = state.push("formula", "", 0)
                text = _text_of(state, first, end)
                token.content, token.markup = text[len(opens) : -len(closes)], opens
                token.block = True
                state.line = end + 1
            return True
    return False


def _closing_line(state: StateBlock, lines: range, opens: str, closes: str) -> int | None:
    ends = _lines_with_end(state, closes)
    for end in ends[bisect_left(ends, lines.start) : bisect_left(ends, lines.stop)]:
        text = _text_of(state, lines.start, end)[len(opens) :]
        if text.endswith(closes) and text[: -len(closes)].strip():
            inner = state.sCount[lines.start + 1 : end + 1]
            return end if all(each >= state.blkIndent for each in inner) else None
    return None


def _lines_with_end(state: StateBlock, closes: str) -> list[int]:
    # Search only once. A search at each line would take minutes for a long text without an end.
    found: dict[str, list[int]] = state.env.setdefault("formula ends", {})
    if closes not in found:
        lines = state.src.split("\n")
        found[closes] = [at for at, line in enumerate(lines) if line.rstrip().endswith(closes)]
    return found[closes]


def _text_of(state: StateBlock, first: int, last: int) -> str:
    return state.getLines(first, last + 1, state.blkIndent, False).strip()


def _render(
    renderer: Any, tokens: Sequence[Token], place: int, options: object, env: object
) -> str:
    token = tokens[place]
    closes = dict(_DELIMITERS)[token.markup]
    if not is_allowed(token.content):
        return f"<code>{escape(token.markup + token.content + closes)}</code>"
    displayed = (token.markup, closes) in _DISPLAYED
    begin, end = ("\\[", "\\]") if displayed else ("\\(", "\\)")
    formula = escape(f"{begin}{token.content}{end}")
    marked = f'<span class="tex2jax_process mathjax_process">{formula}</span>'
    return f"<p>{marked}</p>\n" if token.block else marked
