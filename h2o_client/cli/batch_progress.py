"""Show the progress of a batch on stderr: redrawn on a terminal, else a line every ten seconds."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from h2o_client.cli.terminal import is_plain, sanitized, say
from h2o_client.timeouts import monotonic

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live
    from typing_extensions import Self

    from h2o_client.batch.batch import Batch
    from h2o_client.batch.progress import Progress

_EVERY = 10.0  # seconds
_REDRAWN_EVERY = 0.25


class Display:
    """Shows the progress of a batch within a ``with`` block."""

    def __init__(self, batch: Batch, *, is_quiet: bool) -> None:
        self._batch = batch
        self._is_quiet = is_quiet
        self._live: Live | None = None
        self._next = monotonic() + _EVERY

    def update(self) -> None:
        """Show the progress, if enough time has passed."""
        now = monotonic()
        if self._is_quiet or now < self._next:
            return
        if self._live is not None:
            self._next = now + _REDRAWN_EVERY
            self._live.update(_drawn(self._batch.progress), refresh=True)
        else:
            self._next = now + _EVERY
            progress = self._batch.progress
            say(f"{sentence(progress)}; {_speed(progress)}.{_what_waits(progress)}")

    def __enter__(self) -> Self:
        if not self._is_quiet and not is_plain(sys.stderr):
            from rich.console import Console
            from rich.live import Live

            self._next = 0.0
            # Draw on stderr, because stdout may contain the answers.
            self._live = Live(
                console=Console(stderr=True),
                auto_refresh=False,
                transient=True,
                redirect_stdout=False,
            )
            self._live.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._live is not None:
            self._live.stop()


def sentence(progress: Progress) -> str:
    """The progress in words."""
    text = f"{progress.answered} of {progress.total} answered"
    if progress.failed:
        text += f", {progress.failed} failed"
    return text + (f", {progress.waiting} waiting" if progress.waiting else "")


def duration(seconds: float) -> str:
    """A duration in words, such as "3 min 5 s"."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _speed(progress: Progress) -> str:
    speed = f"{progress.per_second:.1f} a second"
    return speed if progress.left is None else f"{speed}, {duration(progress.left)} left"


def _what_waits(progress: Progress) -> str:
    waits = [
        f" {each.server}: {each.state}."
        for each in progress.accounts
        if each.state not in ("answering", "done")
    ]
    return "".join(waits[:3])


def _drawn(progress: Progress) -> RenderableType:
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    done = progress.answered + progress.failed
    line = Table.grid(padding=(0, 2))
    line.add_row(
        ProgressBar(total=max(1, progress.total), completed=done, width=30),
        Text(f"{done}/{progress.total}"),
        Text(f"{progress.failed} failed", style="red" if progress.failed else "dim"),
        Text(_speed(progress)),
    )
    accounts = Table.grid(padding=(0, 2))
    for each in progress.accounts:
        accounts.add_row(
            Text(sanitized(each.server)),
            Text(f"{each.in_flight} in progress"),
            Text(sanitized(each.state), style="dim"),
        )
    return Group(line, accounts)
