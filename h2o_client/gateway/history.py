"""Compute a digest that identifies a history of messages. No I/O.

The digests are chained: the digest of a longer history is computed from that of the shorter one and
the next turn. The first one covers the user, the model and the system prompt, so that the same
messages of another user, or to another model, have another digest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from h2o_client.gateway.chat_request import Turn


def start_digest(owner: bytes, model: str, system: str | None) -> bytes:
    """The digest of a history without turns."""
    prompt = b"" if system is None else b"system" + system.encode()
    return _digest(owner, model.encode(), prompt)


def extend_digest(history: bytes, turns: Iterable[Turn]) -> bytes:
    """The digest of a history, given by its digest, and the turns that follow it.

    Whitespace around an answer does not count, because servers remove it.
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
