"""A server's words where they are shown: no control characters, nothing that cannot be encoded.

Those that turn the direction of what follows are controls, too: they would dress up other words.
"""

from __future__ import annotations

import re

# On a terminal they move the cursor; half a surrogate pair cannot be sent to a front end at all.
_UNSHOWABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def shown(text: str) -> str:
    """The text with a mark for each character that must not be shown."""
    return _UNSHOWABLE.sub("\ufffd", text.replace("\r\n", "\n"))
