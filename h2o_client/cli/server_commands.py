"""``h2o-chat models``, ``doctor`` and ``serve``: what a server has, what is wrong with it, and one
of your own."""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from h2o_client.cli.answer_output import document_of
from h2o_client.cli.exit import BAD_CALL, UNWRITTEN, status_of_kind
from h2o_client.cli.shared_options import Connection, server_options
from h2o_client.cli.terminal import Waiting, in_a_line, put_json, put_line, say, show_table
from h2o_client.cli.wording import in_shell
from h2o_client.errors import ConfigurationError, spelled
from h2o_client.server.chat_ui import DEFAULT, dialect_of
from h2o_client.timeouts import Timeouts

if TYPE_CHECKING:
    from h2o_client.dialects.documents import Model
    from h2o_client.doctor.checks import Check

# Unless told otherwise. A chat-ui whose database is down answers after thirty seconds.
_PATIENCE = Timeouts(first_token=120, idle=35)
_WIDEST = len("conversation")
_MAGIC = b"GGUF"
_EPILOG = """\b
Exit status: 0 Ctrl-C or SIGTERM, 1 it could not start (as when its port is
taken), 2 a bad call, 129 the terminal was closed.
"""


@click.command("models")
@click.argument("address", metavar="[URL]", required=False)
@server_options
@click.option("--json", "as_json", is_flag=True, help="An object a line.")
def list_models(connection: Connection, address: str | None, as_json: bool) -> int:
    """The models of the server, its first choice first.

    \b
    Examples:
      h2o-chat models http://localhost:3000
      h2o-chat models --json
    """
    with connection.at(address).open() as client, Waiting(f"Waiting for {client.base_url}"):
        models = client.models()
    if as_json:
        for model in models:
            put_json(document_of(model))
    elif not models:
        say("The server lists no models.")
    elif sys.stdout.isatty():
        show_table(("NAME", "SEES FILES", "WHAT IT IS"), map(_row, models))
    else:
        for model in models:
            put_line(in_a_line(model.id))
    return 0


@click.command("doctor")
@click.argument("address", metavar="[URL]", required=False)
@server_options
@click.option("-m", "--model", metavar="NAME", help="The model, else the server's first.")
@click.option("--json", "as_json", is_flag=True, help="An object a line.")
def doctor(connection: Connection, address: str | None, model: str | None, as_json: bool) -> int:
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


def _check_version(context: click.Context, option: click.Parameter, chat_ui: str) -> str:
    try:
        dialect_of(chat_ui)
    except ConfigurationError as exc:
        raise click.BadParameter(str(exc)) from None
    return chat_ui


@click.command("serve", epilog=_EPILOG)
@click.option(
    "--chat-ui",
    metavar="VERSION",
    default=DEFAULT,
    show_default=True,
    callback=_check_version,
    help="The chat-ui to be: 0.3 to 0.6, 0.9.6 to 0.10.0, or latest.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen.")
@click.option("--port", default=3000, show_default=True, help="0 takes a free one.")
@click.option("--model-file", metavar="GGUF", help="Another model than the bundled one.")
@click.option("--upstream", metavar="URL", help="An OpenAI-compatible server that answers.")
@click.option("--answers", metavar="FILE", help="Scripted answers, for tests of your own code.")
@click.option(
    "--model", metavar="NAME", help="The model's name; the upstream's own, if it has one."
)
@click.option(
    "--allow-host",
    "allowed_hosts",
    multiple=True,
    metavar="NAME",
    help="A name that the server is called by; may be repeated.",
)
@click.option("--terms", is_flag=True, help="Have terms that a session must accept.")
@click.option("--quiet", is_flag=True, help="Write no access log to stderr.")
def serve(**choices: Any) -> int:
    """A chat-ui server for this machine, with a small bundled model, until Ctrl-C.

    \b
    Examples:
      h2o-chat serve
      h2o-chat serve --chat-ui 0.10 --port 8080 --quiet
    """
    from h2o_client.server.running import run

    _check_model(choices["model_file"])
    if _is_taken(choices["host"], choices["port"]):
        say(
            f"Error: Port {choices['port']} of {choices['host']} is in use. Is another server "
            "running? --port 0 picks a free port."
        )
        return UNWRITTEN
    return run(**choices)


def _row(model: Model) -> tuple[str, str, str]:
    about = model.description or (model.display_name if model.display_name != model.id else "")
    return model.id, "yes" if model.multimodal else "", about


def _refused(exc: ConfigurationError) -> Check:
    """The failed step for an error that was raised before the first step."""
    from h2o_client.doctor.checks import Check

    step = _STEPS.get(exc.argument or "", "address")
    return Check(step, "failed", exc.message, exc.hint or "", type(exc).__name__)


_STEPS = {
    "cookies": "cookie",
    "insecure_cookies": "cookie",
    "headers": "login",
    "proxy": "network",
    "verify": "TLS",
    "server_version": "version",
}


def _shown(checks: Iterator[Check], as_json: bool) -> Iterator[Check]:
    """Show the steps as they come and yield those that failed. People see none that was skipped."""
    untried = False
    while True:
        with Waiting("Looking"):
            check = next(checks, None)
        if check is None:
            if untried:
                put_line("(the rest was not tried)")
            return
        if as_json:
            put_json({**document_of(check), "hint": spelled(check.hint, in_shell)})
        elif check.status == "skipped" and not check.detail:
            untried = True
        else:
            mark = check.status.ljust(7)
            put_line(f"{mark} {check.name.ljust(_WIDEST)} {check.detail}".rstrip())
            if check.hint:
                put_line(f"{' ' * 8}{spelled(check.hint, in_shell)}")
        if check.status == "failed":
            yield check


def _check_model(path: str | None) -> None:
    if path is None:
        return
    try:
        with open(path, "rb") as file:
            is_model = file.read(len(_MAGIC)) == _MAGIC
    except OSError as exc:
        raise click.UsageError(f"Cannot read --model-file {path}: {exc.strerror or exc}.") from None
    if not is_model:
        raise click.UsageError(f"Invalid --model-file {path}. A model is a GGUF file.")


def _is_taken(host: str, port: int) -> bool:
    """Whether another program listens there. Other errors are left to the server."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as tried:
            if os.name == "posix":  # elsewhere it would let two programs have one port
                tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind(address)
    except (OSError, OverflowError, UnicodeError) as exc:
        return getattr(exc, "errno", None) == errno.EADDRINUSE
    return False
