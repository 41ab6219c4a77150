"""``h2o-chat PROMPT``: one prompt in, its answer to stdout."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import cast

import click

from h2o_client.answer.reply import Reply
from h2o_client.cli.answer import Manner, write
from h2o_client.cli.asking import asks, options_of, save_cookies, tell_kept
from h2o_client.cli.connecting import Connection, connects
from h2o_client.cli.last import kept
from h2o_client.cli.output import put_json
from h2o_client.cli.piped import piped
from h2o_client.cli.signals import Terminated
from h2o_client.cli.statuses import EPILOG, status_of
from h2o_client.cli.wording import in_shell
from h2o_client.errors import H2oError


class _Nameless(click.Context):
    """What is no command has no name: usage and hints show the command's alone."""

    @property
    def command_path(self) -> str:
        return self.parent.command_path if self.parent is not None else super().command_path


class _Asking(click.Command):
    """A prompt, which is no command to who types it."""

    context_class: type[click.Context] = _Nameless


@click.command("ask", cls=_Asking, epilog=EPILOG)
@click.argument("prompt", nargs=-1, metavar="PROMPT...")
@connects
@asks
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
def command(
    connection: Connection,
    prompt: tuple[str, ...],
    model: str | None,
    system: str | None,
    parameters: tuple[str, ...],
    keep: bool,
    cookies_into: str | None,
    files: tuple[str, ...],
    markdown: bool,
    as_json: bool,
    raw: bool,
) -> int:
    """Asks a chat-ui server. The answer goes to stdout as it comes.

    What is piped in follows the prompt, or stands where the prompt says "-". Without a prompt, on
    a terminal, it is a chat. A server of your own: h2o-chat serve --help.

    \b
    Examples:
      h2o-chat --local "Why is the sky blue?"
      h2o-chat --url http://localhost:3000 -p temperature=0.7 "Tell me a joke"
      cat report.txt | h2o-chat "Summarise this"
    """
    manner = _manner(markdown=markdown, json=as_json, raw=raw)
    options = options_of(parameters, files)
    is_bare = not (prompt or files) and manner == "plain"
    if is_bare and sys.stdin.isatty() and sys.stdout.isatty():
        from h2o_client.cli.chat import chat

        return chat(
            connection,
            model=model,
            system=system,
            keep=keep,
            options=options,
            cookies_into=cookies_into,
        )
    question = _question(prompt)
    with (
        _last_words(manner) as replies,
        connection.open(model=model) as client,
        client.stream(question, system=system, keep=keep, **options) as reply,
        kept(client, reply, delete=not keep) as note,
    ):
        replies.append(reply)
        save_cookies(client, cookies_into)
        if keep:
            tell_kept(client, reply.conversation_id, cookies_into, local=connection.local)
        write(reply, manner, note)
    return 0


@contextmanager
def _last_words(manner: Manner) -> Iterator[list[Reply]]:
    """In JSON the last line tells what went wrong, and what came before of the reply, if any."""
    replies: list[Reply] = []
    try:
        yield replies
    except H2oError as exc:
        if manner == "json":
            _put_error(type(exc).__name__, in_shell(str(exc)), exc.partial)
            raise click.exceptions.Exit(status_of(exc)) from None
        raise
    except (KeyboardInterrupt, Terminated) as exc:
        if manner == "json":
            partial = "".join(reply.text for reply in replies)
            _put_error(type(exc).__name__, "It was interrupted.", partial)
        raise


def _put_error(kind: str, message: str, partial: str) -> None:
    with suppress(click.exceptions.Exit):  # nobody reads it: the error's own status tells more
        put_json({"type": "error", "kind": kind, "message": message, "partial": partial})


def _manner(**wanted: bool) -> Manner:
    chosen = [cast(Manner, name) for name, is_wanted in wanted.items() if is_wanted]
    if len(chosen) > 1:
        raise click.UsageError("--markdown, --json and --raw: it is one of them.")
    return chosen[0] if chosen else "plain"


def _question(prompt: tuple[str, ...]) -> str:
    """The prompt of the arguments, with what is piped in behind it or in the place of its "-"."""
    if "-" in prompt:
        parts = [each for each in _split(prompt) if each]
        question = "\n\n".join(piped() if part == "-" else part for part in parts)
    else:
        parts = [" ".join(prompt)]
        if not sys.stdin.isatty():
            parts.append(piped())
        question = "\n\n".join(part for part in parts if part.strip())
    if not question.strip():
        raise click.UsageError('There is no prompt: h2o-chat "Why is the sky blue?"')
    return question


def _split(prompt: tuple[str, ...]) -> list[str]:
    """The words before the first "-", that, and those behind it."""
    place = prompt.index("-")
    return [" ".join(prompt[:place]), "-", " ".join(prompt[place + 1 :])]
