"""``h2o-chat PROMPT``: send one prompt, and write the answer to stdout."""

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
    """A context without its own name: usage and hints show only ``h2o-chat``."""

    @property
    def command_path(self) -> str:
        return self.parent.command_path if self.parent is not None else super().command_path


class _PromptCommand(click.Command):
    """The command for prompts, which does not look like a sub-command."""

    context_class: type[click.Context] = _Nameless


@click.command(
    "ask",
    cls=_PromptCommand,
    epilog=EPILOG,
    short_help="Send a prompt, and write the answer to stdout.",
)
@click.argument("prompt", nargs=-1, metavar="PROMPT...")
@server_options
@prompt_options
@click.option(
    "--file",
    "files",
    multiple=True,
    metavar="PATH",
    type=click.Path(exists=True, dir_okay=False),
    help="Send this file with the prompt; may be repeated.",
)
@click.option("--markdown", is_flag=True, help="Show the answer as formatted Markdown.")
@click.option(
    "--json", "as_json", is_flag=True, help="Write the events as JSON, one object per line."
)
@click.option("--raw", is_flag=True, help="Write the answer unchanged, also to a terminal.")
def ask(
    connection: Connection,
    prompt: tuple[str, ...],
    files: tuple[str, ...],
    markdown: bool,
    as_json: bool,
    raw: bool,
    *,
    chosen: PromptOptions,
) -> int:
    """Send a prompt to a chat-ui server, and write the answer to stdout as it arrives.

    Text from a pipe is added after the prompt, or in place of a "-" in the prompt. In a "while
    read" loop, add < /dev/null to the command. On a terminal, without a prompt, a chat starts. To
    run your own server, see h2o-chat serve --help.

    \b
    Examples:
      h2o-chat --local "Why is the sky blue?"
      h2o-chat --url http://localhost:3000 "Tell me a joke"
      cat report.txt | h2o-chat "Summarise this"
      h2o-chat --keep "Name a river" && h2o-chat -c "And its source?"
    """
    form = _format(markdown=markdown, json=as_json, raw=raw)
    options = sampling_options(chosen.parameters, files)
    is_bare = not (prompt or files) and form == "plain"
    if is_bare and sys.stdin.isatty() and sys.stdout.isatty():
        from h2o_client.cli.chat_command import run_chat

        return run_chat(connection, chosen)
    text = _prompt_text(prompt)
    with (
        _errors_in_json(form) as replies,
        open_session(connection, chosen) as (client, conversation_id),
        Waiting(f"Waiting for {client.base_url}", connection.timeouts.first_token),
        _send(client, conversation_id, text, chosen, options) as reply,
        saving(client, reply, delete=not chosen.is_for_kept) as note,
    ):
        replies.append(reply)
        save_cookies(client, chosen.save_to)
        if chosen.is_for_kept:
            note_kept(
                connection,
                client,
                reply.conversation_id,
                chosen.save_to,
                is_new=not chosen.is_for_existing,
            )
        write_answer(reply, form, note, connection.timeouts)
    return 0


def _send(
    client: H2oSession,
    conversation_id: str | None,
    text: str,
    chosen: PromptOptions,
    options: Options,
) -> Reply:
    if conversation_id is not None:
        return client.conversation(conversation_id).stream(text, **options)
    return client.stream(text, system=chosen.system, keep=chosen.keep, **options)


@contextmanager
def _errors_in_json(form: Format) -> Iterator[list[Reply]]:
    """With ``--json``, write an error as the last line, with the text so far.

    The block appends its reply to the list that this yields.
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
    with suppress(click.exceptions.Exit):  # the exit status of the error is more useful
        put_json(error)


def _format(**wanted: bool) -> Format:
    chosen = [cast(Format, name) for name, is_wanted in wanted.items() if is_wanted]
    if len(chosen) > 1:
        raise click.UsageError("Only one of --markdown, --json and --raw can be used.")
    return chosen[0] if chosen else "plain"


def _prompt_text(prompt: tuple[str, ...]) -> str:
    """The prompt from the arguments, with the text from a pipe after it or in place of "-"."""
    for word in prompt:
        expect_text(word)
    if "-" in prompt:
        parts = [each for each in _split(prompt) if each]
        text = "\n\n".join(piped_text() if part == "-" else part for part in parts)
    else:
        parts = [" ".join(prompt)]
        if not sys.stdin.isatty():
            parts.append(piped_text())
        text = "\n\n".join(part for part in parts if part.strip())
    if not text.strip():
        raise click.UsageError('The prompt is empty. Example: h2o-chat "Why is the sky blue?"')
    return text


def _split(prompt: tuple[str, ...]) -> list[str]:
    """Split the prompt at its first "-": the words before it, "-", and the words after it."""
    place = prompt.index("-")
    return [" ".join(prompt[:place]), "-", " ".join(prompt[place + 1 :])]
