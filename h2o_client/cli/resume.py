"""``h2o-chat resume``: the answer that the network, or the end of a program, cut short."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

import click

from h2o_client.answer.server_run import ResumeToken
from h2o_client.cli.answer import Manner, write
from h2o_client.cli.connecting import Connection, connects
from h2o_client.cli.cookies import jar_of, restore
from h2o_client.cli.last import Kept, Last, is_one_held, kept, latest
from h2o_client.cli.statuses import EPILOG
from h2o_client.errors import H2oError, NotFoundError, UnsupportedError
from h2o_client.session import H2oSession
from h2o_client.transport.cookies import Cookies, cookie_of_environment


@click.command("resume", epilog=EPILOG)
@connects
@click.option("--rest", is_flag=True, help="Print only what had not been printed.")
def command(connection: Connection, rest: bool) -> int:
    """Goes on with the last answer, where its server keeps answers (those since July 2026).

    The server gives it to its end, whoever listens: after a broken connection, or in another
    terminal. The whole answer is printed, of several the one that was begun last. Its address and
    its session's cookie were kept for that, for a week at most; they are removed once it has ended.
    Ctrl-C leaves it at work, for another resume.

    \b
    Examples:
      h2o-chat resume
      h2o-chat resume --rest >> answer.txt
    """
    resume(connection, rest=rest)
    return 0


def resume(connection: Connection, *, rest: bool, manner: Manner = "plain") -> None:
    """Prints the answer that was kept. Raises a click error if there is none."""
    with latest() as found:
        if found is None:
            why = _HELD if is_one_held() else _NONE
            raise click.ClickException(f"There is no answer that could be gone on with. {why}")
        try:
            _print(connection, found, found.last.printed if rest else 0, manner)
        except (NotFoundError, UnsupportedError):
            found.forget()
            raise


_HELD = "The one that there is, is just being given to another program."
_NONE = (
    "One is kept while it comes, by servers since July 2026, until it has ended or was stopped, "
    "and for a week at most."
)


@dataclass(frozen=True)
class _Taken:
    """The answer as it was kept, whoever's the conversation is meanwhile."""

    resume_token: str


def _print(connection: Connection, found: Kept, position: int, manner: Manner) -> None:
    """Prints it, and deletes what was made for it. An interrupt leaves the model at work."""
    token = ResumeToken.read(found.last.token)
    last, taken = found.last, _Taken(found.last.token)
    with _session(connection, found.last) as client:
        try:
            with (
                client.resume(found.last.token, position=position) as reply,
                kept(client, taken, printed=position, delete=last.delete, at=found) as note,
            ):
                # Who only looks on must not stop it by looking away.
                reply._exchange.leave_running()
                write(reply, manner, note)
        except H2oError:
            if last.delete and not found.is_there():
                _delete(client, token)
            raise
        if last.delete:
            _delete(client, token)


def _delete(client: H2oSession, token: ResumeToken) -> None:
    with suppress(H2oError):  # the answer is there
        client.conversation(token.conversation_id).delete()


@contextmanager
def _session(connection: Connection, last: Last) -> Iterator[H2oSession]:
    """The session that asked, or one with the cookie that was said for this server."""
    is_same = connection.url in (None, last.url)
    cookie, header = (connection.cookie, connection.header) if is_same else (None, ())
    there = replace(connection, url=last.url, local=False, cookie=cookie, header=header)
    if cookie is None and not last.cookies and not cookie_of_environment(last.url):
        raise click.UsageError(
            f"The session's cookie was not kept with the answer at {last.url}, which is given to "
            "nobody else: say it with --cookie NAME=VALUE."
        )
    jar: Cookies | None = None
    if last.cookies:  # and not those of the environment
        jar = jar_of(last.cookies) if last.given else {}
    with there.open(jar=jar) as client:
        if cookie is None and last.cookies and not last.given:
            restore(client, last.cookies)
        yield client
