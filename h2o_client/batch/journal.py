"""The journal of a batch: a SQLite file with the state of each prompt.

The row of a prompt is written before its conversation is created, before its message is sent, and
when its answer has arrived. Its conversation is deleted only after that. So the next run can find
everything that a killed run has left on the server. Threads may share a journal; processes may not.
"""

from __future__ import annotations

import errno
import json
import os
import sqlite3
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from enum import IntEnum
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import msgspec

from h2o_client.batch.formats import InvalidLine
from h2o_client.batch.prompts import BatchPrompt, Payload, PromptId
from h2o_client.batch.results import Outcome, Result
from h2o_client.errors import ConfigurationError, H2oError, Hint
from h2o_client.private_file import safe_target
from h2o_client.wire import json as wire_json

T = TypeVar("T")

_APPLICATION = 0x4832_4F42  # "H2OB", in the file's header
_VERSION = 1
_PAGE = 256
_MOST_SHOWN = 10
_PRIVATE = 0o600
_ENDED_WITHIN = 10.0  # seconds
_CHECKPOINT = 4000  # pages of 4 KiB
_SIDECARS = ("", "-wal", "-shm", "-journal")

_SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE accounts (
    number INTEGER PRIMARY KEY, base_url TEXT NOT NULL, given TEXT NOT NULL, cookies BLOB,
    baseline BLOB
);
CREATE TABLE prompts (
    row INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, id TEXT NOT NULL, position INTEGER,
    state INTEGER NOT NULL DEFAULT 0, ask BLOB NOT NULL, attempts INTEGER NOT NULL DEFAULT 0,
    account INTEGER, conversation TEXT, token TEXT, sent_at REAL, number INTEGER, outcome BLOB
);
CREATE INDEX by_position ON prompts (position) WHERE position IS NOT NULL;
CREATE INDEX by_number ON prompts (number) WHERE number IS NOT NULL;
CREATE INDEX by_id ON prompts (id);
CREATE INDEX being_asked ON prompts (account) WHERE state = 2;
CREATE TABLE conversations (
    account INTEGER NOT NULL, id TEXT NOT NULL, PRIMARY KEY (account, id)
) WITHOUT ROWID;
"""


class State(IntEnum):
    """The state of a prompt.

    CREATING: its conversation may exist. SENDING: its conversation exists, and the message may have
    arrived.
    """

    WAITING = 0
    CREATING = 1
    SENDING = 2
    ANSWERED = 3
    FAILED = 4


class JournalError(H2oError):
    """The journal cannot be written, for example on a full disk. Earlier records are kept."""


class InvalidPrompts(ConfigurationError):
    """Some prompts are invalid, so no prompt was sent. ``lines`` holds the first invalid ones."""

    def __init__(self, lines: Sequence[InvalidLine], count: int) -> None:
        told = " ".join(f"Line {each.line}: {each.reason}" for each in lines)
        more = f" And {count - len(lines)} more." if count > len(lines) else ""
        super().__init__(f"{told}{more} Nothing was sent.")
        self.lines: tuple[InvalidLine, ...] = tuple(lines)


class _Undone(Exception):
    """Raised to roll a transaction back."""


class Job(msgspec.Struct, frozen=True):
    """A prompt to send, or one that was sent."""

    row: int
    id: PromptId
    index: int
    payload: Payload
    attempts: int = 0
    conversation_id: str | None = None
    token: str | None = None
    sent_at: float = 0.0


class StoredAccount(msgspec.Struct, frozen=True):
    """A session of an earlier run. ``baseline``: its conversations from before the batch.

    ``given`` is a hash of the cookies that the user passed, or "". ``cookies`` are the cookies that
    the server has set.
    """

    number: int
    base_url: str
    given: str
    cookies: bytes | None
    baseline: frozenset[str] | None


class Counts(msgspec.Struct, frozen=True):
    """How many prompts there are, and how many of them are answered or have failed."""

    total: int
    answered: int
    failed: int

    @property
    def waiting(self) -> int:
        """How many have no result yet."""
        return self.total - self.answered - self.failed


class Row(msgspec.Struct, frozen=True):
    """A prompt with its result. ``number`` counts the results in the order of their arrival."""

    row: int
    key: bytes
    id: PromptId
    index: int
    payload: Payload
    number: int
    outcome: Outcome

    def result(self) -> Result:
        """The result for the caller."""
        return self.outcome.result(self.id, self.index, self.payload)

    def line(self) -> bytes:
        """The line for the answers file."""
        return self.outcome.line(self.id, self.index, self.payload, self.key)


class Journal:
    """The journal at ``path``, which is created if it does not exist. None: a temporary one.

    Raises `ConfigurationError` if the file is not a journal, if another run uses it, or if its file
    system has no locks; `JournalError` if it cannot be created.
    """

    def __init__(self, path: str | os.PathLike[str] | None) -> None:
        self._lock = threading.RLock()  # held for each statement and each transaction
        self._is_closed = False
        self._is_ending = False  # whether `end_soon` was called
        self._has_ended = threading.Event()  # set by `end`
        self._is_new = path is not None and not os.path.lexists(path)
        self.path: Path | None = None if path is None else _own_file(Path(path))
        self._identity = None if self.path is None else _taken(self.path, self)
        name = "" if self.path is None else str(self.path)
        try:
            self._db = sqlite3.connect(
                name, timeout=0, isolation_level=None, check_same_thread=False
            )
        except sqlite3.Error as exc:
            self._release()
            raise JournalError(f"Cannot open the journal {name}: {exc}") from exc
        try:
            self._prepare(name)
            (last,) = self._one("SELECT max(number) FROM prompts")
        except BaseException:
            self._db.close()
            self._release()
            raise
        self._number = last or 0

    def close(self) -> None:
        """Close the file, and remove it if it is new and has no prompts. Idempotent."""
        with self._lock:
            if not self._is_closed:
                self._is_closed = True
                if self.path is not None and self._is_new:
                    self._remove_if_empty(self.path)
                self._db.close()
                self._release()

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return self._is_closed

    def end_soon(self) -> None:
        """Note that the run was told to stop. A finalizer may call it."""
        self._is_ending = True

    def end(self) -> None:
        """Note that the run has ended: only its results are read now."""
        self._has_ended.set()

    def give_up(self) -> bool:
        """Close the file for another run of this process. Return False if its run continues."""
        if self._is_ending:
            self._has_ended.wait(_ENDED_WITHIN)
        if self._has_ended.is_set():
            self.close()
        return self._is_closed

    def _remove_if_empty(self, path: Path) -> None:
        """Remove the journal of a refused batch, while other runs cannot open it."""
        with suppress(sqlite3.Error, OSError):
            if (
                self._db.execute(
                    "SELECT 1 FROM prompts UNION ALL SELECT 1 FROM accounts"
                ).fetchone()
                is None
            ):
                self._db.execute("PRAGMA journal_mode = DELETE")  # removes the file of the WAL
                path.unlink()

    def _release(self) -> None:
        if self._identity is not None:
            _in_use.pop(self._identity, None)

    # Prompts

    def load(self, prompts: Iterable[BatchPrompt | InvalidLine]) -> Counts:
        """Set the prompts of this run, in their order. Answers from earlier runs are kept.

        Raises `InvalidPrompts` without changing anything.
        """
        with self._transaction():
            return self._load(prompts)

    def _load(self, prompts: Iterable[BatchPrompt | InvalidLine]) -> Counts:
        invalid: list[InvalidLine] = []
        count = position = 0
        self._do("DROP TABLE IF EXISTS temp.ids")
        self._do("CREATE TEMP TABLE ids (id TEXT PRIMARY KEY, line INTEGER) WITHOUT ROWID")
        self._do("UPDATE prompts SET position = NULL WHERE position IS NOT NULL")
        for prompt in prompts:
            found = prompt if isinstance(prompt, InvalidLine) else self._duplicate(prompt)
            if found is not None:
                count += 1
                invalid += [found] if len(invalid) < _MOST_SHOWN else []
            elif isinstance(prompt, BatchPrompt):
                self._add(prompt, position)
                position += 1
        if count:
            raise InvalidPrompts(invalid, count)
        self._do("DROP TABLE temp.ids")
        return self.counts()

    def check(self, prompts: Iterable[BatchPrompt | InvalidLine]) -> Counts:
        """Like `load`, without changing anything."""
        with suppress(_Undone), self._transaction():
            counts = self._load(prompts)
            raise _Undone
        return counts

    def _duplicate(self, prompt: BatchPrompt) -> InvalidLine | None:
        prompt_id = str(prompt.id)
        try:
            self._do("INSERT INTO temp.ids VALUES (?, ?)", (prompt_id, prompt.line))
        except sqlite3.IntegrityError:
            (line,) = self._one("SELECT line FROM temp.ids WHERE id = ?", (prompt_id,))
            return InvalidLine(prompt.line, f"Line {line} has the same id {prompt_id!r}.")
        return None

    def _add(self, prompt: BatchPrompt, position: int) -> None:
        self._do(
            "INSERT INTO prompts (key, id, position, ask) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (key) DO UPDATE SET position = excluded.position, ask = excluded.ask",
            (prompt.key, _written_id(prompt.id), position, msgspec.json.encode(prompt.payload)),
        )

    def counts(self) -> Counts:
        """Count the prompts of this run."""
        rows = self._all(
            "SELECT state, count(*) FROM prompts WHERE position IS NOT NULL GROUP BY state"
        )
        by_state = dict(rows)
        return Counts(
            total=sum(by_state.values()),
            answered=by_state.get(State.ANSWERED, 0),
            failed=by_state.get(State.FAILED, 0),
        )

    def was_interrupted(self) -> bool:
        """Whether an earlier run may have left conversations that are not in the journal."""
        found = self._one("SELECT count(*) FROM prompts WHERE state = 1")
        return bool(found[0])

    def retry_failed(self) -> None:
        """Mark the failed prompts to be sent again."""
        self._do(
            "UPDATE prompts SET state = 0, attempts = 0, number = NULL, outcome = NULL"
            " WHERE state = 4 AND position IS NOT NULL"
        )

    def begin(self) -> None:
        """Start a run: prompts whose creation was interrupted wait again."""
        self._do("UPDATE prompts SET state = 0 WHERE state = 1")

    def claim(self, after: int, most: int) -> list[Job]:
        """Return the next waiting prompts after that position, marked as CREATING."""
        with self._transaction():
            rows = self._all(
                "SELECT row, id, position, ask, attempts FROM prompts"
                " WHERE position > ? AND state = 0 ORDER BY position LIMIT ?",
                (after, most),
            )
            if rows:
                self._many(
                    "UPDATE prompts SET state = 1 WHERE row = ?", [(row[0],) for row in rows]
                )
        return [
            Job(row, _read_id(prompt_id), position, _read_payload(payload), attempts)
            for row, prompt_id, position, payload, attempts in rows
        ]

    # Changes of a prompt

    def note_sending(self, row: int, account: int, conversation_id: str, token: str | None) -> None:
        """Note that the message is about to be sent in that conversation."""
        with self._transaction():
            self._do(
                "INSERT OR IGNORE INTO conversations (account, id) VALUES (?, ?)",
                (account, conversation_id),
            )
            self._do(
                "UPDATE prompts SET state = 2, account = ?, conversation = ?, token = ?,"
                " sent_at = ? WHERE row = ?",
                (account, conversation_id, token, time.time(), row),
            )

    def note_waiting(self, rows: Iterable[tuple[int, int]]) -> None:
        """Note that these rows, each with its number of attempts, wait to be sent again."""
        with self._transaction():
            self._many(
                "UPDATE prompts SET state = 0, account = NULL, conversation = NULL, token = NULL,"
                " attempts = ? WHERE row = ?",
                [(attempts, row) for row, attempts in rows],
            )

    def note_retry(self, row: int, attempts: int) -> None:
        """Like `note_waiting`, for one row that this run sends again."""
        self._do(
            "UPDATE prompts SET state = 1, account = NULL, conversation = NULL, token = NULL,"
            " attempts = ? WHERE row = ?",
            (attempts, row),
        )

    def note_outcomes(self, outcomes: Iterable[tuple[int, Outcome]]) -> None:
        """Store the results of these rows."""
        with self._transaction():
            values = []
            for row, outcome in outcomes:
                self._number += 1
                state = State.FAILED if outcome.has_failed else State.ANSWERED
                written = msgspec.json.encode(outcome)
                values.append((state, self._number, written, outcome.attempts, row))
            self._many(
                "UPDATE prompts SET state = ?, number = ?, outcome = ?, attempts = ?, token = NULL,"
                " account = NULL, conversation = NULL WHERE row = ?",
                values,
            )

    def note_deleted(self, conversations: Iterable[tuple[int, str]]) -> None:
        """Note that these conversations, each with its account, were deleted."""
        with self._transaction():
            self._many("DELETE FROM conversations WHERE account = ? AND id = ?", conversations)

    # Prompts and conversations that an earlier run has left

    def unanswered(self, account: int, after: int, most: int = _PAGE) -> list[Job]:
        """Prompts after the row ``after`` that were sent and have no result."""
        rows = self._all(
            "SELECT row, id, position, ask, attempts, conversation, token, sent_at FROM prompts"
            " WHERE state = 2 AND account = ? AND position IS NOT NULL AND row > ?"
            " ORDER BY row LIMIT ?",
            (account, after, most),
        )
        return [
            Job(row, _read_id(prompt_id), position, _read_payload(payload), *others)
            for row, prompt_id, position, payload, *others in rows
        ]

    def left_conversations(self, account: int, after: str, most: int = _PAGE) -> list[str]:
        """Conversations after the id ``after`` that are no longer needed."""
        rows = self._all(
            "SELECT c.id FROM conversations AS c WHERE c.account = ? AND c.id > ? AND NOT EXISTS"
            " (SELECT 1 FROM prompts AS p WHERE p.state = 2 AND p.account = c.account"
            " AND p.conversation = c.id AND p.position IS NOT NULL) ORDER BY c.id LIMIT ?",
            (account, after, most),
        )
        return [row[0] for row in rows]

    def knows(self, account: int, conversation_id: str) -> bool:
        """Whether the conversation belongs to this batch."""
        found = self._one(
            "SELECT count(*) FROM conversations WHERE account = ? AND id = ?",
            (account, conversation_id),
        )
        return bool(found[0])

    def has_left(self, account: int) -> bool:
        """Whether the account may still have conversations of this batch on its server."""
        found = self._one(
            "SELECT EXISTS (SELECT 1 FROM conversations WHERE account = ?)", (account,)
        )
        return bool(found[0])

    # Accounts

    def accounts(self) -> list[StoredAccount]:
        """The accounts of earlier runs."""
        rows = self._all("SELECT number, base_url, given, cookies, baseline FROM accounts")
        return [
            StoredAccount(
                number,
                base_url,
                given,
                cookies,
                None if baseline is None else frozenset(json.loads(baseline)),
            )
            for number, base_url, given, cookies, baseline in rows
        ]

    def add_account(self, base_url: str, given: str) -> StoredAccount:
        """Add an account that no earlier run had."""
        with self._transaction():
            self._do("INSERT INTO accounts (base_url, given) VALUES (?, ?)", (base_url, given))
            (number,) = self._one("SELECT last_insert_rowid()")
        return StoredAccount(number, base_url, given, None, None)

    def note_account(self, number: int, cookies: bytes | None, baseline: Iterable[str]) -> None:
        """Store the cookies from the server, and the conversations from before the batch."""
        self._do(
            "UPDATE accounts SET cookies = ?, baseline = ? WHERE number = ?",
            (cookies, json.dumps(sorted(baseline)), number),
        )

    # Results

    def results(self, after: int, *, ordered: bool, most: int = _PAGE) -> list[Row]:
        """Results after the number ``after``, in the order of their arrival.

        ``ordered``: results after the position ``after``, in the order of the prompts, up to the
        first prompt without a result.
        """
        columns = "SELECT row, key, id, position, ask, number, outcome, state FROM prompts"
        if ordered:
            where = " WHERE position > ? ORDER BY position LIMIT ?"
        else:
            where = " WHERE number > ? AND position IS NOT NULL ORDER BY number LIMIT ?"
        found: list[Row] = []
        for *row, state in self._all(columns + where, (after, most)):
            if state < State.ANSWERED:
                break
            found.append(_row(row))
        return found

    def results_of(self, prompt_id: PromptId) -> tuple[Row | None, list[Row]]:
        """The result of this run's prompt with that id, and results of other prompts with it."""
        rows = self._all(
            "SELECT row, key, id, position, ask, number, outcome, state FROM prompts WHERE id = ?",
            (_written_id(prompt_id),),
        )
        current, earlier = None, []
        for *row, state in rows:
            if state >= State.ANSWERED and row[3] is not None:
                current = _row(row)
            elif state >= State.ANSWERED:
                earlier.append(_row([*row[:3], 0, *row[4:]]))
        return current, earlier

    # SQL

    def _prepare(self, name: str) -> None:
        try:
            self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._db.execute("BEGIN EXCLUSIVE")
            self._check_kind(name)
            self._db.execute("COMMIT")
            if self.path is not None:
                # In exclusive mode this needs no shared memory, which network drives lack.
                self._db.execute("PRAGMA journal_mode = WAL")
                self.path.chmod(_PRIVATE)
            # If the process is killed, nothing is lost. A power failure may lose recent changes.
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT}")
        except sqlite3.DatabaseError as exc:
            raise _opening_error(exc, name) from exc

    def _check_kind(self, name: str) -> None:
        (application,) = self._db.execute("PRAGMA application_id").fetchone()
        (tables,) = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if not tables and not application:
            for statement in _SCHEMA.split(";"):
                self._db.execute(statement)
            self._db.execute(f"PRAGMA application_id = {_APPLICATION}")
            self._db.execute(f"PRAGMA user_version = {_VERSION}")
            return
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if application != _APPLICATION or version != _VERSION:
            raise _no_journal(name)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock:
            self._do("BEGIN")
            try:
                yield
                self._do("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def _do(self, sql: str, values: Sequence[object] = ()) -> None:
        self._execute(lambda: self._db.execute(sql, values))

    def _many(self, sql: str, values: Iterable[Sequence[object]]) -> None:
        self._execute(lambda: self._db.executemany(sql, values))

    def _all(self, sql: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        return self._execute(lambda: self._db.execute(sql, values).fetchall())

    def _one(self, sql: str, values: Sequence[object] = ()) -> tuple[Any, ...]:
        found: tuple[Any, ...] = self._execute(lambda: self._db.execute(sql, values).fetchone())
        return found

    def _execute(self, work: Callable[[], T]) -> T:
        with self._lock:
            try:
                return work()
            except sqlite3.IntegrityError:
                raise
            except sqlite3.Error as exc:
                where = "" if self.path is None else f" {self.path}"
                if "malformed" in str(exc) or "not a database" in str(exc):
                    raise JournalError(
                        f"The journal{where} is damaged: {exc}",
                        hint="Restore it from a backup, or begin with another one.",
                    ) from exc
                raise JournalError(
                    f"Cannot write the journal{where}: {exc}",
                    hint="Free space on the disk and run it again. The answers so far are kept.",
                ) from exc


class Marks:
    """Marks which results the answers file has. Closing the journal deletes the marks."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        journal._do("CREATE TEMP TABLE IF NOT EXISTS marks (row INTEGER PRIMARY KEY)")
        self.clear()

    def clear(self) -> None:
        """Forget all marks."""
        self._journal._do("DELETE FROM temp.marks")

    def add(self, row: int) -> bool:
        """Add a mark. Return False if it was already set."""
        try:
            self._journal._do("INSERT INTO temp.marks VALUES (?)", (row,))
        except sqlite3.IntegrityError:
            return False
        return True


def _row(row: Sequence[Any]) -> Row:
    number, key, prompt_id, position, payload, came, outcome = row
    return Row(
        number,
        key,
        _read_id(prompt_id),
        position,
        _read_payload(payload),
        came,
        wire_json.read_as(outcome, Outcome),
    )


def _written_id(prompt_id: PromptId) -> str:
    return json.dumps(prompt_id)


def _read_id(written: str) -> PromptId:
    found: PromptId = json.loads(written)
    return found


def _read_payload(written: bytes) -> Payload:
    return wire_json.read_as(written, Payload)


def _own_file(path: Path) -> Path:
    """Create the journal's file, or check it: a regular file that belongs to this user."""
    try:
        target = safe_target(path)
        for suffix in _SIDECARS:
            _check_own(Path(f"{target}{suffix}"))
        _check_use(target)
        flags = os.O_CREAT | os.O_RDWR | getattr(os, "O_NOFOLLOW", 0)
        descriptor = os.open(target, flags, _PRIVATE)
        try:
            _check_locks(descriptor, target)
        finally:
            os.close(descriptor)
    except ConfigurationError:
        raise
    except (OSError, ValueError) as exc:  # a path with a NUL is a ValueError
        reason = getattr(exc, "strerror", None) or exc
        raise ConfigurationError(
            f"Cannot use the journal {path}: {reason}",
            hint=Hint("Use another place for it: {journal}."),
            argument="journal",
        ) from exc
    return target


# Journals that this process has open. Opening and closing the file again would release the locks
# that SQLite holds on it.
_in_use: WeakValueDictionary[tuple[int, int], Journal] = WeakValueDictionary()
_in_use_lock = threading.Lock()


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _check_use(path: Path) -> None:
    """Raise `ConfigurationError` if another run of this process uses the file."""
    identity = _identity(path)
    other = None if identity is None else _in_use.get(identity)
    if other is not None and not other.give_up():
        raise _used(path, hint="Close that batch, or use another one: {journal}.")


def _taken(path: Path, journal: Journal) -> tuple[int, int] | None:
    identity = _identity(path)
    with _in_use_lock:
        if identity is not None:
            if identity in _in_use:
                raise _used(path)
            _in_use[identity] = journal
    return identity


def _used(
    path: object, *, hint: str = "Wait until it has ended, or use another one: {journal}."
) -> ConfigurationError:
    return ConfigurationError(
        f"Another run uses the journal {path}", hint=Hint(hint), argument="journal"
    )


def _check_own(path: Path) -> None:
    try:
        status = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EPERM, f"{path} is a link, or not a file")
    if os.name == "posix" and status.st_uid != os.geteuid():
        raise OSError(errno.EPERM, f"{path} belongs to another user")


def _check_locks(descriptor: int, path: Path) -> None:
    if sys.platform == "win32":
        return
    import fcntl

    try:
        # Lock a byte that SQLite does not lock. This runs before SQLite opens the file, because
        # closing this descriptor later would release SQLite's locks.
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 1)
    except OSError as exc:
        if exc.errno in (errno.EACCES, errno.EAGAIN):
            return  # another run holds the lock; SQLite will report it
        raise OSError(exc.errno, f"the file system of {path} has no locks") from exc


def _opening_error(exc: sqlite3.DatabaseError, name: str) -> H2oError:
    said = str(exc)
    if "locked" in said or "busy" in said:
        return _used(name)
    if "not a database" in said or "malformed" in said:
        return _no_journal(name)
    return JournalError(f"Cannot open the journal {name}: {said}")


def _no_journal(name: str) -> ConfigurationError:
    return ConfigurationError(
        f"{name} is not a journal of this version of h2o-chat, and was not changed",
        hint=Hint("Use another file: {journal}."),
        argument="journal",
    )
