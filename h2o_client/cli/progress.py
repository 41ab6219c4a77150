"""Signs of life on stderr while a person waits; on anything but a terminal there are none."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from h2o_client.cli.output import is_plain, say

T = TypeVar("T")


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Says what is waited for, for as long as it is."""
    if not sys.stderr.isatty():
        yield
    elif is_plain(sys.stderr):
        say(f"{what} ...")
        yield
    else:
        from rich.console import Console
        from rich.text import Text

        with Console(stderr=True).status(Text(f"{what} ...")):
            yield


def counted(items: Iterable[T], what: str, *, total: int | None = None) -> Iterator[T]:
    """The ``items``, with a count of those that are done."""
    if is_plain(sys.stderr):
        yield from items
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield from progress.track(items, total=total, description=what)
