"""``h2o-chat conversations``: what is stored on the server."""

from __future__ import annotations

import sys

import click

from h2o_client.cli.connecting import Connection, connects
from h2o_client.cli.output import put_json, put_line, put_text, say, say_error
from h2o_client.cli.progress import waiting
from h2o_client.cli.statuses import status_of
from h2o_client.cli.table import in_a_line, show_table
from h2o_client.cli.transcript import document
from h2o_client.conversation import Conversation
from h2o_client.errors import H2oError
from h2o_client.session import H2oSession

_NONE = "There are no conversations. Those of a browser need its --cookie."


@click.group("conversations", invoke_without_command=True, subcommand_metavar="[COMMAND] [ARGS]...")
@connects
@click.option("--json", "as_json", is_flag=True, help="An object a line.")
@click.pass_context
def command(context: click.Context, connection: Connection, as_json: bool) -> int:
    """The conversations of a session, latest first. Those of a browser need its --cookie.

    \b
    Examples:
      h2o-chat conversations
      h2o-chat conversations show 6b02c9d11306e1473508e3f3
      h2o-chat conversations rename 6b02c9d11306e1473508e3f3 "On skies"
    """
    if context.invoked_subcommand is not None:
        return 0
    with connection.open() as client:
        _list(client, as_json)
    return 0


@command.command("list")
@connects
@click.option("--json", "as_json", is_flag=True, help="An object a line.")
@click.pass_context
def _listed(context: click.Context, connection: Connection, as_json: bool) -> int:
    """The same as no command: the conversations, latest first.

    \b
    Examples:
      h2o-chat conversations list
    """
    assert context.parent is not None
    with connection.open() as client:
        _list(client, as_json or context.parent.params["as_json"])
    return 0


@command.command("show")
@click.argument("id")
@connects
@click.option("--json", "as_json", is_flag=True, help="One object, with all that is known.")
def _show(connection: Connection, id: str, as_json: bool) -> int:
    """Shows what was said in a conversation.

    \b
    Examples:
      h2o-chat conversations show 6b02c9d11306e1473508e3f3
    """
    with connection.open() as client:
        text = document(client.conversation(id), "json" if as_json else "markdown")
    put_text(text)
    return 0


@command.command("rename")
@click.argument("id")
@click.argument("title")
@connects
def _rename(connection: Connection, id: str, title: str) -> int:
    """Gives a conversation another title.

    \b
    Examples:
      h2o-chat conversations rename 6b02c9d11306e1473508e3f3 "On skies"
    """
    with connection.open() as client:
        client.conversation(id).rename(title)
    return 0


@command.command("share")
@click.argument("id")
@connects
def _share(connection: Connection, id: str) -> int:
    """Makes a page that shows a conversation to anybody, and prints its address.

    \b
    Examples:
      h2o-chat conversations share 6b02c9d11306e1473508e3f3
    """
    with connection.open() as client:
        put_line(client.conversation(id).share())
    return 0


@command.command("delete")
@click.argument("ids", metavar="[ID]...", nargs=-1)
@connects
@click.option("--all", "everything", is_flag=True, help="All conversations of the session.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def _delete(connection: Connection, ids: tuple[str, ...], everything: bool, yes: bool) -> int:
    """Deletes conversations on the server. With --all it asks first.

    \b
    Examples:
      h2o-chat conversations delete 6b02c9d11306e1473508e3f3
      h2o-chat conversations delete --all --yes
    """
    if everything == bool(ids):
        raise click.UsageError("Say which conversations: their IDs, or --all.")
    if everything and not yes and not sys.stdin.isatty():
        raise click.UsageError("delete --all asks first, and nobody is there to answer: add --yes.")
    with connection.open() as client:
        if everything:
            return _delete_all(client, yes)
        # One that is not there is no reason to keep the others.
        tried = [_deleted(client, each, ids) for each in ids]
    return next((status for status in tried if status), 0)


def _list(client: H2oSession, as_json: bool) -> None:
    found = client.conversations()
    if as_json:
        for each in found:
            put_json({"id": each.id, "title": each.title})
    elif sys.stdout.isatty():
        with waiting("ApiClient which conversations there are"):
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
        with waiting("ApiClient which conversations there are"):
            found: list[Conversation] = list(client.conversations())
        if not found:
            say(_NONE)
            return 0
        question = f"Delete all {len(found)} conversations at {client.base_url}?"
        if not click.confirm(question, err=True):
            say("Nothing was deleted.")
            return 0
    with waiting("Deleting"):
        client.delete_conversations()
    return 0


def _deleted(client: H2oSession, id: str, ids: tuple[str, ...]) -> int:
    """The status of deleting one of them; what goes wrong is said."""
    try:
        client.conversation(id).delete()
    except H2oError as exc:
        say_error(exc, about=id if len(ids) > 1 else "")
        return status_of(exc)
    return 0
