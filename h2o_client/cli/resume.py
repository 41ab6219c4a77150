"""``h2o-chat resume``: the answer that the network, or the end of a program, cut short."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import click

from h2o_client.cli.answer import write
from h2o_client.cli.connecting import Connection, connects
from h2o_client.cli.cookies import jar_of, restore
from h2o_client.cli.last import Kept, Last, kept, latest
from h2o_client.cli.statuses import EPILOG
from h2o_client.errors import NotFoundError, UnsupportedError
from h2o_client.session import H2oSession


@click.command("resume", epilog=EPILOG)
@connects
@click.option("--rest", is_flag=True, help="Print only what had not been printed.")
def command(connection: Connection, rest: bool) -> int:
    """Goes on with the last answer, where its server keeps answers (those since July 2026).

    The server gives it to its end, whoever listens: after a broken connection, or in another
    terminal. The whole answer is printed, of several the one that was begun last. Its address and
    its session's cookie were kept for that, for a week at most; they are removed once it has ended.

    \b
    Examples:
      h2o-chat resume
      h2o-chat resume --rest >> answer.txt
    """
    resume(connection, rest=rest)
    return 0


def resume(connection: Connection, *, rest: bool) -> None:
    """Prints the answer that was kept. Raises a usage error if there is none."""
    with latest() as found:
        if found is None:
            raise click.UsageError("There is no answer that could be gone on with.")
        try:
            _print(connection, found, found.last.printed if rest else 0)
        except (NotFoundError, UnsupportedError):
            found.forget()
            raise


def _print(connection: Connection, found: Kept, position: int) -> None:
    with (
        _session(connection, found.last) as client,
        client.resume(found.last.token, position=position) as reply,
        kept(client, reply, printed=position, at=found) as note,
    ):
        write(reply, "plain", note)


@contextmanager
def _session(connection: Connection, last: Last) -> Iterator[H2oSession]:
    """The session that asked, or one with the cookie that was said for this server."""
    cookie = connection.cookie if connection.url in (None, last.url) else None
    there = replace(connection, url=last.url, local=False, cookie=cookie)
    if cookie is None and not last.cookies and not os.environ.get("H2O_CLIENT_COOKIE"):
        raise click.UsageError(
            f"The session's cookie was not kept with the answer at {last.url}, which is given to "
            "nobody else: say it with --cookie NAME=VALUE."
        )
    jar = jar_of(last.cookies) if last.given and last.cookies else None
    with there.open(jar=jar) as client:
        if cookie is None and last.cookies and not last.given:
            restore(client, last.cookies)
        yield client
