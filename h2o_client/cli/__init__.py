"""The command ``h2o-chat``: answers go to stdout, all else to stderr. A file each sub-command."""

from h2o_client.cli.command import run

__all__ = ["run"]
