"""Write answers to stdout, and everything else to stderr.

On a terminal, a server's text is sanitized: it cannot contain control sequences or hidden text.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import textwrap
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from time import monotonic
from typing import NoReturn, TextIO, TypeVar

import click

from h2o_client.cli.exit import NOBODY_READS, UNWRITTEN
from h2o_client.cli.wording import in_chat, in_shell
from h2o_client.errors import H2oError, TransportError
from h2o_client.transport.locks import Guard

T = TypeVar("T")

# Also the characters that change the direction of text, which can disguise an address.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
# JSON does not escape these, but a terminal or a line reader interprets them. Also surrogates.
_UNSAFE_IN_JSON = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
# Every character that some programs treat as a line end.
_ENDS = re.compile("[\n\x0b-\r\x1c-\x1e\x85\u2028\u2029][ \t\n\x0b-\r\x1c-\x1e\x85\u2028\u2029]*")


def put(text: str, *, flush: bool = True) -> None:
    """Write to stdout. Ends the command if that fails.

    Without ``flush`` the text may stay in the buffer until `flush_output`.
    """
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    if _waiting:
        hide_waiting(ends_line=text.endswith("\n") or not sys.stdout.isatty())
    try:
        # Replace characters that the encoding of the terminal does not have.
        sys.stdout.write(text.encode(encoding, "replace").decode(encoding))
        if flush:
            sys.stdout.flush()
    except OSError as exc:
        _end_unwritten(exc)


def flush_output() -> None:
    """Write the text that `put` left in the buffer. Ends the command if that fails."""
    try:
        sys.stdout.flush()
    except OSError as exc:
        _end_unwritten(exc)


def put_text(text: str) -> None:
    """Write a server's text to stdout, sanitized if that is a terminal."""
    put(sanitized_for(sys.stdout, text))


def put_line(text: str) -> None:
    """Write a server's text to stdout as one line."""
    put(sanitized_for(sys.stdout, one_line(text)) + "\n")


def put_json(document: Mapping[str, object]) -> None:
    """Write a line of JSON to stdout."""
    put(safe_json(document))


def safe_json(document: Mapping[str, object]) -> str:
    """A line of JSON without characters that a terminal or a line reader would interpret."""
    text = json.dumps(document, ensure_ascii=False, default=str)
    return _UNSAFE_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text) + "\n"


def say(sentence: str, *, indent: int = 0) -> None:
    """Write one line to stderr, wrapped at words if that is a terminal.

    ``indent``: the indentation of the second and later lines. Does nothing if stderr is closed.
    """
    text = sanitized_for(sys.stderr, one_line(sentence))
    hide_waiting(ends_line=True)
    try:
        if sys.stderr.isatty():
            text = _wrapped(text, " " * indent)
        click.echo(text, err=True)
    except OSError:
        _silence(sys.stderr)


def say_error(error: H2oError, about: str = "", *, chat: bool = False) -> None:
    """Write an error and its hint to stderr, after ``about``."""
    sentence = error.describe(in_chat if chat else in_shell)
    if isinstance(error, TransportError):
        sentence += " Run h2o-chat doctor to find the cause."
    say(f"Error: {about}{': ' if about else ''}{sentence}")


def say_usage(error: click.ClickException) -> None:
    """Write a usage error to stderr."""
    try:
        error.show()
    except OSError:
        _silence(sys.stderr)


def say_unwritten(error: OSError) -> None:
    """Write to stderr that stdout cannot be written to. Later output to stdout is discarded."""
    _silence(sys.stdout)
    say(f"Error: Cannot write to stdout: {error.strerror or error}.")


def sanitized(text: str) -> str:
    """``text`` without characters that control a terminal or change the direction of text."""
    return _CONTROLS.sub("\ufffd", text.replace("\r\n", "\n"))


def sanitized_for(stream: TextIO, text: str) -> str:
    """``text``, sanitized if ``stream`` is a terminal."""
    return sanitized(text) if stream.isatty() else text


class Sanitizer:
    """`sanitized` for a text in pieces, which may split a line end."""

    def __init__(self) -> None:
        self._held = ""

    def add(self, text: str) -> str:
        """Add a piece, and return the text that can now be shown."""
        text = self._held + text
        self._held = "\r" if text.endswith("\r") else ""
        return sanitized(text.removesuffix("\r"))

    def end(self) -> str:
        """End the text, and return the text that was held back."""
        held, self._held = self._held, ""
        return sanitized(held)


def one_line(text: str) -> str:
    """``text`` with a space instead of each line end."""
    return _ENDS.sub(" ", text.rstrip("\r\n"))


def is_plain(stream: TextIO) -> bool:
    """Whether only plain lines of text may be written to ``stream``."""
    # Not for NO_COLOR, which rich handles itself.
    return os.environ.get("TERM", "") in ("dumb", "unknown") or not stream.isatty()


def show_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write a table to stdout, as wide as the terminal."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for place, heading in enumerate(headings):
        # The first column is not wrapped, so that users can copy it.
        table.add_column(heading, no_wrap=place == 0, overflow="fold")
    for row in rows:
        table.add_row(*(Text(sanitized(in_a_line(cell))) for cell in row))
    Console(file=sys.stdout, highlight=False).print(table)


def in_a_line(text: str) -> str:
    """``text`` with each run of whitespace replaced by one space."""
    return " ".join(text.split())


class Waiting:
    """Shows on a terminal's stderr the reason and the duration of a block's wait.

    The text appears after a second without output, at the cursor or in the line below. It is erased
    before other output.
    """

    def __init__(self, what: str, most: float | None = None) -> None:
        self._what = what
        self._most = most
        self._since = monotonic()
        self._is_shown = False
        self._is_below = False  # whether it is shown in the line below unfinished output
        self._lock = Guard()  # guards the attributes above and the line on the terminal
        self._over = threading.Event()

    def now(self, what: str, most: float | None = None) -> None:
        """Note that something arrived. Now wait for ``what``, for at most ``most`` seconds."""
        with self._lock:
            self._what, self._most = what, most
            self._hide()

    def hide(self, *, ends_line: bool = True) -> None:
        """Erase the text before other output. ``ends_line``: that output ends its line."""
        with self._lock:
            self._hide()
            self._is_below = not ends_line

    def text(self) -> str:
        """The reason and the duration of the wait; "" during the first second."""
        seconds = monotonic() - self._since
        if seconds < _SHOWN_AFTER:
            return ""
        most = "" if self._most is None else f" of {self._most:g} s at most"
        return f"({self._what}: {seconds:.0f} s{most})"

    def __enter__(self) -> Waiting:
        _waiting.append(self)
        if sys.stderr.isatty():
            show = self._say if is_plain(sys.stderr) or _is_legacy_windows() else self._show
            threading.Thread(target=show, name="h2o-chat-waiting", daemon=True).start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        _waiting.remove(self)
        self._over.set()
        self.hide()

    def _hide(self) -> None:
        self._since = monotonic()
        if self._is_shown:
            self._is_shown = False
            self._write("\x1b7\x1b[B\r\x1b[J\x1b8" if self._is_below else "\x1b[J")

    def _show(self) -> None:
        while not self._over.wait(_SHOWN_EVERY):
            with self._lock:
                text = self.text()
                if text and self._may_show():
                    self._is_shown = True
                    # Create a line below, save the cursor, go down, turn wrapping off; then undo.
                    begin = "\x1bD\x1b[A\x1b7\x1b[B\r" if self._is_below else "\x1b7"
                    self._write(f"{begin}\x1b[?7l{sanitized(text)}\x1b[K\x1b[?7h\x1b8")

    def _say(self) -> None:
        """On a plain terminal, write lines, less and less often."""
        pause = _SAID_AFTER
        while not self._over.wait(pause):
            with self._lock:
                if (text := self.text()) and self._may_show():
                    self._write(f"{sanitized(text)}\n")
            pause *= 2

    def _may_show(self) -> bool:
        return _waiting[-1:] == [self] and not self._over.is_set()

    def _write(self, text: str) -> None:
        with suppress(OSError):
            sys.stderr.write(text)
            sys.stderr.flush()


_SHOWN_AFTER = 1.0  # seconds
_SHOWN_EVERY = 0.25  # seconds
_SAID_AFTER = 10.0  # seconds
_waiting: list[Waiting] = []  # the last one is shown; changed by the main thread only


def _is_legacy_windows() -> bool:
    """Whether this is a Windows console without escape sequences."""
    if sys.platform != "win32":
        return False
    from rich.console import detect_legacy_windows

    return detect_legacy_windows()


def now_waiting(what: str, most: float | None = None) -> None:
    """Note that something arrived, and that the command now waits for ``what``: `Waiting.now`."""
    if _waiting:
        _waiting[-1].now(what, most)


def hide_waiting(*, ends_line: bool) -> None:
    """Erase the text before other output. See `Waiting.hide`."""
    if _waiting:
        _waiting[-1].hide(ends_line=ends_line)


def counted(items: Iterable[T], what: str, *, total: int | None = None) -> Iterator[T]:
    """Yield the ``items``, with a progress bar if stderr is a terminal."""
    if is_plain(sys.stderr):
        yield from items
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield from progress.track(items, total=total, description=what)


def _wrapped(text: str, indent: str) -> str:
    width = shutil.get_terminal_size().columns
    if len(text) <= width:
        return text
    return textwrap.fill(
        text,
        width,
        subsequent_indent=indent,
        break_long_words=False,  # so that addresses can be copied
        break_on_hyphens=False,
        replace_whitespace=False,
        drop_whitespace=True,
    )


def _end_unwritten(error: OSError) -> NoReturn:
    """End the command, because stdout cannot be written to."""
    if isinstance(error, BrokenPipeError):
        _silence(sys.stdout)
        raise click.exceptions.Exit(NOBODY_READS) from None
    say_unwritten(error)
    raise click.exceptions.Exit(UNWRITTEN) from None


def _silence(stream: TextIO) -> None:
    """Discard later output to ``stream``. Otherwise Python would report an error at exit."""
    with suppress(OSError, ValueError):  # it may not be a file
        number = stream.fileno()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, number)
        os.close(nowhere)
