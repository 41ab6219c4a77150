"""An answer as Markdown on a terminal, while it grows.

Blocks that are complete are written once and for all; only the last one, which may still change,
is drawn again and again: a few times a second, and less often the longer that takes.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from types import TracebackType

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.segment import Segment
from rich.spinner import Spinner
from rich.text import Text

from h2o_client.cli.markdown import Budget, Lines, Tame, blocks_of, joined, lines_of
from h2o_client.cli.output import Harmless

_PAUSE = 1 / 8  # seconds between two drawings
_SHARE = 10  # the part of the time that drawing may take is one in so many
_MOST_DRAWN = 16_000  # characters of a block that is drawn as Markdown while it grows


def write_markdown(tokens: Iterable[str], note: Callable[[str], None]) -> None:
    """Writes the tokens to stdout, a terminal, as they come; calls ``note`` for each."""
    with Growing(Console(file=sys.stdout, highlight=False)) as answer:
        for token in tokens:
            answer.add(token)
            note(token)


class Growing:
    """A text that grows on the screen. What came is there whole when the ``with`` block ends.

    Who adds to it does not wait for what is drawn: another thread does that.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._text = Harmless()
        self._pieces: deque[str] = deque()  # what came since they were put to the block
        self._block = ""  # the one that is not complete
        self._parsed = 0  # the characters of it when its end was looked for last
        self._written = False
        self._budget = Budget()
        self._spinner = Spinner("dots")
        self._failure: BaseException | None = None
        self._over = threading.Event()
        self._drawer = threading.Thread(target=self._draw, name="h2o-chat-drawer", daemon=True)
        self._live = Live(
            self,
            console=console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            vertical_overflow="visible",
        )

    def add(self, token: str) -> None:
        """More text. It is drawn soon, not at once. Raises what kept it from being drawn."""
        if self._failure is not None:
            raise self._failure
        self._pieces.append(self._text.add(token))

    def __enter__(self) -> Growing:
        self._live.start()
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
        finally:  # a second Ctrl-C loses nothing, either
            self._pieces.append(self._text.end())
            self._gather()
            rest, self._block = self._block, ""
            self._live.stop()
            self._write(blocks_of(rest))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if not self._block.strip():
            if not self._written:
                yield self._spinner
            return
        # What does not fit on the screen could not be drawn over.
        height = max(1, options.max_height - 2)
        if self._written:
            yield Segment.line()
        yield from joined(self._lines(console, options, height)[-height:])

    def _lines(self, console: Console, options: ConsoleOptions, height: int) -> Lines:
        if len(self._block) <= _MOST_DRAWN:
            return lines_of(self._block, console, options)
        tail = self._block[-height * options.max_width :]
        return console.render_lines(Text(tail, overflow="fold"), options, pad=False)

    def _draw(self) -> None:
        """What the other thread does."""
        try:
            pause = _PAUSE
            while not self._over.wait(pause):
                began = time.thread_time()
                self._refresh()
                pause = max(_PAUSE, _SHARE * (time.thread_time() - began))
        except BaseException as exc:
            self._failure = exc

    def _refresh(self) -> None:
        if self._gather() and self._is_worth_a_look():
            self._parsed = len(self._block)
            *complete, rest = blocks_of(self._block)
            if complete:
                # First, so that what draws meanwhile draws no block twice.
                self._block, self._parsed = rest, 0
                self._write(complete)
        self._live.refresh()

    def _is_worth_a_look(self) -> bool:
        """Whether a block may have ended; a long one is looked at when it is twice as long."""
        length = len(self._block)
        return length <= _MOST_DRAWN or length >= 2 * self._parsed

    def _gather(self) -> bool:
        """Puts what came to the block; whether there was anything."""
        pieces = [self._pieces.popleft() for _ in range(len(self._pieces))]
        self._block += "".join(pieces)
        return bool(pieces)

    def _write(self, blocks: Iterable[str]) -> None:
        waiting = deque(blocks)
        while waiting:
            block = waiting.popleft()
            if self._budget.spent:
                block = "".join([block, *waiting])
                waiting.clear()
            if block.strip():
                if self._written:
                    self._console.print()
                self._written = True
                self._console.print(Tame(block, self._budget), crop=False)
