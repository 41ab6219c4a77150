"""An answer as Markdown on a terminal, while it grows.

Blocks that are complete are written once and for all; only the last one, which may still change,
is drawn again and again, a few times a second.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType

from markdown_it import MarkdownIt
from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.markdown import Markdown
from rich.segment import Segment
from rich.spinner import Spinner

from h2o_client.cli.output import harmless

_DRAWN_PER_SECOND = 8


class _Parser(MarkdownIt):
    """CommonMark with tables. HTML is text, for what stands in tags would be dropped."""

    def __init__(self) -> None:
        super().__init__("commonmark", {"html": False})
        self.enable(["strikethrough", "table"])

    def normalizeLinkText(self, link: str) -> str:  # noqa: N802
        # It decodes: <http://x/%1b> would have an escape in it.
        return harmless(super().normalizeLinkText(link))


_PARSER = _Parser()


def write_markdown(tokens: Iterable[str], note: Callable[[str], None]) -> None:
    """Writes the tokens to stdout, a terminal, as they come; calls ``note`` for each."""
    with Growing(Console(file=sys.stdout, highlight=False)) as answer:
        for token in tokens:
            answer.add(token)
            note(token)


class Growing:
    """A text that grows on the screen. What came is there whole when the ``with`` block ends."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._pending = ""  # the block that is not complete
        self._written = False
        self._spinner = Spinner("dots")
        self._live = Live(
            self,
            console=console,
            refresh_per_second=_DRAWN_PER_SECOND,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            vertical_overflow="visible",
        )

    def add(self, token: str) -> None:
        """More text. It is drawn soon, not at once."""
        self._pending += harmless(token)
        if "\n" in token:
            complete, pending = _parted(self._pending)
            if complete:
                # First, so that what draws meanwhile draws no block twice.
                self._pending = pending
                self._write(complete)

    def __enter__(self) -> Growing:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        rest, self._pending = self._pending, ""
        self._live.stop()
        if rest.strip():
            self._write(rest)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if not self._pending.strip():
            if not self._written:
                yield self._spinner
            return
        # What does not fit on the screen could not be drawn over.
        lines = _lines_of(self._pending, console, options)[-max(1, options.max_height - 2) :]
        if self._written:
            yield Segment.line()
        yield from _joined(lines)

    def _write(self, text: str) -> None:
        if self._written:
            self._console.print()
        self._written = True
        self._console.print(Tame(text))


class Tame:
    """Markdown of a server: no control character reaches the terminal, however it was spelt."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from _joined(_lines_of(self._text, console, options))
        yield Segment.line()


def _lines_of(text: str, console: Console, options: ConsoleOptions) -> list[list[Segment]]:
    """The lines of a block, without the blank ones around it."""
    markdown = Markdown("", code_theme="ansi_dark", hyperlinks=False)
    markdown.parsed = _PARSER.parse(text)
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


def _joined(lines: list[list[Segment]]) -> Iterator[Segment]:
    for place, line in enumerate(lines):
        if place:
            yield Segment.line()
        yield from line


def _parted(text: str) -> tuple[str, str]:
    """The blocks that are complete, and the last one, which may go on."""
    begins = [token.map[0] for token in _PARSER.parse(text) if token.level == 0 and token.map]
    if not begins or begins[-1] == 0:
        return "", text
    lines = text.split("\n")  # and nothing else that Python takes for the end of a line
    return "\n".join(lines[: begins[-1]]) + "\n", "\n".join(lines[begins[-1] :])
