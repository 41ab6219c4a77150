"""The answers file: one line for each prompt, appended when its result arrives.

The lines of an earlier run are first compared with the journal. An incomplete last line is removed,
and so are the lines of prompts that have changed or will be sent again.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from h2o_client.batch.journal import Journal, Marks, Row
from h2o_client.batch.results import id_of_line
from h2o_client.errors import ConfigurationError, Hint
from h2o_client.private_file import is_open_file, replacing, safe_target


class AnswersFile:
    """Writes the answers to ``path``, or to stdout if that is "-".

    ``ordered``: lines that are not in the order of the prompts are removed. ``drops_failed``: lines
    of failed prompts are removed. Raises OSError, and `ConfigurationError` if the file has lines
    that do not belong to this batch.
    """

    def __init__(
        self,
        path: str,
        journal: Journal,
        *,
        ordered: bool = False,
        drops_failed: bool = False,
    ) -> None:
        self._ordered = ordered
        self._drops_failed = drops_failed
        self._journal = journal
        self._marks = Marks(journal)
        self._kept = 0
        self._path: Path | None = None  # of a regular file
        if path == "-":
            self._descriptor = os.dup(1)
            return
        if is_open_file(path):
            self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
            return
        target = safe_target(Path(path))
        if target.exists() and not stat.S_ISREG(target.stat().st_mode):
            self._descriptor = os.open(target, os.O_WRONLY)  # a pipe, or a terminal
            return
        if target.exists():
            self._clear(target)
        flags = os.O_CREAT | os.O_WRONLY | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
        self._descriptor = os.open(target, flags, 0o600)
        self._path = target

    def write(self, row: Row) -> None:
        """Append the line of a result, unless the file has it."""
        if not self._marks.add(row.row):
            return
        rest = memoryview(row.line())
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]

    def check_place(self) -> None:
        """Raise OSError if the file was removed or replaced since it was opened."""
        if self._path is None:
            return
        if not os.path.samestat(os.stat(self._path), os.fstat(self._descriptor)):
            raise OSError(errno.ESTALE, "the file was replaced while the batch ran")

    def close(self) -> None:
        """Write everything to the disk, and close the file. Raises OSError."""
        try:
            if stat.S_ISREG(os.fstat(self._descriptor).st_mode):
                os.fsync(self._descriptor)
        finally:
            os.close(self._descriptor)

    def _clear(self, target: Path) -> None:
        with open(target, "rb") as file:
            keeps_all, size = True, 0
            for line, keeps in self._judged(file, target):
                keeps_all = keeps_all and keeps
                size += len(line) if keeps_all else 0
        if keeps_all:
            if target.stat().st_size > size:
                os.truncate(target, size)
            return
        self._marks.clear()
        self._kept = 0
        with open(target, "rb") as file, replacing(target) as cleared:
            for line, keeps in self._judged(file, target):
                if keeps:
                    cleared.write(line)
        cleared.close()

    def _judged(self, file: BinaryIO, target: Path) -> Iterator[tuple[bytes, bool]]:
        """Yield each complete line, and whether to keep it."""
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                # The last line is incomplete after a kill. Complete lines before it show that the
                # file belongs to this batch.
                if number == 1 and not self._has_begun(line):
                    raise _unknown_line(target, number)
                return
            yield line, self._keeps(line, number, target)

    def _has_begun(self, piece: bytes) -> bool:
        """Whether the line of any result begins with ``piece``."""
        after = 0
        while rows := self._journal.results(after, ordered=False):
            if any(row.line().startswith(piece) for row in rows):
                return True
            after = rows[-1].number
        return False

    def _keeps(self, line: bytes, number: int, target: Path) -> bool:
        prompt_id = id_of_line(line)
        current: Row | None = None
        earlier: list[Row] = []
        if prompt_id is not None:
            current, earlier = self._journal.results_of(prompt_id)
        if current is None or current.line() != line:
            if any(_is_of(line, row) for row in (*earlier, *filter(None, [current]))):
                return False  # the prompt, or its index, has changed
            if current is None:
                raise _unknown_line(target, number)
        if self._ordered and current.index != self._kept:
            return False
        if self._drops_failed and current.outcome.has_failed:
            return False
        if not self._marks.add(current.row):
            return False
        self._kept += 1
        return True


def _unknown_line(target: Path, number: int) -> ConfigurationError:
    return ConfigurationError(
        f"{target}, line {number}: the journal does not have this answer",
        hint=Hint("Use another file for {output}, or remove this one."),
        argument="output",
    )


def _is_of(line: bytes, earlier: Row) -> bool:
    """Whether ``line`` is the line of an ``earlier`` result, at any index."""
    index = line.partition(b'"index":')[2].partition(b",")[0]
    if not index.isdigit():
        return earlier.line() == line
    return (
        Row(
            earlier.row,
            earlier.key,
            earlier.id,
            int(index),
            earlier.payload,
            earlier.number,
            earlier.outcome,
        ).line()
        == line
    )
