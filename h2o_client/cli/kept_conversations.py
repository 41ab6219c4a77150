"""Records of kept conversations, for ``-c`` and ``--conversation``.

Each is a file in the command's folder with the server's address, the conversation's id, and the
cookies of its session, unless they come from a browser. The file is removed when the command
deletes the conversation, or ninety days after the last message.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from h2o_client.cli.app_folder import app_folder
from h2o_client.cli.saved_answers import SavedCookie, cookies_of, restore_cookies
from h2o_client.private_file import write_private
from h2o_client.wire import json

if TYPE_CHECKING:
    from h2o_client.session import H2oSession

_FILES = "conversation-*.json"
_KEPT_FOR = 90 * 86400.0  # seconds


class KeptConversation(msgspec.Struct, frozen=True):
    """A kept conversation: its server, the time of its last message, and its session's cookies."""

    url: str
    id: str
    used_at: float
    cookies: tuple[SavedCookie, ...] = ()


def remember(client: H2oSession, conversation_id: str) -> bool:
    """Record a kept conversation after a message. Return False if that failed."""
    cookies, given = cookies_of(client)
    now = time.time()
    kept = KeptConversation(client.base_url, conversation_id, now, () if given else cookies)
    try:
        folder = app_folder()
        write_private(_path(folder, kept.url, kept.id), msgspec.json.encode(kept))
    except OSError:
        return False
    for path in folder.glob(_FILES):
        with suppress(OSError):
            if now - path.stat().st_mtime > _KEPT_FOR:
                path.unlink()
    return True


def forget(url: str, conversation_id: str | None = None) -> None:
    """Remove the record of a conversation, or of all conversations at an address."""
    for kept in list(_all()):
        if kept.url == url and conversation_id in (None, kept.id):
            with suppress(OSError):
                _path(app_folder(), kept.url, kept.id).unlink(missing_ok=True)


def last_kept(
    url: str | None = None, conversation_id: str | None = None
) -> KeptConversation | None:
    """The kept conversation with the latest message; None if there is none.

    url: only conversations at this address.
    conversation_id: only the conversation with this id.
    """
    fitting = [
        kept for kept in _all() if url in (None, kept.url) and conversation_id in (None, kept.id)
    ]
    return max(fitting, key=lambda kept: kept.used_at, default=None)


def restore_session(client: H2oSession, kept: KeptConversation | None = None) -> None:
    """Give ``client`` the cookies of a kept conversation, by default the last one at its address.

    Does nothing if the session has cookies already.
    """
    if cookies_of(client)[0]:
        return
    kept = last_kept(client.base_url) if kept is None else kept
    if kept is not None and kept.cookies:
        restore_cookies(client, kept.cookies)


def _all() -> Iterator[KeptConversation]:
    with suppress(OSError):
        for path in app_folder().glob(_FILES):
            with suppress(OSError, json.InvalidJson):
                yield json.read_as(path.read_bytes(), KeptConversation)


def _path(folder: Path, url: str, conversation_id: str) -> Path:
    name = hashlib.sha256(f"{url}\n{conversation_id}".encode()).hexdigest()
    return folder / f"conversation-{name[:32]}.json"
