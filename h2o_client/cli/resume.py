"""``h2o-chat resume``: the answer that the network, or the end of a program, cut short."""

from __future__ import annotations

from dataclasses import replace

import click

from h2o_client.cli import last
from h2o_client.cli.answer import write
from h2o_client.cli.connecting import Connection, connects
from h2o_client.cli.last import Last, kept
from h2o_client.cli.statuses import EPILOG
from h2o_client.errors import NotFoundError, UnsupportedError


@click.command("resume", epilog=EPILOG)
@connects
@click.option("--rest", is_flag=True, help="Print only what had not been printed.")
def command(connection: Connection, rest: bool) -> int:
    """Goes on with the last answer, where its server keeps answers (those since July 2026).

    The server gives it to its end, whoever listens: after a broken connection, or in another
    terminal. The whole answer is printed. Its address and its session's cookie were kept for that;
    they are removed once an answer has ended.

    \b
    Examples:
      h2o-chat resume
      h2o-chat resume --rest >> answer.txt
    """
    resume(connection, rest=rest)
    return 0


def resume(connection: Connection, *, rest: bool) -> None:
    """Prints the answer that was kept. Raises a usage error if there is none."""
    found = last.load()
    if found is None:
        raise click.UsageError("There is no answer that could be gone on with.")
    try:
        _print(connection, found, found.printed if rest else 0)
    except (NotFoundError, UnsupportedError):
        last.forget()
        raise


def _print(connection: Connection, found: Last, position: int) -> None:
    cookie = connection.cookie or found.cookies
    there = replace(connection, url=found.url, local=False, cookie=cookie)
    with (
        there.open() as client,
        client.resume(found.token, position=position) as reply,
        kept(client, reply, printed=position) as note,
    ):
        write(reply, "plain", note)
