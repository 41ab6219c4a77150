"""``%h2o`` lines, found where statements begin, as IPython finds its own magics."""

from __future__ import annotations

import tokenize

from IPython.core.inputtransformer2 import (
    TokenTransformBase,
    assemble_continued_line,
    find_end_of_continued_line,
)

_NO_PROMPT = {tokenize.NEWLINE, tokenize.NL, tokenize.ENDMARKER}


class PromptLine(TokenTransformBase):
    """Makes a call of one, before IPython takes a line that ends in "?" for a call for help."""

    priority = 1

    @classmethod
    def find(cls, tokens_by_line: list[list[tokenize.TokenInfo]]) -> PromptLine | None:
        """The first one with something behind ``%h2o``, in lines grouped by statements."""
        for line in tokens_by_line:
            tokens = [each for each in line if each.type not in {tokenize.INDENT, tokenize.DEDENT}]
            if [each.string for each in tokens[:2]] == ["%", "h2o"] and _has_prompt(tokens[1:3]):
                return cls(tokens[0].start)
        return None

    def transform(self, lines: list[str]) -> list[str]:
        """The lines of the cell with the call in them."""
        first = self.start_line
        last = find_end_of_continued_line(lines, first)
        said = assemble_continued_line(lines, (first, self.start_col), last)
        _, _, behind = said.partition("h2o")
        call = f"get_ipython().run_line_magic('h2o', {behind.strip()!r})\n"
        return [*lines[:first], lines[first][: self.start_col] + call, *lines[last + 1 :]]


def _has_prompt(tokens: list[tokenize.TokenInfo]) -> bool:
    name, *behind = tokens
    # "%h2o?" asks for help.
    return bool(behind) and behind[0].type not in _NO_PROMPT and behind[0].start != name.end
