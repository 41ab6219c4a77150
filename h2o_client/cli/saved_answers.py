"""Records of unfinished answers, for ``h2o-chat resume``.

Each is a file in the command's folder with the server's address, the resume token, how much of the
answer was printed, and the session's cookies. The file is locked while its program runs, and
removed when the answer has ended or was stopped. Files older than a week are removed by the next
command that saves one.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.cookiejar import Cookie, CookieJar
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol

import msgspec

from h2o_client.answer.server_run import ResumeToken
from h2o_client.cli.app_folder import app_folder, lock_file, try_lock
from h2o_client.errors import (
    ConfigurationError,
    H2oError,
    IncompleteAnswerError,
    TransportError,
)
from h2o_client.private_file import write_private
from h2o_client.wire import json

if TYPE_CHECKING:
    from filelock import BaseFileLock

    from h2o_client.session import H2oSession

_FILES = "answer-*.json"
_SAVED_EVERY = 0.5  # seconds
_KEPT_FOR = 7 * 86400.0  # seconds
_BREAKS = (TransportError, IncompleteAnswerError)


class Resumable(Protocol):
    """The part of `Reply` that is needed here."""

    @property
    def resume_token(self) -> str | None: ...


class SavedCookie(msgspec.Struct, frozen=True):
    """One cookie of a session."""

    name: str
    value: str
    domain: str
    path: str = "/"
    secure: bool = False
    expires: int | None = None


class Record(msgspec.Struct, frozen=True):
    """An unfinished answer: its server, its token, its printed characters, its session's cookies.

    ``given``: the cookies come from a browser. ``delete``: the conversation was created for this
    answer and has to be deleted with it.
    """

    url: str
    token: str
    printed: Annotated[int, msgspec.Meta(ge=0)] = 0
    cookies: tuple[SavedCookie, ...] = ()
    given: bool = False
    delete: bool = False


class SavedAnswer:
    """A saved answer, locked by this process until `release` or `forget`."""

    def __init__(self, path: Path | None, record: Record, lock: BaseFileLock | None) -> None:
        self.record: Record = record
        self._path = path  # None if nothing can be written
        self._lock = lock

    def write(self, record: Record) -> None:
        """Replace the record. Does nothing if it cannot be written."""
        self.record = record
        if self._path is not None:
            with suppress(OSError):
                write_private(self._path, msgspec.json.encode(record))

    def forget(self) -> None:
        """Remove the record."""
        if self._path is not None:
            _remove(self._path, self._lock)
        self._lock = None

    def exists(self) -> bool:
        """Whether the record still exists."""
        return self._path is not None and self._path.exists()

    def release(self) -> None:
        """Unlock it, so that another process can resume it."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None


@contextmanager
def last_saved() -> Iterator[SavedAnswer | None]:
    """The latest saved answer that no running program has locked; None if there is none."""
    found = _last_saved()
    try:
        yield found
    finally:
        if found is not None:
            found.release()


@contextmanager
def saving(
    client: H2oSession,
    reply: Resumable,
    *,
    printed: int = 0,
    delete: bool = False,
    at: SavedAnswer | None = None,
) -> Iterator[Callable[[int], None]]:
    """Save an answer while it is printed, and keep the record if the network breaks.

    printed: how many characters were printed before.
    delete: whether to delete its conversation with it.
    at: the record of an answer that is being resumed. It is also kept after an interrupt.

    Yields a function to call with the number of newly printed characters. Nothing is saved if the
    server does not support resuming, or if no file can be written.
    """
    token = reply.resume_token
    if token is None:
        yield lambda characters: None
        return
    cookies, given = cookies_of(client)
    saver = _Saver(Record(client.base_url, token, printed, cookies, given, delete), at)
    try:
        yield saver.note
    except BaseException as exc:
        stays = isinstance(exc, _BREAKS) or (at is not None and not isinstance(exc, H2oError))
        saver.end(forget=not stays)
        raise
    saver.end(forget=True)


class _Saver:
    """Saves how much was printed, twice a second at most, in a background thread.

    If the program is killed, its record is at most half a second old.
    """

    def __init__(self, record: Record, at: SavedAnswer | None) -> None:
        self._answer = at or _new_answer(record)
        self._record = record
        self._printed = record.printed  # changed by the printing thread only
        self._lock = threading.Lock()  # held while the file is written, and to set _ended
        self._ended = False
        self._stop = threading.Event()
        self._answer.write(record)
        threading.Thread(target=self._run, name="h2o-chat-saver", daemon=True).start()

    def note(self, characters: int) -> None:
        """Note that more characters were printed."""
        self._printed += characters

    def end(self, *, forget: bool) -> None:
        """Save the last state and unlock the file, or remove it."""
        self._stop.set()
        self._write()
        with self._lock:
            self._ended = True
            if forget:
                self._answer.forget()
            else:
                self._answer.release()

    def _run(self) -> None:
        while not self._stop.wait(_SAVED_EVERY):
            self._write()

    def _write(self) -> None:
        with self._lock:
            if not self._ended and self._printed != self._record.printed:
                self._record = msgspec.structs.replace(self._record, printed=self._printed)
                self._answer.write(self._record)


def is_one_locked() -> bool:
    """Whether a running program is printing a saved answer."""
    with suppress(OSError):
        for path in app_folder().glob(_FILES):
            lock = try_lock(path)
            if lock is None:
                return True
            lock.release()
    return False


def _new_answer(record: Record) -> SavedAnswer:
    """Create a record in a new file, named by the time. Removes very old records."""
    try:
        folder = app_folder()
        _remove_old(folder)
        path = folder / f"answer-{time.time_ns():020}-{secrets.token_hex(4)}.json"
        return SavedAnswer(path, record, try_lock(path))
    except OSError:
        return SavedAnswer(None, record, None)


def _remove_old(folder: Path) -> None:
    """Remove records, and files of killed programs, that are older than a week."""
    for path in (*folder.glob(_FILES), *folder.glob(f".{_FILES}.*"), *folder.glob("answer-*.lock")):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime <= _KEPT_FOR:
                continue
            if path.suffix == ".json":
                if (lock := try_lock(path)) is not None:
                    _remove(path, lock)
            elif not path.with_suffix(".json").exists():
                path.unlink()


def _remove(path: Path, lock: BaseFileLock | None) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)
    if lock is not None:
        lock.release()
    # The lock file is removed last, so that a program that gets the lock now finds no record.
    with suppress(OSError):
        lock_file(path).unlink(missing_ok=True)


def _last_saved() -> SavedAnswer | None:
    try:
        paths = sorted(app_folder().glob(_FILES), reverse=True)
    except OSError:
        return None
    for path in paths:
        with suppress(OSError):
            lock = try_lock(path)
            if lock is None:
                continue
            if (record := _read(path)) is not None:
                return SavedAnswer(path, record, lock)
            lock.release()
            if not path.exists():
                lock_file(path).unlink(missing_ok=True)
    return None


def _read(path: Path) -> Record | None:
    """The record in a file; None if the file is gone or damaged."""
    try:
        record = json.read_as(path.read_bytes(), Record)
        return record if ResumeToken.read(record.token).base_url == record.url else None
    except (OSError, json.InvalidJson, ConfigurationError):
        return None


def cookies_of(client: H2oSession) -> tuple[tuple[SavedCookie, ...], bool]:
    """The cookies of a session, and whether they come from a browser."""
    jar = client._transport.cookies
    found = (
        SavedCookie(each.name, each.value or "", each.domain, each.path, each.secure, each.expires)
        for each in jar.kept()
    )
    return tuple(found), jar.given


def restore_cookies(client: H2oSession, cookies: tuple[SavedCookie, ...]) -> None:
    """Give ``client`` these cookies, which the server has set in an earlier session."""
    client._transport.cookies.restore(list(jar_of(cookies)), given=False)


def jar_of(cookies: tuple[SavedCookie, ...]) -> CookieJar:
    """A jar with the cookies."""
    jar = CookieJar()
    for each in cookies:
        jar.set_cookie(_cookie(each))
    return jar


def _cookie(each: SavedCookie) -> Cookie:
    return Cookie(
        version=0,
        name=each.name,
        value=each.value,
        port=None,
        port_specified=False,
        domain=each.domain,
        domain_specified=bool(each.domain),
        domain_initial_dot=each.domain.startswith("."),
        path=each.path,
        path_specified=bool(each.path),
        secure=each.secure,
        expires=each.expires,
        discard=each.expires is None,
        comment=None,
        comment_url=None,
        rest={},
    )
