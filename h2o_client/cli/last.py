"""The answers that were begun and have not ended: kept so that they can be gone on with.

Each is a file in the command's folder: its address, its token, what was printed of it, and the
session's cookies. It is held while its program lives, and removed once the answer has ended, or
was stopped; what nobody has gone on with for a week is removed by those that follow.
"""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Annotated, Protocol

import msgspec

from h2o_client.answer.server_run import ResumeToken
from h2o_client.cli.cookies import Saved, saved
from h2o_client.cli.folder import open_held, own_folder, replace_held, rewrite
from h2o_client.errors import (
    ConfigurationError,
    H2oError,
    IncompleteAnswerError,
    TransportError,
)
from h2o_client.session import H2oSession
from h2o_client.wire import json

_FILES = "answer-*.json"
_NOTED_EVERY = 0.5  # seconds, on a terminal
_KEPT_FOR = 7 * 86400.0  # seconds
_BREAKS = (TransportError, IncompleteAnswerError)


class Answering(Protocol):
    """What is needed of a reply."""

    @property
    def resume_token(self) -> str | None: ...


class Last(msgspec.Struct, frozen=True):
    """Where an answer is, how many characters of it were printed, and the session's cookies.

    ``given``: they are a browser's; ``delete``: its conversation was made for it, and goes with it.
    """

    url: str
    token: str
    printed: Annotated[int, msgspec.Meta(ge=0)] = 0
    cookies: tuple[Saved, ...] = ()
    given: bool = False
    delete: bool = False


class Kept:
    """A file with an answer. Nobody else goes on with it before it is let go."""

    def __init__(self, path: Path | None, last: Last, file: IO[bytes] | None = None) -> None:
        self.last: Last = last
        self._path = path
        self._file = file

    def write(self, last: Last) -> None:
        """Keeps ``last`` instead. Where nothing can be written, nothing is kept."""
        self.last = last
        if self._path is None:
            return
        data = msgspec.json.encode(last)
        with suppress(OSError):
            if self._file is not None and self._file.writable():
                rewrite(self._file, data)
                return
            file = replace_held(self._path, data)
            self.let_go()
            self._file = file

    def forget(self) -> None:
        """Removes it."""
        if self._path is not None:
            with suppress(OSError):
                self._path.unlink(missing_ok=True)
        self.let_go()

    def is_there(self) -> bool:
        """Whether it was not forgotten."""
        return self._path is not None and self._path.exists()

    def let_go(self) -> None:
        """Others may go on with it."""
        if self._file is not None:
            self._file.close()
            self._file = None


@contextmanager
def latest() -> Iterator[Kept | None]:
    """The answer that was begun last of those that no living program gives, if there is one."""
    found = _latest()
    try:
        yield found
    finally:
        if found is not None:
            found.let_go()


@contextmanager
def kept(
    client: H2oSession,
    reply: Answering,
    *,
    printed: int = 0,
    delete: bool = False,
    at: Kept | None = None,
) -> Iterator[Callable[[str], None]]:
    """Keeps an answer while it is written, and after a failure of the network; ``at`` its place.
    ``delete``: its conversation is to be deleted with it.

    What is given takes note of each text that was printed. Where servers keep no answers, and where
    nothing can be written, nothing is kept. One that had a place before keeps it when it is
    interrupted.
    """
    token = reply.resume_token
    if token is None:
        yield lambda text: None
        return
    cookies, given = saved(client)
    keeper = _Keeper(Last(client.base_url, token, printed, cookies, given, delete), at)
    try:
        yield keeper.note
    except BaseException as exc:
        if isinstance(exc, _BREAKS) or (at is not None and not isinstance(exc, H2oError)):
            keeper.write()
            keeper.kept.let_go()
        else:  # it was stopped, or has failed for good
            keeper.kept.forget()
        raise
    keeper.kept.forget()


class _Keeper:
    def __init__(self, last: Last, at: Kept | None) -> None:
        self.kept: Kept = at or Kept(_new_path(), last)
        self._last = last
        self._written_at = 0.0
        # Whoever goes on with a file must not find words in it twice; on a screen that is no harm.
        self._pause = _NOTED_EVERY if sys.stdout.isatty() else 0.0
        self.write()

    def note(self, text: str) -> None:
        """``text`` was printed. It is on disk at once, or soon, should the program be killed."""
        self._last = msgspec.structs.replace(self._last, printed=self._last.printed + len(text))
        if time.monotonic() - self._written_at >= self._pause:
            self.write()

    def write(self) -> None:
        self._written_at = time.monotonic()
        self.kept.write(self._last)


def is_one_held() -> bool:
    """Whether another program gives an answer just now."""
    with suppress(OSError):
        for path in own_folder().glob(_FILES):
            file = open_held(path)
            if file is None:
                return True
            file.close()
    return False


def _new_path() -> Path | None:
    """A place of its own, whose name tells when it was begun. The very old ones are removed."""
    try:
        folder = own_folder()
        _sweep(folder)
    except OSError:
        return None
    return folder / f"answer-{time.time_ns():020}-{secrets.token_hex(4)}.json"


def _sweep(folder: Path) -> None:
    for path in (*folder.glob(_FILES), *folder.glob(f".{_FILES}.*")):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > _KEPT_FOR and (file := open_held(path)):
                path.unlink()
                file.close()


def _latest() -> Kept | None:
    try:
        paths = sorted(own_folder().glob(_FILES), reverse=True)
    except OSError:
        return None
    for path in paths:
        with suppress(OSError):
            file = open_held(path)
            if file is None:
                continue
            try:
                last = json.read_as(file.read(), Last)
                if ResumeToken.read(last.token).base_url == last.url:
                    return Kept(path, last, file)
            except (json.InvalidJson, ConfigurationError):
                pass
            file.close()  # it is damaged
    return None
