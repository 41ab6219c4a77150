"""``h2o-chat chat``: a conversation on a terminal, or with lines from a pipe."""

from __future__ import annotations

import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from types import FrameType
from typing import TYPE_CHECKING

import click

from h2o_client.cli.answer_output import write_answer, write_markdown_text
from h2o_client.cli.conversation_file import branch
from h2o_client.cli.exit import BAD_CALL, EPILOG, status_of
from h2o_client.cli.input import Editor, NotText, open_editor, typing_ahead
from h2o_client.cli.kept_conversations import remember
from h2o_client.cli.saved_answers import saving
from h2o_client.cli.shared_options import (
    Connection,
    PromptOptions,
    note_kept,
    open_session,
    prompt_options,
    sampling_options,
    save_cookies,
    server_options,
)
from h2o_client.cli.slash_commands import NAMES, Left, run_slash_command
from h2o_client.cli.terminal import Waiting, in_a_line, put, say, say_error
from h2o_client.errors import H2oError

if TYPE_CHECKING:
    from h2o_client.answer.reply import Reply
    from h2o_client.conversation import Conversation
    from h2o_client.messages import Message
    from h2o_client.options import Options
    from h2o_client.session import H2oSession


_ID = re.compile("[0-9a-f]{24}", re.IGNORECASE)


@click.command("chat", epilog=EPILOG)
@click.argument("conversation_id", metavar="[ID]", required=False)
@server_options
@prompt_options
def chat(connection: Connection, conversation_id: str | None, *, chosen: PromptOptions) -> int:
    """Chat with a server. Answers are shown as Markdown; /help lists the commands.

    With an ID, continue the conversation with this ID; with -c, the last kept one. Enter sends;
    Esc-Enter, or a backslash at the end of a line, starts a new line. Ctrl-C stops an answer and
    keeps its text; Ctrl-D leaves. If stdin is not a terminal, each line is a message, and Ctrl-C
    ends the command.

    \b
    Examples:
      h2o-chat chat --url http://localhost:3000 -s "You are a pirate."
      h2o-chat chat --local < questions.txt
    """
    if conversation_id is not None and not _ID.fullmatch(conversation_id):
        raise click.UsageError(
            f"Invalid conversation ID {conversation_id}. An ID has 24 characters, 0 to 9 and a to "
            f"f. To send it as a prompt: h2o-chat ask {conversation_id}"
        )
    return run_chat(connection, chosen.in_conversation(conversation_id))


def run_chat(connection: Connection, chosen: PromptOptions) -> int:
    """Chat until the user leaves. With lines from a pipe, the first error sets the exit status."""
    options = sampling_options(chosen.parameters)
    with open_session(connection, chosen) as (client, conversation_id):
        talk = Chat(client, open_editor(NAMES), connection, chosen, options)
        if sys.stdin.isatty():
            say(f"A chat with {client.base_url}. /help lists the commands, Ctrl-D leaves.")
        try:
            if conversation_id is not None:
                talk.open(conversation_id)
            talk.run()
        finally:
            talk.conversation.close()
            save_cookies(client, chosen.save_to)
            talk.note_kept()
    return 0 if sys.stdin.isatty() else talk.status


class Chat:
    """The state of a chat: its conversation, and the last prompt."""

    def __init__(
        self,
        client: H2oSession,
        editor: Editor,
        connection: Connection,
        chosen: PromptOptions,
        options: Options,
    ) -> None:
        self.client = client
        self.editor = editor
        self.connection = connection
        self.options = options
        self.system: str | None = chosen.system
        self.model: str | None = None  # overrides the session's
        self.prompt: str | None = None  # the last one
        self.is_taken: bool = False  # whether the server has received that prompt
        self.files: list[str] = []  # the files of the last prompt
        self.attached: list[str] = []  # the files for the next prompt
        self.parameters: dict[str, str] = {
            each.partition("=")[0]: each for each in chosen.parameters
        }
        self.listed: list[str] = []  # the conversations that /open has shown
        self.status: int = 0
        self.is_typed: bool = sys.stdin.isatty()  # if so, Ctrl-C does not end the chat
        self._chosen = chosen
        self._is_kept: bool = chosen.keep  # whether the conversation is kept
        self._is_new: bool = True  # and was created by this chat
        self.conversation: Conversation = self._new()

    def run(self) -> None:
        """Read messages and show their answers until the end of the input."""
        while True:
            try:
                typed = self.editor.ask()
            except EOFError:
                return
            except NotText as exc:
                self._say_usage(exc)
                continue
            except KeyboardInterrupt:
                if not self.is_typed:
                    raise
                continue
            try:
                self._do(typed)
            except Left:
                return
            except H2oError as exc:
                say_error(exc, chat=True)
                self._end_of_error()
                self.status = self.status or status_of(exc)
            except click.ClickException as exc:
                self._say_usage(exc)
            except (KeyboardInterrupt, EOFError) as exc:
                # After a second Ctrl-C, or from an editor that a slash command opened.
                if isinstance(exc, KeyboardInterrupt) and not self.is_typed:
                    raise

    def begin(self) -> None:
        """Start a new conversation. The previous one is deleted, unless it is kept."""
        self.conversation.close()
        self.note_kept()
        self.conversation = self._new()
        self._is_kept, self._is_new = self._chosen.keep, True
        self.prompt, self.is_taken = None, False

    def open(self, conversation_id: str) -> None:
        """Continue an existing conversation. The previous one is deleted, unless it is kept.

        Raises `H2oError` if it cannot be read. Then the chat stays in the previous one.
        """
        opened = self.client.conversation(conversation_id)
        messages = branch(opened.messages())
        self.conversation.close()
        self.note_kept()
        opened.on_wait = _say_wait
        self.conversation = opened
        self._is_kept, self._is_new = True, False
        prompts = [each.content for each in messages if each.role == "user"]
        self.prompt, self.is_taken = (prompts[-1] if prompts else None), True
        if self.is_typed:
            self._show(opened.title, messages)

    def _show(self, title: str | None, messages: Sequence[Message]) -> None:
        """Show the title of the conversation, and its last prompt and answer."""
        count = sum(each.role != "system" for each in messages)
        say(f"({in_a_line(title or 'Untitled')}: {count} messages.)")
        if self.prompt is not None:
            say(f"> {in_a_line(self.prompt)}")
        if messages and messages[-1].role == "assistant":
            write_markdown_text(messages[-1].content)
            put("\n")

    def note_kept(self) -> None:
        """Record a kept conversation for ``--continue``, and say so if it is new."""
        if self._is_kept:
            note_kept(
                self.connection,
                self.client,
                self.conversation.id,
                self._chosen.save_to,
                is_new=self._is_new,
            )
            self._is_new = False

    def say(self, text: str, files: Sequence[str] = ()) -> None:
        """Send a message with files, and show the answer."""
        self.prompt, self.files, self.is_taken = text, [*files], False
        options: Options = {**self.options}
        if files:
            options["files"] = self.files
        self.answer(lambda: self.conversation.stream(text, **options))

    def answer(self, send: Callable[[], Reply]) -> None:
        """Call ``send`` and show the answer; Ctrl-C stops it."""
        timeouts = self.connection.timeouts
        try:
            with (
                typing_ahead() if self.is_typed else nullcontext(),
                _ctrl_c(self.conversation.stop) if self.is_typed else nullcontext(),
                Waiting(f"Waiting for {self.client.base_url}", timeouts.first_token),
                send() as reply,
                saving(self.client, reply) as note,
            ):
                if self._is_kept and not self.connection.local:
                    remember(self.client, reply.conversation_id)
                write_answer(reply, "markdown", note, timeouts)
        except H2oError as exc:
            self.is_taken = self.is_taken or exc.resendable is False
            raise
        self.is_taken = True
        if sys.stdout.isatty():
            put("\n")
        if reply.finish_reason == "stopped":
            say("(Stopped. /retry requests another answer.)")
        elif reply.finish_reason == "length":
            say("(The answer reached the maximum length.)")

    def _say_usage(self, error: click.ClickException) -> None:
        say(f"Error: {error.format_message()}")
        self._end_of_error()
        self.status = self.status or BAD_CALL

    def _end_of_error(self) -> None:
        if self.is_typed and sys.stderr.isatty():
            say("")

    def _do(self, typed: str) -> None:
        if typed.startswith("//"):
            self._say_new(typed[1:])
        elif typed.startswith("/"):
            run_slash_command(self, typed)
        elif typed.strip():
            self._say_new(typed)

    def _say_new(self, text: str) -> None:
        files, self.attached = self.attached, []
        self.say(text, files)

    def _new(self) -> Conversation:
        new = self.client.conversation(
            system=self.system, model=self.model or self._chosen.model, keep=self._chosen.keep
        )
        new.on_wait = _say_wait
        return new


def _say_wait() -> None:
    say("(Waiting for the server to end the earlier answer. Ctrl-C gives up.)")


@contextmanager
def _ctrl_c(stop: Callable[[], None]) -> Iterator[None]:
    """Within the block, the first Ctrl-C calls ``stop``, and the second one interrupts."""
    pressed = threading.Event()

    def handle(number: int, frame: FrameType | None) -> None:
        if pressed.is_set():
            raise KeyboardInterrupt
        pressed.set()
        # In a thread, because the interrupted code may hold a lock that the stop needs.
        threading.Thread(target=stop, daemon=True).start()

    former = signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)
