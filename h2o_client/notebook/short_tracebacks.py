"""Show errors in a cell without the frames of this package: only the calling line and the message.

``%xmode Verbose`` shows all frames.
"""

from __future__ import annotations

import sys
import traceback
from copy import copy
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from h2o_client.errors import H2oError

_PACKAGE = __name__.partition(".")[0]


def of_error(error: H2oError) -> list[str]:
    """The lines that IPython shows for an error."""
    # Do not import IPython if it is not running.
    interactive = sys.modules.get("IPython.core.interactiveshell")
    if interactive is None or not interactive.InteractiveShell.initialized():
        return traceback.format_exception(error)
    formatter = interactive.InteractiveShell.instance().InteractiveTB
    if formatter.mode == "Verbose":
        shown, frames = error, error.__traceback__
    else:
        # A copy has no cause, whose frames would also be shown.
        shown, frames = copy(error), _outside(error.__traceback__)
    lines: list[str] = formatter.structured_traceback(type(error), shown, frames)
    return lines


def _outside(frames: TracebackType | None) -> TracebackType | None:
    """The frames before the first one of the package."""
    if frames is None or _is_ours(frames):
        return None
    inner = _outside(frames.tb_next)
    return TracebackType(inner, frames.tb_frame, frames.tb_lasti, frames.tb_lineno)


def _is_ours(frames: TracebackType) -> bool:
    name = frames.tb_frame.f_globals.get("__name__")
    return isinstance(name, str) and name.partition(".")[0] == _PACKAGE
