"""Errors that a person is told in a sentence, with no traceback through this package."""

from __future__ import annotations

import re
from functools import partial
from typing import TypeVar

from h2o_client.notebook.text import shown

E = TypeVar("E", bound=BaseException)


_OPTIONS = (
    (re.compile(r"H2oSession\(\.\.\., model=\.\.\.\)"), "--model NAME"),
    (re.compile(r'H2oSession\("(\S+)"\)'), r"--url \1"),
    (re.compile(r"give H2oSession the address"), "use the address"),
    (re.compile(r"\bsystem="), "--system"),
    (re.compile(r"\bparameters="), "-p"),
    (re.compile(r" \S+ characters of the answer are on \.partial\."), ""),
    (re.compile(r" What the server has stored of it is on \.stored\."), ""),
)


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
