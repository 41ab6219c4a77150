"""The server's log: what clients and model servers sent is made printable before it is logged."""

from __future__ import annotations

import logging
import traceback

from h2o_client.printable import printable

logger: logging.Logger = logging.getLogger("h2o_client.server")

_LONGEST_LINE = 1000


def log_failure(what: str, error: BaseException) -> None:
    """Log that ``what`` failed, with the traceback.

    Every line of the traceback is indented, so that no line of an error's words can be taken for
    a line of the log.
    """
    lines = "".join(traceback.format_exception(error)).splitlines()
    told = "".join(f"\n    {printable(line, most=_LONGEST_LINE)}" for line in lines)
    logger.error("%s failed%s", printable(what, most=_LONGEST_LINE), told)
