"""Show a server's text in a notebook: without control characters, and errors on one line.

Characters that change the direction of text are also removed, because they can disguise words.
"""

from __future__ import annotations

import re
from functools import partial
from typing import TypeVar

from h2o_client.errors import in_python
from h2o_client.options import SAMPLING

E = TypeVar("E", bound=BaseException)

# Control characters can move a terminal's cursor; a lone surrogate cannot be sent to a front end.
_UNSHOWABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_OPTIONS = {"base_url": "--url", "model": "--model", "system": "--system", "parameters": "-p"}


def shown(text: str) -> str:
    """The text with U+FFFD in place of characters that must not be shown."""
    return _UNSHOWABLE.sub("\ufffd", text.replace("\r\n", "\n"))


def as_one_line(error: E, message: str = "") -> E:
    """Let IPython show the error as one line, with ``message`` or its own message. Return it."""
    line = f"{type(error).__name__}: {shown(message or str(error))}"
    # A hook of IPython. A partial, so that the error can still be pickled.
    error._render_traceback_ = partial(list, (line,))  # type: ignore[attr-defined]
    return error


def in_options(name: str, value: str) -> str:
    """The `Spelling` of ``%h2o``, which has options for arguments."""
    if name in SAMPLING:
        return f"-p {name}={value}"
    if name in _OPTIONS:
        return f"{_OPTIONS[name]} {value.strip(_QUOTE)}".rstrip()
    return in_python(name, value)


_QUOTE = '"'
