"""What a person types, with a line editor on a terminal, and what is piped in."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

import click

from h2o_client.cli.app_folder import history_file
from h2o_client.cli.exit import Terminated, handling_termination

if TYPE_CHECKING:
    from prompt_toolkit.history import History
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

_MOST = 16 * 2**20  # bytes


class Editor(Protocol):
    """Where messages come from."""

    def ask(self, default: str = "") -> str:
        """The next message. Raises EOFError at the end, KeyboardInterrupt for Ctrl-C."""
        ...


def open_editor(commands: Sequence[str]) -> Editor:
    """The line editor on a terminal, else piped lines. The editor completes the ``commands``."""
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
            # A chat whose answers go into a file is still typed on the terminal.
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
    """A message a line; a line that ends with a backslash is continued by the next."""

    def ask(self, default: str = "") -> str:
        lines: list[str] = []
        while line := piped_line():
            line = line.removesuffix("\n").removesuffix("\r")
            if not line.endswith("\\"):
                return "\n".join([*lines, line])
            lines.append(line[:-1])
        if lines:
            return "\n".join(lines)
        raise EOFError


def _history() -> History:
    """The history in the command's folder; in memory only where that cannot be written."""
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
    """All of stdin."""
    return _text(sys.stdin.buffer.read)


def piped_line() -> str:
    """The next line of stdin with its line end; "" at the end."""
    return _text(sys.stdin.buffer.readline)


def _text(read: Callable[[int], bytes]) -> str:
    try:
        found = read(_MOST + 1)
    except OSError as exc:
        raise click.UsageError(f"What is piped in cannot be read: {exc.strerror or exc}.") from exc
    if len(found) > _MOST:
        raise click.UsageError(
            f"More than {_MOST >> 20} MiB are piped in for one message: send a --file, or less."
        )
    return found.decode("utf-8", "replace")
