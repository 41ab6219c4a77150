"""What one text may ask of the parser of Markdown; beyond it the text is to be shown as it is."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.rules_core import StateCore
    from markdown_it.rules_inline import StateInline

DEEPEST = 130
_MOST_STEPS = 500_000  # less than a second


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
