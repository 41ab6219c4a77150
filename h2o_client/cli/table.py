"""Lists as tables for people; what servers say is text in them, never markup."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from h2o_client.cli.output import harmless


def show_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Writes a table to stdout, as wide as the terminal."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for place, heading in enumerate(headings):
        # The first column is what other commands take: it is never broken.
        table.add_column(heading, no_wrap=place == 0, overflow="fold")
    for row in rows:
        table.add_row(*(Text(harmless(in_a_line(cell))) for cell in row))
    Console(file=sys.stdout, highlight=False).print(table)


def in_a_line(text: str) -> str:
    """``text`` with each run of white space as one space."""
    return " ".join(text.split())
