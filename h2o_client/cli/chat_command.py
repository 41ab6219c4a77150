"""``h2o-chat chat``: a conversation on a terminal, or with the lines that are piped in."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from types import FrameType
from typing import TYPE_CHECKING

import click

from h2o_client.cli.answer_output import write_answer
from h2o_client.cli.exit import BAD_CALL, EPILOG, status_of
from h2o_client.cli.input import Editor, open_editor
from h2o_client.cli.saved_answers import saving
from h2o_client.cli.shared_options import (
    Connection,
    prompt_options,
    sampling_options,
    save_cookies,
    say_kept,
    server_options,
)
from h2o_client.cli.slash_commands import NAMES, Left, run_slash_command
from h2o_client.cli.terminal import put, say, say_error
from h2o_client.errors import H2oError

if TYPE_CHECKING:
    from h2o_client.answer.reply import Reply
    from h2o_client.conversation import Conversation
    from h2o_client.options import Options
    from h2o_client.session import H2oSession


@click.command("chat", epilog=EPILOG)
@server_options
@prompt_options
def chat(
    connection: Connection,
    model: str | None,
    system: str | None,
    parameters: tuple[str, ...],
    keep: bool,
    cookies_into: str | None,
) -> int:
    """A conversation, whose answers are shown as Markdown. /help in it shows what can be done.

    Enter sends; Esc-Enter, or a backslash at the end of a line, begins another line. Ctrl-C stops
    an answer and keeps what came of it, Ctrl-D leaves. Without a terminal, each line that is piped
    in is a message, and Ctrl-C ends it all.

    \b
    Examples:
      h2o-chat chat --url http://localhost:3000 -s "You are a pirate."
      h2o-chat chat --local < questions.txt
    """
    options = sampling_options(parameters)
    return run_chat(
        connection,
        model=model,
        system=system,
        keep=keep,
        options=options,
        cookies_into=cookies_into,
    )


def run_chat(
    connection: Connection,
    *,
    model: str | None,
    system: str | None,
    keep: bool,
    options: Options,
    cookies_into: str | None = None,
) -> int:
    """Chat until the user leaves. With piped lines, the first error is the exit status."""
    with connection.open(model=model) as client:
        talk = Chat(
            client,
            open_editor(NAMES),
            connection,
            system=system,
            keep=keep,
            options=options,
        )
        if sys.stdin.isatty():
            say(f"A chat with {client.base_url}. /help shows what can be done, Ctrl-D leaves.")
        try:
            talk.run()
        finally:
            talk.conversation.close()
            save_cookies(client, cookies_into)
        if keep:
            say_kept(client, talk.conversation.id, cookies_into, local=connection.local)
    return 0 if sys.stdin.isatty() else talk.status


class Chat:
    """The state of a chat: its conversation, and what was sent last."""

    def __init__(
        self,
        client: H2oSession,
        editor: Editor,
        connection: Connection,
        *,
        system: str | None,
        keep: bool,
        options: Options,
    ) -> None:
        self.client = client
        self.editor = editor
        self.connection = connection
        self.options = options
        self.system = system
        self.model: str | None = None  # instead of the session's
        self.prompt: str | None = None  # the last one
        self.is_taken: bool = False  # whether the server has that prompt
        self.status: int = 0
        self._keep = keep
        self.is_typed: bool = sys.stdin.isatty()  # Ctrl-C ends a message then, and not the chat
        self.conversation: Conversation = self._new()

    def run(self) -> None:
        """Read messages and show their answers until the end of the input."""
        while True:
            try:
                typed = self.editor.ask()
            except EOFError:
                return
            except KeyboardInterrupt:
                if not self.is_typed:
                    raise
                continue
            try:
                self._do(typed)
            except Left:
                return
            except H2oError as exc:
                say_error(exc, in_chat=True)
                self._end_of_error()
                self.status = self.status or status_of(exc)
            except click.ClickException as exc:
                say(f"Error: {exc.format_message()}")
                self._end_of_error()
                self.status = self.status or BAD_CALL
            except (KeyboardInterrupt, EOFError) as exc:
                # From a second Ctrl-C, or from an editor that a slash command opened.
                if isinstance(exc, KeyboardInterrupt) and not self.is_typed:
                    raise

    def begin(self) -> None:
        """Begin another conversation; the one before is deleted, unless ``--keep`` was given."""
        self.conversation.close()
        self.conversation = self._new()
        self.prompt, self.is_taken = None, False

    def say(self, text: str) -> None:
        """Send a message and show the answer."""
        self.prompt, self.is_taken = text, False
        self.answer(lambda: self.conversation.stream(text, **self.options))

    def answer(self, send: Callable[[], Reply]) -> None:
        """Call ``send`` and show the answer; Ctrl-C stops it."""
        try:
            with (
                _ctrl_c(self.conversation.stop) if self.is_typed else nullcontext(),
                send() as reply,
                saving(self.client, reply) as note,
            ):
                write_answer(reply, "markdown", note)
        except H2oError as exc:
            self.is_taken = self.is_taken or exc.resendable is False
            raise
        self.is_taken = True
        if sys.stdout.isatty():
            put("\n")
        if reply.finish_reason == "stopped":
            say("(Stopped. /retry asks again.)")
        elif reply.finish_reason == "length":
            say("(The answer ended at the length allowed.)")

    def _end_of_error(self) -> None:
        if self.is_typed and sys.stderr.isatty():
            say("")

    def _do(self, typed: str) -> None:
        if typed.startswith("/"):
            run_slash_command(self, typed)
        elif typed.strip():
            self.say(typed)

    def _new(self) -> Conversation:
        new = self.client.conversation(system=self.system, model=self.model, keep=self._keep)
        new.on_wait = _say_wait
        return new


def _say_wait() -> None:
    say("(Waiting until the server has ended the earlier answer. Ctrl-C gives up.)")


@contextmanager
def _ctrl_c(stop: Callable[[], None]) -> Iterator[None]:
    """The first Ctrl-C calls ``stop``, and what still comes is shown; the second interrupts."""
    pressed = threading.Event()

    def handle(number: int, frame: FrameType | None) -> None:
        if pressed.is_set():
            raise KeyboardInterrupt
        pressed.set()
        # Not here: what was interrupted may hold the lock that a stop needs.
        threading.Thread(target=stop, daemon=True).start()

    former = signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)
