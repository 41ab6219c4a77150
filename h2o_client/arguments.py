"""Check callers' arguments, and convert them to Python's own types.

A text may be an instance of a subclass of str (numpy's, Jinja's Markup, an Enum's), a number may be
numpy's, and a mapping may be of any class. After the conversion, every JSON encoder accepts the
values, and errors show them as they are sent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Integral, Real

from h2o_client.errors import ConfigurationError


def text(value: object, what: str, argument: str | None = None) -> str:
    """Return ``value`` as a str.

    Raises `ConfigurationError` if it is not text, or has half a surrogate pair. ``what`` is the
    subject of the error's message, ``argument`` its field.
    """
    if not isinstance(value, str):
        raise ConfigurationError(
            f"{what} must be a str, not {type(value).__name__}", argument=argument
        )
    plain = str.__str__(value)
    try:
        plain.encode()
    except UnicodeEncodeError as exc:
        raise ConfigurationError(
            f"{what} has half a surrogate pair at {exc.start}, which cannot be sent",
            hint='Replace it, for example with text.encode("utf-8", "replace").decode().',
            argument=argument,
        ) from exc
    return plain


def optional_text(value: object, what: str, argument: str | None = None) -> str | None:
    """Like `text`, but return None for None."""
    return None if value is None else text(value, what, argument)


def document(value: object, what: str, argument: str | None = None) -> dict[str, object]:
    """Return a mapping of names to JSON values, as plain dicts, lists, texts and numbers.

    Raises `ConfigurationError` for anything else, including NaN and infinity.
    """
    if not isinstance(value, Mapping):
        raise _no_mapping(value, what, argument)
    return {
        text(name, "A name", argument): _plain(each, what, argument) for name, each in value.items()
    }


def texts(value: object, what: str, argument: str | None = None) -> dict[str, str]:
    """Return a mapping of names to texts as a dict. Raises `ConfigurationError`."""
    if not isinstance(value, Mapping):
        raise _no_mapping(value, what, argument)
    return {
        text(name, "A name", argument): text(each, what, argument) for name, each in value.items()
    }


def _no_mapping(value: object, what: str, argument: str | None) -> ConfigurationError:
    return ConfigurationError(
        f"{what} must be a mapping of names to values, not {type(value).__name__}",
        argument=argument,
    )


def _plain(value: object, what: str, argument: str | None) -> object:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return text(value, what, argument)
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        number = float(value)
        if not math.isfinite(number):
            raise ConfigurationError(
                f"{what} cannot be sent: JSON has no {number}", argument=argument
            )
        return number
    try:
        if isinstance(value, Mapping):
            return document(value, what, argument)
        if isinstance(value, list | tuple):
            return [_plain(each, what, argument) for each in value]
    except RecursionError:
        raise ConfigurationError(
            f"{what} cannot be sent: it is nested too deeply", argument=argument
        ) from None
    raise ConfigurationError(
        f"{what} cannot be sent: JSON has no {type(value).__name__}", argument=argument
    )
