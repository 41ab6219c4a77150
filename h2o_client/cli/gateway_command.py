"""``h2o-chat gateway``: OpenAI's API in front of a chat-ui."""

from __future__ import annotations

import errno
import sys
from typing import Any

import click

from h2o_client.cli.exit import UNWRITTEN
from h2o_client.cli.shared_options import Connection, server_options
from h2o_client.cli.terminal import say

_EPILOG = """\b
Clients use the address with /v1 as their base URL. Without --keys, they may use
any key. A keys file is in TOML, readable only by its owner (chmod 600):
  [keys]
  "sk-alice" = "hf-chat=0b1d..."
  "sk-bob" = "bob-cookies.txt"

\b
Exit status: 0 Ctrl-C or SIGTERM, 1 it could not start (the port may be in use),
2 invalid arguments, 129 the terminal was closed.
"""


@click.command("gateway", epilog=_EPILOG)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", default=8000, show_default=True, help="The port; 0 chooses a free one.")
@click.option(
    "--keys",
    metavar="FILE",
    help="API keys, each with the cookie of a user. Required unless --host is loopback.",
)
@click.option(
    "--allow-host",
    "allowed_hosts",
    multiple=True,
    metavar="NAME",
    help="Accept requests for this host name, too; may be repeated.",
)
@click.option(
    "--allow-origin",
    "allowed_origins",
    multiple=True,
    metavar="ORIGIN",
    help="Allow web pages of this origin to use the gateway; may be repeated.",
)
@click.option("--quiet", is_flag=True, help="Write no access log to stderr.")
@server_options
def gateway(
    connection: Connection, host: str, port: int, keys: str | None, quiet: bool, **allowed: Any
) -> int:
    """Serve OpenAI's API in front of a chat-ui, until Ctrl-C.

    \b
    Examples:
      h2o-chat gateway --url https://chat.example.org --cookie hf-chat=0b1d...
      h2o-chat gateway --local --port 8080
    """
    try:
        from h2o_client.gateway import gateway as serve_gateway
        from h2o_client.server.access import write_to
        from h2o_client.server.running import until_signalled
    except ImportError as exc:
        raise click.UsageError(str(exc)) from exc
    if keys is not None and connection.cookie is not None:
        raise click.UsageError("Only one of --cookie and --keys can be used.")
    with until_signalled() as ended, connection.address() as address:
        options = connection.arguments(address)
        if keys is not None:
            del options["cookies"]  # each key has its own cookie
        options["on_access"] = None if quiet else write_to(sys.stderr)
        try:
            running = serve_gateway(address, host=host, port=port, keys=keys, **options, **allowed)
        except OSError as exc:
            problem = f"{exc.strerror or exc}."
            if exc.errno == errno.EADDRINUSE:
                problem = f"Port {port} of {host} is in use. Is another server running?"
            say(f"Error: {problem} --port 0 chooses a free port.")
            return UNWRITTEN
        with running:
            say(f"Listening on {running.url}; clients use {running.url}/v1 as their base URL.")
            # With a timeout, because on Windows Ctrl-C does not interrupt an endless wait.
            while not ended.wait(0.5):
                pass
    return 0
