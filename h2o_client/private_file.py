"""Atomic writes of files that only their user can read.

All files of this package are written with this module: to a new file of mode 0600, which then
replaces the old one. A link is followed only if no other user can have created it.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

_OPEN_FILE = re.compile(r"/dev/(stdout|stderr|tty)|/(dev|proc/(self|[0-9]+))/fd/[0-9]+")
_MOST_LINKS = 40


class Unsafe(OSError):
    """Another user could read or replace the file; ``strerror`` says why."""


def write_private(path: str | os.PathLike[str], data: bytes) -> None:
    """Replace the file by one with the content ``data`` and mode 0600. Raises OSError.

    A pipe, /dev/stdout or the like is written to instead, if it belongs to this user.
    """
    target = Path(path)
    if is_open_file(target):
        special: os.stat_result | None = os.stat(target)
    else:
        target = safe_target(target)
        special = _special(target)
    if special is None:
        with replacing(target) as file:
            file.write(data)
        file.close()
        return
    if not _is_own(special):
        raise Unsafe(errno.EPERM, f"{target} belongs to another user")
    with open(target, "ab") as file:
        file.write(data)


@contextmanager
def replacing(target: Path) -> Iterator[IO[bytes]]:
    """Yield a new file of mode 0600 that replaces ``target`` at the end of the block.

    If the block raises, ``target`` is unchanged. The caller closes the file. Raises OSError.
    """
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:100]}.")
    file = open(handle, "wb")  # noqa: SIM115
    try:
        yield file
        file.flush()
        os.replace(name, target)
    except BaseException:
        file.close()
        with suppress(OSError):
            os.unlink(name)
        raise


def is_open_file(path: str | os.PathLike[str]) -> bool:
    """Whether ``path`` names a file that a process has open, such as /dev/stdout or /dev/fd/63."""
    return bool(_OPEN_FILE.fullmatch(os.path.normpath(path)))


def safe_target(path: Path) -> Path:
    """Follow all links in ``path`` and return the real path. Raises OSError.

    Raises `Unsafe` if another user could have created one of the links.
    """
    found, links = Path(Path.cwd().anchor), 0
    rest = list(reversed(Path.cwd().joinpath(path).parts[1:]))
    while rest:
        part = rest.pop()
        each = found.parent if part == ".." else found / part
        if part == ".." or not each.is_symlink():
            found = each
            continue
        links += 1
        if links > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        if _may_be_planted(each):
            raise Unsafe(
                errno.EPERM,
                f"{each} is a link in a folder that others can write to; name the file itself",
            )
        target = Path(os.readlink(each))
        if target.is_absolute():
            found = Path(target.anchor)
        rest += reversed(target.parts[1:] if target.is_absolute() else target.parts)
    return found


def is_writable_by_others(folder: Path) -> bool:
    """Whether another user, except the superuser, can create files in the folder."""
    if os.name != "posix":
        return False
    status = folder.stat()
    return not _is_own(status) or bool(status.st_mode & (stat.S_IWGRP | stat.S_IWOTH))


def _may_be_planted(link: Path) -> bool:
    if os.name != "posix":
        return False
    folder = link.parent.stat()
    if not _is_own(folder) or folder.st_mode & stat.S_IWOTH:
        return True
    # On many systems, each user has a group of their own, which can write to new folders.
    return bool(folder.st_mode & stat.S_IWGRP) and not _is_own(link.lstat())


def _is_own(status: os.stat_result) -> bool:
    return os.name != "posix" or status.st_uid in (0, os.geteuid())


def _special(target: Path) -> os.stat_result | None:
    # The status of an existing file that is not a regular one.
    try:
        status = target.lstat()
    except FileNotFoundError:
        return None
    return None if stat.S_ISREG(status.st_mode) else status
