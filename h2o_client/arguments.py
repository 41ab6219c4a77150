"""Values as callers give them, checked and made plain: what `json` takes is taken.

A text may be of a subclass of str (numpy's, Jinja's Markup, an Enum's), a number of numpy's, a
mapping of any class. What goes on from here is of Python's own types, which every encoder takes and
which is shown as it is sent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Integral, Real

from h2o_client.errors import ConfigurationError


def text(value: object, what: str) -> str:
    """``value`` as a str, ``what`` it is being said in the error.

    Raises `ConfigurationError` for anything but text, and for half a surrogate pair.
    """
    if not isinstance(value, str):
        raise ConfigurationError(f"{what} is text, not {type(value).__name__}.")
    plain = str.__str__(value)
    try:
        plain.encode()
    except UnicodeEncodeError as exc:
        raise ConfigurationError(
            f"{what} holds half a surrogate pair (at {exc.start}), which is no character."
        ) from exc
    return plain


def optional_text(value: object, what: str) -> str | None:
    """As `text`; None stays None."""
    return None if value is None else text(value, what)


def document(value: object, what: str) -> dict[str, object]:
    """A mapping of names to what JSON can hold, as plain dicts, lists, texts and numbers.

    Raises `ConfigurationError` for anything else, NaN and infinity included.
    """
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"{what} is a mapping of names to values.")
    return {text(name, "A name"): _plain(each, what) for name, each in value.items()}


def texts(value: object, what: str) -> dict[str, str]:
    """A mapping of names to texts. Raises `ConfigurationError`."""
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"{what} is a mapping of names to texts.")
    return {text(name, "A name"): text(each, what) for name, each in value.items()}


def _plain(value: object, what: str) -> object:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return text(value, what)
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        number = float(value)
        if not math.isfinite(number):
            raise ConfigurationError(f"{what} cannot be sent: {number} is not a number of JSON's.")
        return number
    try:
        if isinstance(value, Mapping):
            return document(value, what)
        if isinstance(value, list | tuple):
            return [_plain(each, what) for each in value]
    except RecursionError:
        raise ConfigurationError(f"{what} cannot be sent: it is nested too deeply.") from None
    raise ConfigurationError(f"{what} cannot be sent: JSON has no {type(value).__name__}.")
