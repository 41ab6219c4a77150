"""``h2o-chat export``: conversations as documents, to stdout or into files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import click

from h2o_client.cli.connecting import Connection, connects
from h2o_client.cli.output import put, say
from h2o_client.cli.progress import counted, waiting
from h2o_client.cli.transcript import Format, document, format_of, write_file
from h2o_client.conversation import Conversation
from h2o_client.session import H2oSession

_SUFFIXES = {"markdown": "md", "json": "json"}


@click.command("export")
@click.argument("ids", metavar="[ID]...", nargs=-1)
@connects
@click.option("--all", "everything", is_flag=True, help="All conversations of the session.")
@click.option("-o", "--output", metavar="PATH", help="A file; or a folder, which gets a file each.")
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
        _export(_found(client, ids), form, output)
    return 0


def _found(client: H2oSession, ids: tuple[str, ...]) -> list[Conversation]:
    if ids:
        return [client.conversation(each) for each in ids]
    with waiting("Asking which conversations there are"):
        return list(client.conversations())


def _export(found: list[Conversation], form: Format, output: str | None) -> None:
    steps: Iterable[Conversation] = found
    if len(found) > 1:
        steps = counted(found, "Exporting", total=len(found))
    if output is not None and (output.endswith("/") or Path(output).is_dir()):
        folder = Path(output)
        for conversation in steps:
            text = document(conversation, form)
            # A title is a server's word: it names no file.
            write_file(str(folder / f"{conversation.id}.{_SUFFIXES[form]}"), text)
        return
    if not found:
        say("There are no conversations. Those of a browser need its --cookie.")
    between = "" if form == "json" else "\n---\n\n"
    texts = (document(conversation, form) for conversation in steps)
    if output is not None:
        write_file(output, between.join(texts))
        return
    for place, text in enumerate(texts):
        put(between + text if place else text)
