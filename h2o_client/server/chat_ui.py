"""Which chat-ui the server is: a version comes in, the dialect that it speaks goes out."""

from __future__ import annotations

import re
from typing import Literal

from h2o_client.errors import ConfigurationError

LATEST = "latest"
"""The chat-ui of today, which has no version yet."""

DEFAULT = LATEST
"""The version that is served where none is named."""

OLDEST = "0.4"
"""The chat-ui of 2023, which hands sampling parameters to the model, as no later one does."""

Dialect = Literal["v0_3", "v0_9_6", "latest"]
"""Each is named after its first version, as its folder is."""


def dialect_of(chat_ui: str, *, terms: bool = False) -> Dialect:
    """The dialect of "0.3" to "0.6", "0.9.6" to "0.10.0" or "latest"; the later two lack ``terms``.

    Raises `ConfigurationError` for any other version.
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
