"""``h2o-chat PROMPT``: one prompt in, its answer to stdout."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, cast

import click

from h2o_client.cli.answer_output import Format, write_answer
from h2o_client.cli.exit import EPILOG, Terminated, status_of
from h2o_client.cli.input import piped_text
from h2o_client.cli.saved_answers import saving
from h2o_client.cli.shared_options import (
    Connection,
    PromptOptions,
    expect_text,
    note_kept,
    open_session,
    prompt_options,
    sampling_options,
    save_cookies,
    server_options,
)
from h2o_client.cli.terminal import Waiting, put_json
from h2o_client.cli.wording import in_shell, option
from h2o_client.errors import H2oError, spelled

if TYPE_CHECKING:
    from h2o_client.answer.reply import Reply
    from h2o_client.options import Options
    from h2o_client.session import H2oSession


class _Nameless(click.Context):
    """A context without a name of its own: usage and hints show ``h2o-chat`` alone."""

    @property
    def command_path(self) -> str:
        return self.parent.command_path if self.parent is not None else super().command_path


class _Asking(click.Command):
    """The prompt, which to the user is not a sub-command."""

    context_class: type[click.Context] = _Nameless


@click.command("ask", cls=_Asking, epilog=EPILOG)
@click.argument("prompt", nargs=-1, metavar="PROMPT...")
@server_options
@prompt_options
@click.option(
    "--file",
    "files",
    multiple=True,
    metavar="PATH",
    type=click.Path(exists=True, dir_okay=False),
    help="A file that goes with the prompt; may be repeated.",
)
@click.option("--markdown", is_flag=True, help="Show the answer as Markdown, as it grows.")
@click.option("--json", "as_json", is_flag=True, help="What the server says, an event a line.")
@click.option("--raw", is_flag=True, help="The answer byte for byte.")
def ask(
    connection: Connection,
    prompt: tuple[str, ...],
    files: tuple[str, ...],
    markdown: bool,
    as_json: bool,
    raw: bool,
    *,
    asked: PromptOptions,
) -> int:
    """Asks a chat-ui server. The answer goes to stdout as it comes.

    What is piped in follows the prompt, or stands where the prompt says "-"; in a loop that reads
    lines, say h2o-chat ... < /dev/null. Without a prompt, on a terminal, it is a chat. A server of
    your own: h2o-chat serve --help.

    \b
    Examples:
      h2o-chat --local "Why is the sky blue?"
      h2o-chat --url http://localhost:3000 -p temperature=0.7 "Tell me a joke"
      cat report.txt | h2o-chat "Summarise this"
      h2o-chat --keep "Name a river" && h2o-chat -c "And its source?"
    """
    form = _format(markdown=markdown, json=as_json, raw=raw)
    options = sampling_options(asked.parameters, files)
    is_bare = not (prompt or files) and form == "plain"
    if is_bare and sys.stdin.isatty() and sys.stdout.isatty():
        from h2o_client.cli.chat_command import run_chat

        return run_chat(connection, asked)
    question = _question(prompt)
    with (
        _errors_in_json(form) as replies,
        open_session(connection, asked) as (client, conversation_id),
        Waiting(f"Waiting for {client.base_url}", connection.timeouts.first_token),
        _send(client, conversation_id, question, asked, options) as reply,
        saving(client, reply, delete=not asked.is_for_kept) as note,
    ):
        replies.append(reply)
        save_cookies(client, asked.cookies_into)
        if asked.is_for_kept:
            note_kept(
                connection,
                client,
                reply.conversation_id,
                asked.cookies_into,
                is_new=not asked.is_for_existing,
            )
        write_answer(reply, form, note, connection.timeouts)
    return 0


def _send(
    client: H2oSession,
    conversation_id: str | None,
    question: str,
    asked: PromptOptions,
    options: Options,
) -> Reply:
    if conversation_id is not None:
        return client.conversation(conversation_id).stream(question, **options)
    return client.stream(question, system=asked.system, keep=asked.keep, **options)


@contextmanager
def _errors_in_json(form: Format) -> Iterator[list[Reply]]:
    """In JSON, the last line says what went wrong and has the text so far.

    The block appends the reply to the list that it is given.
    """
    replies: list[Reply] = []
    try:
        yield replies
    except H2oError as exc:
        if form == "json":
            _put_error(
                type(exc).__name__,
                exc.message,
                exc.partial,
                hint=spelled(exc.hint, in_shell),
                argument="" if exc.argument is None else option(exc.argument),
            )
            raise click.exceptions.Exit(status_of(exc)) from None
        raise
    except (KeyboardInterrupt, Terminated) as exc:
        if form == "json":
            partial = "".join(reply.text for reply in replies)
            _put_error(type(exc).__name__, "Interrupted", partial)
        raise


def _put_error(
    kind: str, message: str, partial: str, *, hint: str = "", argument: str = ""
) -> None:
    error = {"type": "error", "kind": kind, "message": message, "hint": hint, "partial": partial}
    if argument:
        error["option"] = argument
    with suppress(click.exceptions.Exit):  # nobody reads it: the error's own status tells more
        put_json(error)


def _format(**wanted: bool) -> Format:
    chosen = [cast(Format, name) for name, is_wanted in wanted.items() if is_wanted]
    if len(chosen) > 1:
        raise click.UsageError("Only one of --markdown, --json and --raw can be used.")
    return chosen[0] if chosen else "plain"


def _question(prompt: tuple[str, ...]) -> str:
    """The prompt of the arguments, with what is piped in after it, or instead of its "-"."""
    for word in prompt:
        expect_text(word)
    if "-" in prompt:
        parts = [each for each in _split(prompt) if each]
        question = "\n\n".join(piped_text() if part == "-" else part for part in parts)
    else:
        parts = [" ".join(prompt)]
        if not sys.stdin.isatty():
            parts.append(piped_text())
        question = "\n\n".join(part for part in parts if part.strip())
    if not question.strip():
        raise click.UsageError('The prompt is empty. Example: h2o-chat "Why is the sky blue?"')
    return question


def _split(prompt: tuple[str, ...]) -> list[str]:
    """The words before the first "-", the "-", and the words after it."""
    place = prompt.index("-")
    return [" ".join(prompt[:place]), "-", " ".join(prompt[place + 1 :])]
