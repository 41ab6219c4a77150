"""Errors that a person is told in a sentence, with no traceback through this package."""

from __future__ import annotations

from functools import partial
from typing import TypeVar

from h2o_client.notebook.text import shown

E = TypeVar("E", bound=BaseException)


def in_a_sentence(error: E) -> E:
    """The same error, which IPython shows as one line."""
    line = f"{type(error).__name__}: {shown(str(error))}"
    # IPython's own hook. A partial, so that the error can still be pickled.
    error._render_traceback_ = partial(list, (line,))  # type: ignore[attr-defined]
    return error
