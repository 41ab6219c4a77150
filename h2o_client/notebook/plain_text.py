"""A server's words where a notebook shows them as text: no control characters, errors in one line.

Characters that turn the direction of what follows count as controls: they disguise other words.
"""

from __future__ import annotations

import re
from functools import partial
from typing import TypeVar

from h2o_client.errors import in_python
from h2o_client.options import SAMPLING

E = TypeVar("E", bound=BaseException)

# On a terminal they move the cursor; half a surrogate pair cannot be sent to a front end at all.
_UNSHOWABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_OPTIONS = {"base_url": "--url", "model": "--model", "system": "--system", "parameters": "-p"}


def shown(text: str) -> str:
    """The text with a mark for each character that must not be shown."""
    return _UNSHOWABLE.sub("\ufffd", text.replace("\r\n", "\n"))


def in_a_sentence(error: E, said: str = "") -> E:
    """The same error, which IPython shows as one line: what is ``said``, or it says."""
    line = f"{type(error).__name__}: {shown(said or str(error))}"
    # IPython's own hook. A partial, so that the error can still be pickled.
    error._render_traceback_ = partial(list, (line,))  # type: ignore[attr-defined]
    return error


def in_options(name: str, value: str) -> str:
    """The `Spelling` of ``%h2o``, whose options stand for Python's arguments."""
    if name in SAMPLING:
        return f"-p {name}={value}"
    if name in _OPTIONS:
        return f"{_OPTIONS[name]} {value.strip(_QUOTE)}".rstrip()
    return in_python(name, value)


_QUOTE = '"'
