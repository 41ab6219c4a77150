"""``h2o-chat serve``: the bundled server."""

from __future__ import annotations

from typing import Any

import click

from h2o_client.errors import ConfigurationError
from h2o_client.server.chat_ui import DEFAULT, generation_of

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

    return run(**choices)
