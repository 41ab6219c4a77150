"""A server's words where a notebook shows them as text: no control characters, errors in one line.

Characters that turn the direction of what follows count as controls: they disguise other words.
"""

from __future__ import annotations

import re
from functools import partial
from typing import TypeVar

E = TypeVar("E", bound=BaseException)

# On a terminal they move the cursor; half a surrogate pair cannot be sent to a front end at all.
_UNSHOWABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_OPTIONS = (
    (re.compile(r"H2oSession\(\.\.\., model=\.\.\.\)"), "--model NAME"),
    (re.compile(r'H2oSession\("(\S+)"\)'), r"--url \1"),
    (re.compile(r"give H2oSession the address"), "use the address"),
    (re.compile(r"\bsystem="), "--system"),
    (re.compile(r"\bparameters="), "-p"),
    (re.compile(r" \S+ characters of the answer are on \.partial\."), ""),
    (re.compile(r" What the server has stored of it is on \.stored\."), ""),
)


def shown(text: str) -> str:
    """The text with a mark for each character that must not be shown."""
    return _UNSHOWABLE.sub("\ufffd", text.replace("\r\n", "\n"))


def in_a_sentence(error: E, said: str = "") -> E:
    """The same error, which IPython shows as one line: what is ``said``, or it says."""
    line = f"{type(error).__name__}: {shown(said or str(error))}"
    # IPython's own hook. A partial, so that the error can still be pickled.
    error._render_traceback_ = partial(list, (line,))  # type: ignore[attr-defined]
    return error


def in_options(sentence: str) -> str:
    """``sentence`` with the options of ``%h2o`` in the place of Python's arguments."""
    for argument, option in _OPTIONS:
        sentence = argument.sub(option, sentence)
    return sentence
