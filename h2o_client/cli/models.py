"""``h2o-chat models``: what can be asked."""

from __future__ import annotations

import sys

import click

from h2o_client.cli.answer import document_of
from h2o_client.cli.connecting import Connection, connects
from h2o_client.cli.output import put_json, put_line, say
from h2o_client.cli.table import in_a_line, show_table
from h2o_client.dialects.documents import Model


@click.command("models")
@click.argument("address", metavar="[URL]", required=False)
@connects
@click.option("--json", "as_json", is_flag=True, help="An object a line.")
def command(connection: Connection, address: str | None, as_json: bool) -> int:
    """The models of the server, its first choice first.

    \b
    Examples:
      h2o-chat models http://localhost:3000
      h2o-chat models --json
    """
    with connection.at(address).open() as client:
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


def _row(model: Model) -> tuple[str, str, str]:
    about = model.description or (model.display_name if model.display_name != model.id else "")
    return model.id, "yes" if model.multimodal else "", about
