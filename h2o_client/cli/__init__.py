"""The command ``h2o-chat``. Answers go to stdout, everything else to stderr."""

from h2o_client.cli.command import run

__all__ = ["run"]
