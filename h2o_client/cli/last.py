"""The answer that was begun last and has not ended: kept so that it can be gone on with.

In the command's folder lie its address, its token and what was printed of it, and beside them the
session's cookies. All is removed once the answer has ended, or was stopped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

import msgspec

from h2o_client.cli.folder import own_folder, private_file, write_private
from h2o_client.errors import IncompleteAnswerError, TransportError

_FILE = "last.json"
_COOKIES = "last-cookies.txt"
_NOTED_EVERY = 0.5  # seconds


class Client(Protocol):
    """What is needed of a session."""

    @property
    def base_url(self) -> str: ...

    def save_cookies(self, path: str) -> None: ...


class Answering(Protocol):
    """What is needed of a reply."""

    @property
    def resume_token(self) -> str | None: ...


class Last(msgspec.Struct, frozen=True):
    """Where the answer is, and how many characters of it were printed."""

    url: str
    token: str
    printed: int = 0

    @property
    def cookies(self) -> str:
        """The path of the file with the cookies of its session."""
        return str(own_folder() / _COOKIES)


def load() -> Last | None:
    """The answer that was kept, if there is one."""
    try:
        return msgspec.json.decode((own_folder() / _FILE).read_bytes(), type=Last)
    except (OSError, msgspec.MsgspecError):
        return None


def forget() -> None:
    """Removes what was kept."""
    with suppress(OSError):
        folder = own_folder()
        for name in (_FILE, _COOKIES):
            Path(folder / name).unlink(missing_ok=True)


@contextmanager
def kept(client: Client, reply: Answering, *, printed: int = 0) -> Iterator[Callable[[str], None]]:
    """Keeps an answer while it is written, and after a failure of the network.

    What is given takes note of each text that was printed. Where servers keep no answers, and where
    nothing can be written, nothing is kept.
    """
    token = reply.resume_token
    if token is None:
        yield lambda text: None
        return
    keeper = _Keeper(client, token, printed)
    try:
        yield keeper.note
    except (TransportError, IncompleteAnswerError):
        keeper.write()
        raise
    except BaseException:
        # It was stopped, or has failed for good.
        keeper.forget()
        raise
    keeper.forget()


class _Keeper:
    def __init__(self, client: Client, token: str, printed: int) -> None:
        self._last = Last(client.base_url, token, printed)
        self._written_at = 0.0
        with suppress(OSError):
            client.save_cookies(str(private_file(_COOKIES)))
        self.write()

    def note(self, text: str) -> None:
        """``text`` was printed. It is on disk within a moment, should the program be killed."""
        self._last = msgspec.structs.replace(self._last, printed=self._last.printed + len(text))
        if time.monotonic() - self._written_at >= _NOTED_EVERY:
            self.write()

    def write(self) -> None:
        self._written_at = time.monotonic()
        with suppress(OSError):
            write_private(_FILE, msgspec.json.encode(self._last).decode())

    def forget(self) -> None:
        # Another answer may have been begun in another window meanwhile.
        found = load()
        if found is not None and found.token == self._last.token:
            forget()
