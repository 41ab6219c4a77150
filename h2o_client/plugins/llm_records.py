"""The servers and kept conversations that the plugin for ``llm`` stores between commands.

They are stored in the folder of ``llm``, in a SQLite database, with a cookie file for each server.
Only the user can read these files.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.cookiejar import MozillaCookieJar
from pathlib import Path

import click

_TABLES = """
CREATE TABLE IF NOT EXISTS servers (name TEXT PRIMARY KEY, url TEXT NOT NULL, model TEXT);
CREATE TABLE IF NOT EXISTS conversations (
    id TEXT NOT NULL, url TEXT NOT NULL, llm_model TEXT NOT NULL, llm_conversation TEXT NOT NULL,
    history TEXT, has_own_key INTEGER NOT NULL, created REAL NOT NULL, PRIMARY KEY (url, id)
);
"""


@dataclass(frozen=True)
class NamedServer:
    """A server that was added with ``llm chat-ui add``. ``model`` None: the server's first."""

    name: str
    url: str
    model: str | None


@dataclass(frozen=True)
class KeptConversation:
    """The conversation on a server that belongs to an ``llm`` conversation.

    ``history`` is a hash of its messages, None until its first answer is finished.
    ``has_own_key``: its cookie was passed with ``--key`` and is not stored.
    """

    id: str
    url: str
    llm_model: str
    llm_conversation: str
    history: str | None
    has_own_key: bool
    created: float


class RecordsError(click.ClickException):
    """The database cannot be read or written."""


class Records:
    """The database in ``folder``. The first write creates it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / "chat-ui.db"

    def servers(self) -> list[NamedServer]:
        if not self._path.exists():
            return []
        with self._open() as database:
            rows = database.execute("SELECT name, url, model FROM servers ORDER BY name")
            return [NamedServer(*row) for row in rows]

    def add_server(self, server: NamedServer) -> None:
        """Add a server, or replace the one with the same name."""
        values = server.name, server.url, server.model
        with self._open() as database:
            database.execute("INSERT OR REPLACE INTO servers VALUES (?, ?, ?)", values)

    def remove_server(self, name: str) -> bool:
        """Remove a server. Return False if none has that name."""
        with self._open() as database:
            removed = database.execute("DELETE FROM servers WHERE name = ?", (name,))
            return removed.rowcount > 0

    def conversations(self, *, before: float | None = None) -> list[KeptConversation]:
        """The conversations created until ``before`` (seconds since 1970), oldest first."""
        if not self._path.exists():
            return []
        with self._open() as database:
            rows = database.execute(
                "SELECT * FROM conversations WHERE created <= ? ORDER BY created",
                (time.time() if before is None else before,),
            )
            return [_kept(row) for row in rows]

    def latest(self, llm_conversation: str, url: str) -> KeptConversation | None:
        if not self._path.exists():
            return None
        with self._open() as database:
            row = database.execute(
                "SELECT * FROM conversations WHERE llm_conversation = ? AND url = ? "
                "ORDER BY created DESC LIMIT 1",
                (llm_conversation, url),
            ).fetchone()
        return None if row is None else _kept(row)

    def keep(self, kept: KeptConversation) -> None:
        """Add or update a conversation."""
        values = (
            *(kept.id, kept.url, kept.llm_model, kept.llm_conversation),
            *(kept.history, int(kept.has_own_key), kept.created),
        )
        with self._open() as database:
            database.execute(
                "INSERT OR REPLACE INTO conversations VALUES (?, ?, ?, ?, ?, ?, ?)", values
            )

    def forget(self, kept: KeptConversation) -> None:
        with self._open() as database:
            database.execute(
                "DELETE FROM conversations WHERE url = ? AND id = ?", (kept.url, kept.id)
            )

    def cookie_file(self, url: str) -> Path:
        """The path of the file for a server's session cookie. The file may not exist."""
        return self._folder / f"chat-ui-{hashlib.sha256(url.encode()).hexdigest()[:16]}.cookies"

    def session_cookies(self, url: str) -> Path | None:
        """The file with a server's session cookie; None without one that is still valid."""
        file = self.cookie_file(url)
        jar = MozillaCookieJar(str(file))
        with contextlib.suppress(OSError):  # LoadError is one
            jar.load(ignore_discard=True)  # skips what has expired
        return file if len(jar) else None

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """One transaction. SQLite locks the file against other programs."""
        if not self._path.exists():
            with contextlib.suppress(FileExistsError):
                os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        try:
            with contextlib.closing(sqlite3.connect(self._path, timeout=10)) as database, database:
                database.executescript(_TABLES)
                yield database
        except sqlite3.Error as error:
            raise RecordsError(
                f"Cannot use {self._path}: {error}. If it is damaged, move it away and add the "
                "servers again."
            ) from error


def _kept(row: tuple[str, str, str, str, str | None, int, float]) -> KeptConversation:
    id, url, llm_model, llm_conversation, history, has_own_key, created = row
    return KeptConversation(
        *(id, url, llm_model, llm_conversation, history, bool(has_own_key), created)
    )
