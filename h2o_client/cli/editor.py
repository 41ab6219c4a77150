"""What a person types: a line editor on a terminal, else the lines that are piped in."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from h2o_client.cli.folder import private_file
from h2o_client.cli.piped import piped_line
from h2o_client.cli.signals import Terminated, leaving

if TYPE_CHECKING:
    from prompt_toolkit.history import History
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent


class Editor(Protocol):
    """Where messages come from."""

    def ask(self, default: str = "") -> str:
        """The next message. Raises EOFError at the end, KeyboardInterrupt for Ctrl-C."""
        ...


def open_editor(commands: Sequence[str]) -> Editor:
    """The editor that suits stdin; it completes the ``commands``."""
    return TerminalEditor(commands) if sys.stdin.isatty() else PipedLines()


class TerminalEditor:
    """A line editor with a history. Enter sends; Esc-Enter, or a backslash at the end, goes on."""

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
        with leaving(self._leave):
            return self._session.prompt(default=default)

    def _leave(self, terminated: Terminated) -> bool:
        """Has the prompt end with that, if it is there."""
        app = self._session.app
        if app.loop is None or not app.is_running:
            return False

        def leave() -> None:
            if app.future is not None and not app.future.done():
                app.exit(exception=terminated)

        app.loop.call_soon_threadsafe(leave)
        return True


class PipedLines:
    """A message a line; a backslash at a line's end goes on with the next."""

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
    """One that is in memory only where there is no home, or none that can be written (any more)."""
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    class PrivateHistory(FileHistory):
        def load_history_strings(self) -> list[str]:
            try:
                return list(super().load_history_strings())
            except OSError:
                return []

        def store_string(self, string: str) -> None:
            with suppress(OSError):
                private_file("history")  # it may have been removed meanwhile
                super().store_string(string)

    try:
        return PrivateHistory(str(private_file("history")))
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
    def _go_on(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    return keys
