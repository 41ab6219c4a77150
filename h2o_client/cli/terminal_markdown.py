"""Show a growing answer as Markdown on a terminal.

Complete blocks are written once. Only the last block, which may still change, is redrawn a few
times a second, or less often if drawing takes long. No text is lost, and control characters are
removed.
"""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from types import TracebackType
from typing import ClassVar

from markdown_it import MarkdownIt
from markdown_it.ruler import RuleOptionsType
from markdown_it.rules_block import StateBlock
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.markdown import Markdown, MarkdownElement, TableElement
from rich.segment import Segment, Segments
from rich.table import Table
from rich.text import Text

from h2o_client.cli.terminal import Sanitizer, hide_waiting, sanitized

Lines = list[list[Segment]]

_PAUSE = 1 / 8  # seconds between two drawings
_SHARE = 10  # drawing takes at most one tenth of the time
_RESIZED_AFTER = 0.3  # seconds without a change after which the terminal's size counts as final
_MOST_DRAWN = 16_000  # characters; a longer block is drawn as plain text while it grows
# A token takes about 0.1 ms to render. Many brackets in a row take quadratic time to parse.
_MOST_RENDERED = 50_000  # characters of a block
_MOST_TOKENS = 5_000  # of a block
_MOST_TOKENS_IN_ALL = 40_000  # of an answer
_TOKENS_A_BLOCK = 5  # the cost of a block, in tokens
_MOST_PARSED = 500_000  # characters in total
_LONGEST_FORMULA = 4_000  # characters
_LONGEST_DISPLAYED = 60  # lines
_DISPLAYED = (("$$", "$$"), ("\\[", "\\]"))
_FORMULAS = (*_DISPLAYED, ("\\(", "\\)"), ("$", "$"))
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,}).*")
_DEEPEST = 40  # levels of lists and quotes; rich uses a dozen stack frames for each


def write_markdown(tokens: Iterable[str], note: Callable[[int], None]) -> None:
    """Write tokens to a terminal's stdout as they arrive. ``note`` gets the length of each."""
    with Growing(Console(file=sys.stdout, highlight=False)) as answer:
        for token in tokens:
            answer.add(token)
            note(len(token))


class Growing:
    """A text that grows on the screen until the ``with`` block ends.

    A background thread draws, so that `add` does not wait.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._text = Sanitizer()
        self._pieces: deque[str] = deque()  # added, but not in the block yet
        self._block = ""  # the last block, which is not complete
        self._parsed = 0  # the length of the block when it was last parsed for its end
        self._is_stale = False  # whether the screen is out of date
        self._shown = 0  # the length of the block when it was last drawn whole
        self._written = False  # whether a block was written
        self._is_torn = False  # whether the beginning of the block has already been written
        self._budget = Budget()
        self._frame = _Frame(console)
        self._failure: BaseException | None = None
        self._over = threading.Event()
        self._drawer = threading.Thread(target=self._draw, name="h2o-chat-drawer", daemon=True)

    def add(self, token: str) -> None:
        """Add text, which is drawn soon. Raises an earlier error of the drawing thread."""
        if self._failure is not None:
            raise self._failure
        self._pieces.append(self._text.add(token))

    def __enter__(self) -> Growing:
        self._console.show_cursor(False)
        self._drawer.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._over.set()
        try:
            self._drawer.join()
        finally:  # even after a second Ctrl-C
            self._pieces.append(self._text.end())
            self._gather()
            if self._frame.is_resizing():
                time.sleep(_RESIZED_AFTER)
            if self._frame.has_become_narrower():
                self._leave_frame()
            rest, self._block = self._block, ""
            self._frame.clear()
            self._console.show_cursor(True)
            self._write(blocks_of(rest))

    def _draw(self) -> None:
        """Draw until the end. Runs in the background thread."""
        try:
            pause = _PAUSE
            while not self._over.wait(pause):
                began = time.thread_time()
                self._refresh()
                pause = max(_PAUSE, _SHARE * (time.thread_time() - began))
        except BaseException as exc:
            self._failure = exc

    def _refresh(self) -> None:
        self._gather()
        if self._frame.is_resizing() or not self._is_stale:
            return
        self._is_stale = False
        if self._frame.has_become_narrower():
            self._leave_frame()
        if self._may_have_ended():
            self._parsed = len(self._block)
            *complete, rest = blocks_of(self._block)
            if complete:
                # Shorten the block first, so that nothing is drawn twice.
                self._block, self._parsed, self._shown = rest, 0, 0
                self._frame.clear()
                self._write(complete)
        self._frame.draw(self._drawn(self._console.options))

    def _drawn(self, options: ConsoleOptions) -> Lines:
        """The lines to draw below the written blocks."""
        if not self._block.strip():
            return []
        # Lines can be redrawn only if all of them fit on the screen, even if the terminal becomes
        # half as wide.
        height = max(1, options.max_height // 2 - 1)
        lines = self._lines(options, height)
        is_whole = len(lines) <= height and len(self._block) <= _MOST_DRAWN
        self._shown = len(self._block) if is_whole else 0
        lines = lines[-height:]
        return [[], *lines] if self._written and not self._is_torn else lines

    def _leave_frame(self) -> None:
        """Leave the drawn lines on the screen, and continue the block below them.

        After the terminal has become narrower, the first rows may no longer be on the screen.
        """
        if not self._shown:
            return
        shown, rest = self._block[: self._shown], self._block[self._shown :]
        self._frame.leave()
        fence = _FENCE.match(shown.lstrip("\n"))
        # In a code block, the rest is code too: repeat the fence.
        if fence and rest.strip():
            rest = f"{fence[0]}\n" + rest.removeprefix("\n")
        self._block = rest
        self._written = self._is_torn = True
        self._parsed = self._shown = 0

    def _lines(self, options: ConsoleOptions, height: int) -> Lines:
        if len(self._block) <= _MOST_DRAWN:
            return lines_of(self._block, self._console, options)
        tail = self._block[-height * options.max_width :]
        return self._console.render_lines(Text(tail, overflow="fold"), options, pad=False)

    def _may_have_ended(self) -> bool:
        """Whether to look for the block's end. A long block is parsed when its size has doubled."""
        length = len(self._block)
        return length <= _MOST_DRAWN or length >= 2 * self._parsed

    def _gather(self) -> None:
        """Append the new pieces to the block."""
        pieces = [self._pieces.popleft() for _ in range(len(self._pieces))]
        self._block += "".join(pieces)
        self._is_stale = self._is_stale or bool(pieces)

    def _write(self, blocks: Iterable[str]) -> None:
        waiting = deque(blocks)
        while waiting:
            block = waiting.popleft()
            if self._budget.spent:
                block = "".join([block, *waiting])
                waiting.clear()
            if block.strip():
                hide_waiting(ends_line=True)
                if self._written and not self._is_torn:
                    self._console.print()
                self._written, self._is_torn = True, False
                self._console.print(SanitizedMarkdown(block, self._budget), crop=False)


class _Frame:
    """The lines that are redrawn, below the written blocks.

    If the terminal becomes narrower, it wraps these lines, so that they take more rows.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._drawn: list[str] = []  # the lines on the screen; the cursor is after the last one
        self._drawn_width = 0
        self._width = console.width
        self._resized_at = -_RESIZED_AFTER

    def is_resizing(self) -> bool:
        """Whether the size of the terminal has just changed, and may change again.

        Programs learn the new size slightly later. Output in between would be garbled.
        """
        if self._console.width != self._width:
            self._width, self._resized_at = self._console.width, time.monotonic()
        return time.monotonic() - self._resized_at < _RESIZED_AFTER

    def has_become_narrower(self) -> bool:
        """Whether the terminal has become narrower since the lines were drawn."""
        return bool(self._drawn) and self._console.width < self._drawn_width

    def draw(self, lines: Lines) -> None:
        """Draw the lines in place of the previous ones."""
        if self._console.legacy_windows:  # it cannot erase lines
            return
        with self._console.capture() as capture:
            self._console.print(Segments(joined(lines)), end="", crop=False)
        self._put(self._erased() + capture.get())
        self._drawn = ["".join(part.text for part in line) for line in lines]
        self._drawn_width = self._console.width

    def leave(self) -> None:
        """Leave the lines on the screen."""
        self._put("\n")
        self._drawn = []

    def clear(self) -> None:
        """Erase the lines."""
        if self._drawn:
            self._put(self._erased())
            self._drawn = []

    def _erased(self) -> str:
        if not self._drawn:
            return ""
        width = self._console.width
        wraps = _terminal_wraps_anew()
        rows = sum(rows_of(line, width) if wraps else 1 for line in self._drawn)
        return "\r" + (f"\x1b[{rows - 1}A" if rows > 1 else "") + "\x1b[J"

    def _put(self, text: str) -> None:
        hide_waiting(ends_line=False)
        self._console.file.write(text)
        self._console.file.flush()


def rows_of(line: str, width: int) -> int:
    """How many rows a line takes on a terminal of that width."""
    if line.isascii():
        return max(1, -(-len(line) // max(1, width)))
    rows, column = 1, 0
    for character in line:
        cells = cell_len(character)
        if column + cells > width:  # a wide character is not split
            rows, column = rows + 1, 0
        column += cells
    return rows


def _terminal_wraps_anew() -> bool:
    """Whether the terminal wraps its lines again when it is resized. A few only cut them."""
    name = os.environ.get("TERM", "")
    is_screen = name.startswith("screen") and "TMUX" not in os.environ
    return not (is_screen or name == "linux" or "XTERM_VERSION" in os.environ)


def _formula(state: StateInline, silent: bool) -> bool:
    """Show a formula in a line unchanged: its backslashes and asterisks are TeX, not Markdown."""
    for opens, closes in _FORMULAS:
        if state.src.startswith(opens, state.pos):
            begin = state.pos + len(opens)
            end = state.src.find(closes, begin, min(state.posMax, begin + _LONGEST_FORMULA))
            content = state.src[begin:end]
            if end < 0 or not content.strip():
                return False
            if opens == "$" and not _is_between_dollars(content, state.src[end + 1 : end + 2]):
                return False
            if not silent:
                state.pending += f"{opens}{content}{closes}"
            state.pos = end + len(closes)
            return True
    return False


def _is_between_dollars(content: str, after: str) -> bool:
    """Whether it is a formula by Pandoc's rules, which exclude prices, and not bold text."""
    return content == content.strip() and not after.isdigit() and "**" not in content


def _formula_block(state: StateBlock, first: int, last: int, silent: bool) -> bool:
    """Show a formula of several lines unchanged, like code."""
    start = state.bMarks[first] + state.tShift[first]
    found = [pair for pair in _DISPLAYED if state.src.startswith(pair[0], start)]
    if not found or state.is_code_block(first):
        return False
    opens, closes = found[0]
    for line in range(first, min(last, first + _LONGEST_DISPLAYED)):
        text = state.src[state.bMarks[line] + state.tShift[line] : state.eMarks[line]].rstrip()
        if line > first and state.sCount[line] < state.blkIndent:
            return False
        if text.endswith(closes) and (line > first or len(text) > len(opens)):
            if not silent:
                token = state.push("fence", "code", 0)
                token.content = state.getLines(first, line + 1, state.sCount[first], True)
                token.map = [first, line + 1]
                state.line = line + 1
            return True
    return False


class _Parser(MarkdownIt):
    """CommonMark with tables, without rules that would drop text.

    HTML is shown as text. Link definitions are also shown as text, because they may arrive long
    after their links.
    """

    def __init__(self) -> None:
        super().__init__("commonmark", {"html": False, "maxNesting": _DEEPEST})
        self.enable(["strikethrough", "table"])
        self.disable("reference")
        interrupts: RuleOptionsType = {"alt": ["paragraph", "blockquote", "list"]}
        self.block.ruler.before("fence", "formula", _formula_block, interrupts)
        self.inline.ruler.before("escape", "formula", _formula)

    def normalizeLinkText(self, link: str) -> str:  # noqa: N802
        # The parser decodes percent escapes: <http://x/%1b> would become a control character.
        return sanitized(super().normalizeLinkText(link))


class _Table(TableElement):
    """A table whose cells wrap their text instead of cropping it."""

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
_BLOCKS.core.ruler.enableOnly(["normalize", "block"])  # the contents of blocks are not needed


class Budget:
    """The number of tokens that may still be rendered. The rest is shown as plain text."""

    def __init__(self) -> None:
        self._tokens = _MOST_TOKENS_IN_ALL

    @property
    def spent(self) -> bool:
        """Whether nothing more may be rendered."""
        return self._tokens <= 0

    def spend(self, tokens: int) -> None:
        """Count tokens that were rendered."""
        self._tokens -= tokens


class SanitizedMarkdown:
    """A server's Markdown without control characters, even escaped ones.

    Print it with ``crop=False``, because the terminal wraps plain text. When the ``budget`` is
    spent, the Markdown is shown as plain text.
    """

    def __init__(self, text: str, budget: Budget) -> None:
        self._text = text
        self._budget = budget

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from joined(lines_of(self._text, console, options, self._budget))
        yield Segment.line()


def blocks_of(text: str) -> list[str]:
    """The blocks of a text. All but the last one are complete."""
    if len(text) > _MOST_PARSED:
        return [text]
    begins = [token.map[0] for token in _BLOCKS.parse(text) if token.level == 0 and token.map]
    lines = text.split("\n")  # not splitlines(), which splits at other characters, too
    places = [0, *sorted({begin for begin in begins[1:] if begin}), len(lines)]
    blocks = ["\n".join(lines[place:end]) for place, end in pairwise(places)]
    return [f"{block}\n" for block in blocks[:-1]] + blocks[-1:]


def lines_of(
    text: str, console: Console, options: ConsoleOptions, budget: Budget | None = None
) -> Lines:
    """Render blocks to lines, without blank lines around them; plain lines as a fallback."""
    if len(text) > _MOST_RENDERED or (budget is not None and budget.spent):
        return plain_lines_of(text)
    try:
        tokens = _PARSER.parse(text)
        count = sum(1 + len(token.children or ()) for token in tokens)
        if budget is not None:
            budget.spend(count + _TOKENS_A_BLOCK)
        if count > _MOST_TOKENS:
            return plain_lines_of(text)
        lines = _rendered(tokens, console, options)
    except Exception:  # an error in rich must not lose the answer
        return plain_lines_of(text)
    if _is_cut(tokens) or _words_of(tokens) - Counter(_text_of(lines)):
        return plain_lines_of(text)
    return lines


def plain_lines_of(text: str) -> Lines:
    """The lines of a text, neither rendered nor wrapped."""
    return [[Segment(line)] if line else [] for line in sanitized(text).strip("\n").split("\n")]


def joined(lines: Lines) -> Iterator[Segment]:
    """The lines with a line end between each two."""
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
    """The line without trailing spaces, which would wrap when the terminal becomes narrower."""
    kept = [Segment(sanitized(part.text), part.style) for part in line]
    while kept and not kept[-1].text.strip():
        kept.pop()
    if kept:
        kept[-1] = Segment(kept[-1].text.rstrip(), kept[-1].style)
    return kept


def _with_addresses(tokens: list[Token]) -> list[Token]:
    """Replace each image by the text "description (address)"."""
    for token in tokens:
        for image in token.children or ():
            if image.type == "image":
                description = f"{image.content} " if image.content else ""
                address = _PARSER.normalizeLinkText(str(image.attrs.get("src", "")))
                image.type, image.content = "text", f"{description}({address})"
                image.children = None
    return tokens


def _is_cut(tokens: Sequence[Token]) -> bool:
    """Whether the parser may have dropped text that is nested too deeply."""
    return any(token.level >= _DEEPEST - 1 for token in tokens)


def _words_of(tokens: Sequence[Token]) -> Counter[str]:
    """How often each letter and digit has to be on the screen."""
    found: Counter[str] = Counter()
    for token in tokens:
        if token.children is not None:
            found.update(_words_of(token.children))
        else:
            found.update(filter(str.isalnum, token.content))
    return found


def _text_of(lines: Lines) -> str:
    return "".join(segment.text for line in lines for segment in line)
