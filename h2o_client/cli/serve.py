"""``h2o-chat serve``: the bundled server."""

from __future__ import annotations

import errno
import os
import socket
from typing import Any

import click

from h2o_client.cli.output import say
from h2o_client.cli.statuses import UNWRITTEN
from h2o_client.errors import ConfigurationError
from h2o_client.server.chat_ui import DEFAULT, generation_of

_MAGIC = b"GGUF"
_EPILOG = """\b
Exit status: 0 Ctrl-C or SIGTERM, 1 it could not start (as when its port is
taken), 2 a bad call, 129 the terminal was closed.
"""


def _check_version(context: click.Context, option: click.Parameter, chat_ui: str) -> str:
    try:
        generation_of(chat_ui)
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
def command(**choices: Any) -> int:
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
            f"Error: Port {choices['port']} of {choices['host']} is taken: is another one running? "
            "--port 0 takes a free one."
        )
        return UNWRITTEN
    return run(**choices)


def _check_model(path: str | None) -> None:
    if path is None:
        return
    try:
        with open(path, "rb") as file:
            is_model = file.read(len(_MAGIC)) == _MAGIC
    except OSError as exc:
        raise click.UsageError(f"--model-file {path}: {exc.strerror or exc}.") from None
    if not is_model:
        raise click.UsageError(f"--model-file {path}: that is no model, which is a GGUF file.")


def _is_taken(host: str, port: int) -> bool:
    """Whether another program listens there. What else is wrong, the server says."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as tried:
            if os.name == "posix":  # elsewhere it would let two programs have one port
                tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind(address)
    except (OSError, OverflowError, UnicodeError) as exc:
        return getattr(exc, "errno", None) == errno.EADDRINUSE
    return False
