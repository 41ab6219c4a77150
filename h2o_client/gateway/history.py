"""A history comes in, a digest that stands for exactly this one goes out. Pure.

The digest is chained: that of a history and one more turn follows from that of the history and the
turn. It begins with whose conversation it is, the model and the system prompt, so that equal words
of another user, or to another model, are another history.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from h2o_client.gateway.chat_request import Turn


def beginning(owner: bytes, model: str, system: str | None) -> bytes:
    """The digest of a history without turns."""
    said = b"" if system is None else b"system" + system.encode()
    return _digest(owner, model.encode(), said)


def extended(history: bytes, turns: Iterable[Turn]) -> bytes:
    """The digest of a history and the turns that follow it.

    Blanks around an answer do not count: servers cut them off.
    """
    for turn in turns:
        text = turn.text.strip() if turn.role == "assistant" else turn.text
        files = (hashlib.sha256(file).digest() for file in turn.files)
        history = _digest(history, turn.role.encode(), text.encode(), *files)
    return history


def _digest(*parts: bytes) -> bytes:
    found = hashlib.sha256()
    for part in parts:
        found.update(len(part).to_bytes(8, "big"))
        found.update(part)
    return found.digest()
