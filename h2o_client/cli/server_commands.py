"""``h2o-chat models``, ``doctor`` and ``serve``."""

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

# The default. A chat-ui whose database is down responds after thirty seconds.
_PATIENCE = Timeouts(first_token=120, idle=35)
_WIDEST = len("conversation")
_MAGIC = b"GGUF"
_EPILOG = """\b
Exit status: 0 Ctrl-C or SIGTERM, 1 it could not start (the port may be in use),
2 invalid arguments, 129 the terminal was closed.
"""


@click.command("models")
@click.argument("address", metavar="[URL]", required=False)
@server_options
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object per line.")
def list_models(connection: Connection, address: str | None, as_json: bool) -> int:
    """List the server's models. The first one is its default.

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
        show_table(("NAME", "FILES", "DESCRIPTION"), map(_row, models))
    else:
        for model in models:
            put_line(in_a_line(model.id))
    return 0


@click.command("doctor")
@click.argument("address", metavar="[URL]", required=False)
@server_options
@click.option("-m", "--model", metavar="NAME", help="The model [default: the server's first].")
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object per line.")
def doctor(connection: Connection, address: str | None, model: str | None, as_json: bool) -> int:
    """Check a server step by step, and explain what fails.

    The last steps create a conversation, send a prompt and delete the conversation. If no step
    fails, the exit status is 0; otherwise it is that of a prompt that fails in the same way.

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
            list(_show(iter([_refused(exc)]), as_json))
            return BAD_CALL
        failed = [check.kind for check in _show(checks, as_json)]
    return status_of_kind(failed[0]) if failed else 0


def _check_version(context: click.Context, option: click.Parameter, chat_ui: str) -> str:
    try:
        dialect_of(chat_ui)
    except ConfigurationError as exc:
        raise click.BadParameter(str(exc)) from None
    return chat_ui


@click.command(
    "serve",
    epilog=_EPILOG,
    short_help="Run a chat-ui server on this machine, with a small model.",
)
@click.option(
    "--chat-ui",
    metavar="VERSION",
    default=DEFAULT,
    show_default=True,
    callback=_check_version,
    help="The version to serve: 0.3 to 0.6, 0.9.6 to 0.10.0, or latest.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", default=3000, show_default=True, help="The port; 0 chooses a free one.")
@click.option("--model-file", metavar="GGUF", help="Run this model instead of the bundled one.")
@click.option("--upstream", metavar="URL", help="Use the models of an OpenAI-compatible server.")
@click.option("--answers", metavar="FILE", help="Send the scripted answers in FILE.")
@click.option(
    "--model", metavar="NAME", help="The model's name; with --upstream, the model to use."
)
@click.option(
    "--allow-host",
    "allowed_hosts",
    multiple=True,
    metavar="NAME",
    help="Accept requests for this host name, too; may be repeated.",
)
@click.option("--terms", is_flag=True, help="Require sessions to accept terms.")
@click.option("--quiet", is_flag=True, help="Write no access log to stderr.")
def serve(**choices: Any) -> int:
    """Run a chat-ui server on this machine, with a small bundled model, until Ctrl-C.

    \b
    Examples:
      h2o-chat serve
      h2o-chat serve --chat-ui 0.10 --port 8080 --quiet
    """
    from h2o_client.server.running import run

    _check_model(choices["model_file"])
    if _is_in_use(choices["host"], choices["port"]):
        say(
            f"Error: Port {choices['port']} of {choices['host']} is in use. Is another server "
            "running? --port 0 chooses a free port."
        )
        return UNWRITTEN
    return run(**choices)


def _row(model: Model) -> tuple[str, str, str]:
    about = model.description or (model.display_name if model.display_name != model.id else "")
    return model.id, "yes" if model.multimodal else "", about


def _refused(exc: ConfigurationError) -> Check:
    """A failed step for an error that was raised before the first step."""
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


def _show(checks: Iterator[Check], as_json: bool) -> Iterator[Check]:
    """Show each step when it ends, and yield the failed ones. Skipped steps are not shown."""
    untried = False
    while True:
        with Waiting("Checking"):
            check = next(checks, None)
        if check is None:
            if untried:
                put_line("(the other steps were skipped)")
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
        raise click.UsageError(f"Invalid --model-file {path}. Use a GGUF file.")


def _is_in_use(host: str, port: int) -> bool:
    """Whether another program listens on the port. Other errors are left to the server."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as tried:
            if os.name == "posix":  # on Windows it would allow two programs on one port
                tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind(address)
    except (OSError, OverflowError, UnicodeError) as exc:
        return getattr(exc, "errno", None) == errno.EADDRINUSE
    return False
