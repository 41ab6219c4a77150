"""``h2o-chat conversations`` and ``h2o-chat export``: the conversations on the server."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from h2o_client.cli.conversation_file import (
    DocumentFormat,
    document,
    format_of,
    make_folder,
    write_file,
)
from h2o_client.cli.exit import REFUSED, status_of
from h2o_client.cli.kept_conversations import forget
from h2o_client.cli.shared_options import Connection, open_stored, server_options
from h2o_client.cli.terminal import (
    Waiting,
    counted,
    in_a_line,
    put_json,
    put_line,
    put_text,
    say,
    say_error,
    show_table,
)
from h2o_client.errors import H2oError, NotFoundError

if TYPE_CHECKING:
    from h2o_client.conversation import Conversation
    from h2o_client.session import H2oSession

_NONE = "There are no conversations. To use those of a browser, pass its cookie with --cookie."
_SUFFIXES = {"markdown": "md", "json": "json"}
_LISTING = "Listing the conversations"


@click.group("conversations", invoke_without_command=True, subcommand_metavar="[COMMAND] [ARGS]...")
@server_options
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object per line.")
@click.pass_context
def conversations(context: click.Context, connection: Connection, as_json: bool) -> int:
    """List or change the conversations of a session.

    To use the conversations of a browser, pass its cookie with --cookie.

    \b
    Examples:
      h2o-chat conversations
      h2o-chat conversations show 6b02c9d11306e1473508e3f3
      h2o-chat conversations rename 6b02c9d11306e1473508e3f3 "On skies"
    """
    if context.invoked_subcommand is not None:
        return 0
    with open_stored(connection) as client:
        _list(client, as_json)
    return 0


@conversations.command("list")
@server_options
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object per line.")
@click.pass_context
def _list_all(context: click.Context, connection: Connection, as_json: bool) -> int:
    """List the conversations, latest first. This is the default command.

    \b
    Examples:
      h2o-chat conversations list
    """
    assert context.parent is not None
    with open_stored(connection) as client:
        _list(client, as_json or context.parent.params["as_json"])
    return 0


@conversations.command("show")
@click.argument("id")
@server_options
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object with all details.")
def _show(connection: Connection, id: str, as_json: bool) -> int:
    """Show the messages of a conversation.

    \b
    Examples:
      h2o-chat conversations show 6b02c9d11306e1473508e3f3
    """
    with open_stored(connection, id) as client, Waiting(f"Waiting for {client.base_url}"):
        text = document(client.conversation(id), "json" if as_json else "markdown")
    put_text(text)
    return 0


@conversations.command("rename")
@click.argument("id")
@click.argument("title")
@server_options
def _rename(connection: Connection, id: str, title: str) -> int:
    """Rename a conversation.

    \b
    Examples:
      h2o-chat conversations rename 6b02c9d11306e1473508e3f3 "On skies"
    """
    with open_stored(connection, id) as client, Waiting(f"Waiting for {client.base_url}"):
        client.conversation(id).rename(title)
    return 0


@conversations.command("share")
@click.argument("id")
@server_options
def _share(connection: Connection, id: str) -> int:
    """Share a conversation on a public page, and print the address of the page.

    \b
    Examples:
      h2o-chat conversations share 6b02c9d11306e1473508e3f3
    """
    with open_stored(connection, id) as client, Waiting(f"Waiting for {client.base_url}"):
        put_line(client.conversation(id).share())
    return 0


@conversations.command("delete")
@click.argument("ids", metavar="[ID]...", nargs=-1)
@server_options
@click.option("--all", "everything", is_flag=True, help="All conversations of the session.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def _delete(connection: Connection, ids: tuple[str, ...], everything: bool, yes: bool) -> int:
    """Delete conversations on the server. With --all, ask for confirmation.

    \b
    Examples:
      h2o-chat conversations delete 6b02c9d11306e1473508e3f3
      h2o-chat conversations delete --all --yes
    """
    if everything == bool(ids):
        raise click.UsageError("Give the IDs of conversations, or --all.")
    if everything and not yes and not sys.stdin.isatty():
        raise click.UsageError("delete --all needs a terminal to ask for confirmation, or --yes.")
    with open_stored(connection, None if everything else ids[0]) as client:
        if everything:
            return _delete_all(client, yes)
        # Delete the others even if one does not exist.
        tried = [_delete_one(client, each, ids) for each in ids]
    return next((status for status in tried if status), 0)


@click.command("export")
@click.argument("ids", metavar="[ID]...", nargs=-1)
@server_options
@click.option("--all", "everything", is_flag=True, help="All conversations of the session.")
@click.option(
    "-o",
    "--output",
    metavar="PATH",
    help="A file, or a folder with one file per conversation (DIR/ creates the folder).",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(list(_SUFFIXES)),
    help="Markdown, or JSON with one object per line [default: by the file's name].",
)
def export(
    connection: Connection,
    ids: tuple[str, ...],
    everything: bool,
    output: str | None,
    form: DocumentFormat | None,
) -> int:
    """Export conversations.

    To export the conversations of a browser, pass its cookie with --cookie. Markdown files contain
    only the latest branch of a conversation; JSON files contain everything that the server sends.

    \b
    Examples:
      h2o-chat export 6b02c9d11306e1473508e3f3 -o chat.md
      h2o-chat export --all --format json > chats.jsonl
    """
    if everything == bool(ids):
        raise click.UsageError("Give the IDs of conversations, or --all.")
    form = form or format_of(output or "")
    with open_stored(connection, ids[0] if ids else None) as client:
        gone: list[str] = []
        _export(_find(client, ids), form, output, gone)
    if not gone:
        return 0
    say(f"Not exported, because the server no longer has them: {', '.join(gone)}.")
    # With --all, a conversation that was deleted in the meantime is not an error.
    return REFUSED if ids else 0


def _list(client: H2oSession, as_json: bool) -> None:
    found = client.conversations()
    if as_json:
        for each in found:
            put_json({"id": each.id, "title": each.title})
    elif sys.stdout.isatty():
        with Waiting(_LISTING):
            rows = [(each.id or "", each.title or "") for each in found]
        if rows:
            show_table(("ID", "TITLE"), rows)
        else:
            say(_NONE)
    else:
        for each in found:
            put_line(f"{each.id}\t{in_a_line(each.title or '')}")


def _delete_all(client: H2oSession, yes: bool) -> int:
    if not yes:
        with Waiting(_LISTING):
            found: list[Conversation] = list(client.conversations())
        if not found:
            say(_NONE)
            return 0
        question = f"Delete all {len(found)} conversations at {client.base_url}?"
        if not click.confirm(question, err=True):
            say("Nothing was deleted.")
            return 0
    with Waiting("Deleting"):
        client.delete_conversations()
    forget(client.base_url)
    return 0


def _delete_one(client: H2oSession, id: str, ids: tuple[str, ...]) -> int:
    """Delete one of the conversations. Write its error to stderr, and return its exit status."""
    try:
        with Waiting(f"Deleting {id}"):
            client.conversation(id).delete()
        forget(client.base_url, id)
    except H2oError as exc:
        say_error(exc, about=id if len(ids) > 1 else "")
        return status_of(exc)
    return 0


def _find(client: H2oSession, ids: tuple[str, ...]) -> list[Conversation]:
    if ids:
        return [client.conversation(each) for each in ids]
    with Waiting(_LISTING):
        return list(client.conversations())


def _export(
    found: list[Conversation], form: DocumentFormat, output: str | None, gone: list[str]
) -> None:
    if not found:
        say(_NONE)
    texts = _documents(found, form, gone)
    if output is not None and (output.endswith("/") or Path(output).is_dir()):
        make_folder(output)
        for conversation, text in texts:
            # The name is the id, not the title, which is text from the server.
            write_file(str(Path(output) / f"{conversation.id}.{_SUFFIXES[form]}"), text)
        return
    between = "" if form == "json" else "\n---\n\n"
    if output is not None:
        write_file(output, between.join(text for _, text in texts))
        return
    for place, (_, text) in enumerate(texts):
        put_text(between + text if place else text)


def _documents(
    found: list[Conversation], form: DocumentFormat, gone: list[str]
) -> Iterator[tuple[Conversation, str]]:
    """Yield each conversation with its document. Ids of deleted ones are appended to ``gone``."""
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
