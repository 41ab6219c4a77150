"""Read the user's input: from a line editor on a terminal, or from a pipe."""

from __future__ import annotations

import codecs
import io
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Protocol

import click

from h2o_client.cli.app_folder import history_file
from h2o_client.cli.exit import Terminated, handling_termination

if TYPE_CHECKING:
    from prompt_toolkit.history import History
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

_MOST = 16 * 2**20  # bytes
# Byte order marks. The mark of UTF-32 comes first, because it begins like the one of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


class NotText(click.UsageError):
    """The input from a pipe is not text in a supported encoding."""


class Editor(Protocol):
    """Reads messages."""

    def ask(self, default: str = "") -> str:
        """Read the next message.

        Raises EOFError at the end, KeyboardInterrupt for Ctrl-C, and `NotText` for binary data.
        """
        ...


def open_editor(commands: Sequence[str]) -> Editor:
    """A line editor on a terminal, else a reader of lines. The editor completes ``commands``."""
    return TerminalEditor(commands) if sys.stdin.isatty() else PipedLines()


class TerminalEditor:
    """A line editor with a history. Enter sends; Esc-Enter, or a backslash and Enter, does not."""

    def __init__(self, commands: Sequence[str]) -> None:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.completion import WordCompleter
        from prompt_toolkit.output import create_output

        self._session: PromptSession[str] = PromptSession(
            "> ",
            multiline=True,
            prompt_continuation="  ",
            history=_history(),
            key_bindings=_keys(),
            completer=WordCompleter(list(commands), sentence=True),
            complete_while_typing=False,
            # Edit on the terminal even if stdout is a file.
            output=create_output(always_prefer_tty=True),
        )

    def ask(self, default: str = "") -> str:
        with handling_termination(self._leave):
            return self._session.prompt(default=default)

    def _leave(self, terminated: Terminated) -> bool:
        """End the prompt with the exception; False if there is no prompt."""
        app = self._session.app
        if app.loop is None or not app.is_running:
            return False

        def leave() -> None:
            if app.future is not None and not app.future.done():
                app.exit(exception=terminated)

        app.loop.call_soon_threadsafe(leave)
        return True


class PipedLines:
    """Reads one message a line from stdin. A backslash at the end continues the line."""

    def __init__(self) -> None:
        self._readline: Callable[[int], bytes] | None = None

    def ask(self, default: str = "") -> str:
        lines: list[str] = []
        while line := self._line():
            line = line.removesuffix("\n").removesuffix("\r")
            if not line.endswith("\\"):
                return "\n".join([*lines, line])
            lines.append(line[:-1])
        if lines:
            return "\n".join(lines)
        raise EOFError

    def _line(self) -> str:
        """The next line of stdin with its line end; "" at the end."""
        if self._readline is not None:
            return _decode(_read(self._readline))
        stdin = sys.stdin.buffer
        self._readline = stdin.readline
        line = _read(stdin.readline)
        if _encoding_of(line) == "utf-8":
            return _decode(line)
        # In other encodings, decode everything first, then split it into lines.
        text = _decode(line + _read(stdin.read))
        self._readline = io.BytesIO(text.encode()).readline
        return self._line()


@contextmanager
def typing_ahead() -> Iterator[None]:
    """Within the block, keep typed keys for the next `Editor.ask`, and do not show them.

    Ctrl-C normally discards them, but not within the block.
    """
    modes = _terminal_modes() if sys.stdin.isatty() else None
    if modes is None:
        yield
        return
    import termios

    changed = [*modes]
    # Pass single keys on, as the editor reads them. Ctrl-C still sends a signal.
    changed[3] = modes[3] & ~(termios.ECHO | termios.ICANON) | termios.NOFLSH
    try:
        termios.tcsetattr(sys.stdin.fileno(), termios.TCSANOW, changed)
        yield
    finally:
        with suppress(termios.error):
            termios.tcsetattr(sys.stdin.fileno(), termios.TCSANOW, modes)


def _terminal_modes() -> list[Any] | None:
    """The modes of the terminal; None on Windows, and if stdin is not a terminal."""
    try:
        import termios
    except ImportError:
        return None
    try:
        return termios.tcgetattr(sys.stdin.fileno())
    except (termios.error, OSError):
        return None


def _history() -> History:
    """The history in the command's folder, or in memory if that cannot be written."""
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    class PrivateHistory(FileHistory):
        def load_history_strings(self) -> list[str]:
            try:
                return list(super().load_history_strings())
            except OSError:
                return []

        def store_string(self, string: str) -> None:
            with suppress(OSError):
                history_file()  # it may have been removed meanwhile
                super().store_string(string)

    try:
        return PrivateHistory(str(history_file()))
    except OSError:
        return InMemoryHistory()


def _keys() -> KeyBindings:
    from prompt_toolkit.key_binding import KeyBindings

    keys = KeyBindings()

    @keys.add("enter")
    def _send(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if (
            buffer.document.text_before_cursor.endswith("\\")
            and buffer.document.is_cursor_at_the_end
        ):
            buffer.delete_before_cursor()
            buffer.insert_text("\n")
        else:
            buffer.validate_and_handle()

    @keys.add("escape", "enter")
    def _new_line(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    return keys


def piped_text() -> str:
    """Read all of stdin as text. Raises a usage error if it is not text, or too long."""
    return _decode(_read(sys.stdin.buffer.read))


def _read(read: Callable[[int], bytes]) -> bytes:
    try:
        found = read(_MOST + 1)
    except OSError as exc:
        raise click.UsageError(f"Cannot read stdin: {exc.strerror or exc}.") from exc
    if len(found) > _MOST:
        raise click.UsageError(
            f"stdin has more than {_MOST >> 20} MiB, which is too long for one message. Use --file."
        )
    return found


def _encoding_of(data: bytes) -> str:
    """The encoding that the byte order mark names, if there is one; else UTF-8."""
    return next((encoding for mark, encoding in _MARKS if data.startswith(mark)), "utf-8")


def _decode(data: bytes) -> str:
    """Decode the text strictly. Raises `NotText`."""
    encoding = _encoding_of(data)
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as exc:
        raise NotText(
            f"The input is not {encoding.upper()} text: byte {exc.start + 1} is "
            f"0x{data[exc.start]:02x}. Convert it first (iconv -f latin1 -t utf-8), or send it "
            "with --file."
        ) from None
    if "\0" in text:
        raise NotText(
            "The input has NUL characters: it is binary, or UTF-16 without a byte order mark. "
            "Convert it to UTF-8 first, or send it with --file."
        )
    return text.removeprefix("\ufeff")
