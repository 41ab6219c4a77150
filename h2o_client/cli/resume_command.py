"""``h2o-chat resume``: continue an answer after a broken connection or the end of a program."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import click

from h2o_client.answer.reply import leave_running
from h2o_client.answer.server_run import ResumeToken
from h2o_client.cli.answer_output import Format, write_answer
from h2o_client.cli.exit import EPILOG
from h2o_client.cli.saved_answers import (
    Record,
    SavedAnswer,
    is_one_locked,
    jar_of,
    last_saved,
    restore_cookies,
    saving,
)
from h2o_client.cli.shared_options import Connection, server_options
from h2o_client.cli.terminal import Waiting
from h2o_client.errors import H2oError, NotFoundError, UnsupportedError
from h2o_client.transport.cookies import Cookies, cookie_of_environment

if TYPE_CHECKING:
    from h2o_client.session import H2oSession


@click.command("resume", epilog=EPILOG, short_help="Resume the last interrupted answer.")
@server_options
@click.option("--rest", is_flag=True, help="Print only the part that was not printed before.")
def resume(connection: Connection, rest: bool) -> int:
    """Resume the last interrupted answer, on servers since July 2026.

    These servers finish an answer even if nobody is connected. This command prints the whole
    answer. The address of an interrupted answer and the cookies of its session are stored until the
    answer has ended, but for a week at most. After Ctrl-C the model continues, and you can resume
    the answer again.

    \b
    Examples:
      h2o-chat resume
      h2o-chat resume --rest >> answer.txt
    """
    resume_last(connection, rest=rest)
    return 0


def resume_last(connection: Connection, *, rest: bool, form: Format = "plain") -> None:
    """Print the last saved answer. Raises a click error if there is none."""
    with last_saved() as found:
        if found is None:
            why = _LOCKED if is_one_locked() else _NONE
            raise click.ClickException(f"Nothing to resume. {why}")
        try:
            _print(connection, found, found.record.printed if rest else 0, form)
        except (NotFoundError, UnsupportedError):
            found.forget()
            raise


_LOCKED = "Another program is reading the only unfinished answer."
_NONE = (
    "An answer can be resumed for a week, on servers since July 2026, unless it has ended or was "
    "stopped."
)


@dataclass(frozen=True)
class _SavedToken:
    """A `Resumable` with the saved resume token. The token of the reply may change."""

    resume_token: str


def _print(connection: Connection, found: SavedAnswer, position: int, form: Format) -> None:
    """Print the answer and delete its conversation. After an interrupt, the model continues."""
    record = found.record
    token = ResumeToken.read(record.token)
    with (
        _session(connection, record) as client,
        Waiting(f"Waiting for {client.base_url}", connection.timeouts.first_token),
    ):
        try:
            with (
                client.resume(record.token, position=position) as reply,
                saving(
                    client,
                    _SavedToken(record.token),
                    printed=position,
                    delete=record.delete,
                    at=found,
                ) as note,
            ):
                # An interrupt here must not stop the answer: it can be resumed again.
                leave_running(reply)
                write_answer(reply, form, note, connection.timeouts)
        except H2oError:
            if record.delete and not found.exists():
                _delete(client, token)
            raise
        if record.delete:
            _delete(client, token)


def _delete(client: H2oSession, token: ResumeToken) -> None:
    with suppress(H2oError):  # the answer was printed, so a failed deletion is not an error
        client.conversation(token.conversation_id).delete()


@contextmanager
def _session(connection: Connection, record: Record) -> Iterator[H2oSession]:
    """Open the session that sent the prompt, or one with the user's cookie for this server."""
    is_same = connection.url in (None, record.url)
    cookie, header = (connection.cookie, connection.header) if is_same else (None, ())
    there = replace(connection, url=record.url, local=False, cookie=cookie, header=header)
    if cookie is None and not record.cookies and not cookie_of_environment(record.url):
        raise click.UsageError(
            f"The answer at {record.url} needs its session's cookie, which was not saved. "
            "Pass --cookie NAME=VALUE."
        )
    jar: Cookies | None = None
    if record.cookies:  # they take precedence over the environment
        jar = jar_of(record.cookies) if record.given else {}
    with there.open(jar=jar) as client:
        if cookie is None and record.cookies and not record.given:
            restore_cookies(client, record.cookies)
        yield client
