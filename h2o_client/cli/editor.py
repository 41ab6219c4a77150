"""What a person types: a line editor on a terminal, else the lines that are piped in."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from h2o_client.cli.folder import private_file

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
        return self._session.prompt(default=default)


class PipedLines:
    """A message a line; a backslash at a line's end goes on with the next."""

    def ask(self, default: str = "") -> str:
        lines: list[str] = []
        while line := sys.stdin.readline():
            line = line.rstrip("\n")
            if not line.endswith("\\"):
                return "\n".join([*lines, line])
            lines.append(line[:-1])
        if lines:
            return "\n".join(lines)
        raise EOFError


def _history() -> History:
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    try:
        return FileHistory(str(private_file("history")))
    except OSError:
        # No home, or one that cannot be written: nothing that a chat could not do without.
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
