"""The versions of chat-ui that the server can be, and their dialects."""

from __future__ import annotations

import re
from typing import Literal

from h2o_client.errors import ConfigurationError

LATEST = "latest"
"""The current chat-ui, which has no version number yet."""

DEFAULT = LATEST
"""The version to serve by default."""

OLDEST = "0.4"
"""The chat-ui of 2023, the last one that passes sampling parameters to the model."""

Dialect = Literal["v0_3", "v0_9_6", "latest"]
"""Dialects, named after their first versions, like their folders."""


def dialect_of(chat_ui: str, *, terms: bool = False) -> Dialect:
    """The dialect of "0.3" to "0.6", "0.9.6" to "0.10.0" or "latest".

    Raises `ConfigurationError` for any other version, and for ``terms`` with one of the later two.
    """
    found = re.fullmatch(r"(\d{1,3})\.(\d{1,3})(?:\.(\d{1,3}))?", chat_ui)
    version = tuple(int(each or 0) for each in found.groups()) if found else ()
    if (0, 3) <= version < (0, 7):
        return "v0_3"
    if chat_ui != LATEST and not (0, 9, 6) <= version <= (0, 10, 0):
        raise ConfigurationError(
            f"Unknown chat-ui version {chat_ui!r}",
            hint=f"Available: 0.3 to 0.6, 0.9.6 to 0.10.0, {LATEST}.",
            argument="chat_ui",
        )
    if terms:
        raise ConfigurationError(
            f"chat-ui {chat_ui} has no terms to accept", hint="Use 0.4.", argument="terms"
        )
    return "latest" if chat_ui == LATEST else "v0_9_6"
