"""Which chat-ui the server is: a version comes in, its generation of the protocol goes out."""

from __future__ import annotations

import re
from typing import Literal

from h2o_client.errors import ConfigurationError

DEFAULT = "0.4"
"""The version that is served where none is named."""

LATEST = "latest"
"""The chat-ui of today, which has no version yet."""

Generation = Literal["A", "E", "F"]


def generation_of(chat_ui: str, *, terms: bool = False) -> Generation:
    """A for "0.3" to "0.6", E for "0.9.6" to "0.10.0", F for "latest"; those know no ``terms``.

    Raises `ConfigurationError` for what there is not.
    """
    found = re.fullmatch(r"(\d{1,3})\.(\d{1,3})(?:\.(\d{1,3}))?", chat_ui)
    version = tuple(int(each or 0) for each in found.groups()) if found else ()
    if (0, 3) <= version < (0, 7):
        return "A"
    if chat_ui != LATEST and not (0, 9, 6) <= version <= (0, 10, 0):
        raise ConfigurationError(
            f"This server can be chat-ui 0.3 to 0.6, 0.9.6 to 0.10.0 or {LATEST}; not {chat_ui!r}."
        )
    if terms:
        raise ConfigurationError(f"A chat-ui {chat_ui} demands nobody's consent to terms.")
    return "F" if chat_ui == LATEST else "E"
