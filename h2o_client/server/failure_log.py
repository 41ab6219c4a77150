"""The server's log. Text from clients and model servers is made printable first."""

from __future__ import annotations

import logging
import traceback

from h2o_client.printable import printable

logger: logging.Logger = logging.getLogger("h2o_client.server")

_LONGEST_LINE = 1000


def log_failure(what: str, error: BaseException) -> None:
    """Log that ``what`` failed, with the traceback.

    Every line of the traceback is indented, so that no line of a message looks like a log line.
    """
    lines = "".join(traceback.format_exception(error)).splitlines()
    indented = "".join(f"\n    {printable(line, most=_LONGEST_LINE)}" for line in lines)
    logger.error("%s failed%s", printable(what, most=_LONGEST_LINE), indented)
