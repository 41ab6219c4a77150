"""``h2o-chat export``: conversations as documents, to stdout or into files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from h2o_client.cli.connecting import Connection, connects
from h2o_client.cli.output import put_text, say
from h2o_client.cli.progress import counted, waiting
from h2o_client.cli.statuses import REFUSED
from h2o_client.cli.transcript import Format, document, format_of
from h2o_client.cli.written import make_folder, write_file
from h2o_client.conversation import Conversation
from h2o_client.errors import NotFoundError
from h2o_client.session import H2oSession

_SUFFIXES = {"markdown": "md", "json": "json"}


@click.command("export")
@click.argument("ids", metavar="[ID]...", nargs=-1)
@connects
@click.option("--all", "everything", is_flag=True, help="All conversations of the session.")
@click.option(
    "-o",
    "--output",
    metavar="PATH",
    help="A file; or a folder, which gets a file each (DIR/ makes it).",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(list(_SUFFIXES)),
    help="Markdown to read, or JSON, one object a line; else as the file's name says.",
)
def command(
    connection: Connection,
    ids: tuple[str, ...],
    everything: bool,
    output: str | None,
    form: Format | None,
) -> int:
    """Writes conversations out. Those of a browser need its --cookie.

    Markdown has the latest branch of a conversation, JSON has all that the server tells.

    \b
    Examples:
      h2o-chat export 6b02c9d11306e1473508e3f3 -o chat.md
      h2o-chat export --all --format json > chats.jsonl
    """
    if everything == bool(ids):
        raise click.UsageError("Say which conversations: their IDs, or --all.")
    form = form or format_of(output or "")
    with connection.open() as client:
        gone: list[str] = []
        _export(_found(client, ids), form, output, gone)
    if not gone:
        return 0
    say(f"Not exported, for the server has them no more: {', '.join(gone)}.")
    # Of all that there are, one that is not there is none.
    return REFUSED if ids else 0


def _found(client: H2oSession, ids: tuple[str, ...]) -> list[Conversation]:
    if ids:
        return [client.conversation(each) for each in ids]
    with waiting("ApiClient which conversations there are"):
        return list(client.conversations())


def _export(found: list[Conversation], form: Format, output: str | None, gone: list[str]) -> None:
    if not found:
        say("There are no conversations. Those of a browser need its --cookie.")
    texts = _documents(found, form, gone)
    if output is not None and (output.endswith("/") or Path(output).is_dir()):
        make_folder(output)
        for conversation, text in texts:
            # A title is a server's word: it names no file.
            write_file(str(Path(output) / f"{conversation.id}.{_SUFFIXES[form]}"), text)
        return
    between = "" if form == "json" else "\n---\n\n"
    if output is not None:
        write_file(output, between.join(text for _, text in texts))
        return
    for place, (_, text) in enumerate(texts):
        put_text(between + text if place else text)


def _documents(
    found: list[Conversation], form: Format, gone: list[str]
) -> Iterator[tuple[Conversation, str]]:
    """Each with its document. Those that are not there any more are told to ``gone``."""
    steps: Iterable[Conversation] = found
    if len(found) > 1:
        steps = counted(found, "Exporting", total=len(found))
    for conversation in steps:
        try:
            text = document(conversation, form)
        except NotFoundError:
            gone.append(str(conversation.id))
        else:
            yield conversation, text
