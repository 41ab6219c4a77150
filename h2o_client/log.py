"""The package's logger, ``h2o_client``: silent unless the program, or H2O_CLIENT_LOG, wants it."""

from __future__ import annotations

import logging
import os

from h2o_client.printable import printable


class _Printable(logging.Filter):
    """Makes one printable line of each record, for servers' words may be in it."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = printable(record.getMessage()), ()
        return True


log: logging.Logger = logging.getLogger("h2o_client")
log.addHandler(logging.NullHandler())
log.addFilter(_Printable())


def show(level: str) -> None:
    """Writes what this package logs at ``level`` and above to stderr."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
    log.addHandler(handler)
    log.setLevel(level.upper())


if os.environ.get("H2O_CLIENT_LOG", "").upper() in ("DEBUG", "INFO", "WARNING", "ERROR"):
    show(os.environ["H2O_CLIENT_LOG"])
