"""``h2o-chat doctor``: what is found at an address, and what to do about what fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace

import click

from h2o_client.cli.answer import document_of
from h2o_client.cli.connecting import Connection, connects
from h2o_client.cli.output import put_json, put_line
from h2o_client.cli.progress import waiting
from h2o_client.cli.statuses import BAD_CALL, status_of_kind
from h2o_client.cli.wording import in_shell
from h2o_client.doctor.steps import Check
from h2o_client.errors import ConfigurationError
from h2o_client.timeouts import Timeouts

# Unless told otherwise. A chat-ui whose database is down answers after thirty seconds.
_PATIENCE = Timeouts(first_token=120, idle=35)
_WIDEST = len("conversation")


@click.command("doctor")
@click.argument("address", metavar="[URL]", required=False)
@connects
@click.option("-m", "--model", metavar="NAME", help="The model, else the server's first.")
@click.option("--json", "as_json", is_flag=True, help="An object a line.")
def command(connection: Connection, address: str | None, model: str | None, as_json: bool) -> int:
    """Looks at a server step by step, and says what is wrong with what fails.

    The last steps make a conversation, ask something in it and delete it. The exit status is 0 if
    nothing failed, else that of a prompt which fails so.

    \b
    Examples:
      h2o-chat doctor http://localhost:3000
      h2o-chat doctor --local
    """
    connection = connection.at(address)
    if connection.timeout is None:
        connection = replace(connection, timeout=_PATIENCE)
    with ExitStack() as stack:
        try:
            checks = stack.enter_context(connection.open(model=model)).check()
        except ConfigurationError as exc:
            list(_shown(iter([_refused(exc)]), as_json))
            return BAD_CALL
        failed = [check.kind for check in _shown(checks, as_json)]
    return status_of_kind(failed[0]) if failed else 0


def _refused(exc: ConfigurationError) -> Check:
    """The step that an error is about which comes before all steps."""
    detail, _, hint = exc.message.partition(". ")
    step = next((step for step in ("cookie", "proxy", "header") if step in detail.lower()), "")
    step = {"proxy": "network", "header": "login"}.get(step, step) or "address"
    return Check(step, "failed", detail.rstrip("."), hint, type(exc).__name__)


def _shown(checks: Iterator[Check], as_json: bool) -> Iterator[Check]:
    """Shows them as they come; gives those that failed. A person sees none that was not tried."""
    untried = False
    while True:
        with waiting("Looking"):
            check = next(checks, None)
        if check is None:
            if untried:
                put_line("(the rest was not tried)")
            return
        if as_json:
            said = {"detail": in_shell(check.detail), "hint": in_shell(check.hint)}
            put_json({**document_of(check), **said})
        elif check.status == "skipped" and not check.detail:
            untried = True
        else:
            mark = check.status.ljust(7)
            put_line(f"{mark} {check.name.ljust(_WIDEST)} {in_shell(check.detail)}".rstrip())
            if check.hint:
                put_line(f"{' ' * 8}{in_shell(check.hint)}")
        if check.status == "failed":
            yield check
