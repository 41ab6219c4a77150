"""Markdown of a server as lines on a terminal: nothing of it is lost, and nothing steers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import ClassVar

from markdown_it import MarkdownIt
from markdown_it.token import Token
from rich.console import Console, ConsoleOptions, RenderResult
from rich.markdown import Markdown, MarkdownElement, TableElement
from rich.segment import Segment
from rich.table import Table

from h2o_client.cli.output import harmless

Lines = list[list[Segment]]

# A token takes about 0.1 ms to render, and a run of brackets is parsed in quadratic time.
_MOST_RENDERED = 50_000  # characters of a block
_MOST_TOKENS = 5_000  # of a block
_MOST_TOKENS_IN_ALL = 40_000  # of an answer
_A_BLOCK = 5  # tokens that a block costs besides its own
_MOST_PARSED = 500_000  # characters altogether
_DEEPEST = 40  # what is nested in lists and quotes; rich needs a dozen of Python's frames a level


class _Parser(MarkdownIt):
    """CommonMark with tables, of which nothing may be dropped.

    HTML is text, and so are definitions of links: they may come long after what refers to them.
    """

    def __init__(self) -> None:
        super().__init__("commonmark", {"html": False, "maxNesting": _DEEPEST})
        self.enable(["strikethrough", "table"])
        self.disable("reference")

    def normalizeLinkText(self, link: str) -> str:  # noqa: N802
        # It decodes: <http://x/%1b> would have an escape in it.
        return harmless(super().normalizeLinkText(link))


class _Table(TableElement):
    """What a cell has no room for goes on in the next line."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for each in super().__rich_console__(console, options):
            if isinstance(each, Table):
                for column in each.columns:
                    column.overflow = "fold"
            yield each


class _Markdown(Markdown):
    elements: ClassVar[dict[str, type[MarkdownElement]]] = {
        **Markdown.elements,
        "table_open": _Table,
    }


_PARSER = _Parser()
_BLOCKS = _Parser()
_BLOCKS.core.ruler.enableOnly(["normalize", "block"])  # what is in a block does not matter


class Budget:
    """How much of an answer may still be rendered. What comes after that is plain."""

    def __init__(self) -> None:
        self._tokens = _MOST_TOKENS_IN_ALL

    @property
    def spent(self) -> bool:
        """Whether nothing more may be."""
        return self._tokens <= 0

    def spend(self, tokens: int) -> None:
        """So many tokens are rendered."""
        self._tokens -= tokens


class Tame:
    """Markdown of a server: no control character reaches the terminal, however it was spelt.

    It is to be printed with ``crop=False``, for what is plain is broken by the terminal. Once the
    ``budget`` is spent it is plain.
    """

    def __init__(self, text: str, budget: Budget) -> None:
        self._text = text
        self._budget = budget

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from joined(lines_of(self._text, console, options, self._budget))
        yield Segment.line()


def blocks_of(text: str) -> list[str]:
    """The blocks of a text. All but the last one are complete; that may go on."""
    if len(text) > _MOST_PARSED:
        return [text]
    begins = [token.map[0] for token in _BLOCKS.parse(text) if token.level == 0 and token.map]
    lines = text.split("\n")  # and nothing else that Python takes for the end of a line
    places = [0, *sorted({begin for begin in begins[1:] if begin}), len(lines)]
    blocks = ["\n".join(lines[place:end]) for place, end in pairwise(places)]
    return [f"{block}\n" for block in blocks[:-1]] + blocks[-1:]


def lines_of(
    text: str, console: Console, options: ConsoleOptions, budget: Budget | None = None
) -> Lines:
    """The lines of blocks, without the blank ones around them; plain ones where all else fails."""
    if len(text) > _MOST_RENDERED or (budget is not None and budget.spent):
        return plain_lines_of(text)
    try:
        tokens = _PARSER.parse(text)
        count = sum(1 + len(token.children or ()) for token in tokens)
        if budget is not None:
            budget.spend(count + _A_BLOCK)
        if count > _MOST_TOKENS:
            return plain_lines_of(text)
        lines = _rendered(tokens, console, options)
    except Exception:  # of one that stumbles over what it has never seen: no answer is lost by that
        return plain_lines_of(text)
    if _is_cut(tokens) or _words_of(tokens) - Counter(_text_of(lines)):
        return plain_lines_of(text)
    return lines


def plain_lines_of(text: str) -> Lines:
    """The lines of a text as it is, however long they are."""
    return [[Segment(line)] if line else [] for line in harmless(text).strip("\n").split("\n")]


def joined(lines: Lines) -> Iterator[Segment]:
    """The lines with what is between them."""
    for place, line in enumerate(lines):
        if place:
            yield Segment.line()
        yield from line


def _rendered(tokens: list[Token], console: Console, options: ConsoleOptions) -> Lines:
    markdown = _Markdown("", code_theme="ansi_dark", hyperlinks=False)
    markdown.parsed = _with_addresses(tokens)
    lines = [_stripped(line) for line in console.render_lines(markdown, options, pad=False)]
    while lines and not lines[0]:
        del lines[0]
    while lines and not lines[-1]:
        del lines[-1]
    return lines


def _stripped(line: list[Segment]) -> list[Segment]:
    """Without the spaces at its end, which would wrap when the terminal becomes narrower."""
    kept = [Segment(harmless(part.text), part.style) for part in line]
    while kept and not kept[-1].text.strip():
        kept.pop()
    if kept:
        kept[-1] = Segment(kept[-1].text.rstrip(), kept[-1].style)
    return kept


def _with_addresses(tokens: list[Token]) -> list[Token]:
    """The tokens with the text "what is on it (address)" in the place of each image."""
    for token in tokens:
        for image in token.children or ():
            if image.type == "image":
                said = f"{image.content} " if image.content else ""
                address = _PARSER.normalizeLinkText(str(image.attrs.get("src", "")))
                image.type, image.content = "text", f"{said}({address})"
                image.children = None
    return tokens


def _is_cut(tokens: Sequence[Token]) -> bool:
    """Whether the parser may have left out what is nested too deeply."""
    return any(token.level >= _DEEPEST - 1 for token in tokens)


def _words_of(tokens: Sequence[Token]) -> Counter[str]:
    """Each letter and figure that must be on the screen, and how often."""
    found: Counter[str] = Counter()
    for token in tokens:
        if token.children is not None:
            found.update(_words_of(token.children))
        else:
            found.update(filter(str.isalnum, token.content))
    return found


def _text_of(lines: Lines) -> str:
    return "".join(segment.text for line in lines for segment in line)
