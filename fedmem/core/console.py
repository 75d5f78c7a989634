"""How a line and a table look in a terminal: the same from every command."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table


def say(line: str = "", console: Console | None = None) -> None:
    """Print lines as they are, to this process's terminal: no markup, no colours, none broken."""
    (console or Console()).print(line, markup=False, emoji=False, highlight=False, soft_wrap=True)


def make_table(first: str, *headings: str, gap: int = 1, header: bool = True) -> Table:
    """A table without lines: its first column names the rows, the others hold figures.

    The cells below `headings` stand to the right; `gap` is the spaces between two columns.
    """
    table = Table(box=None, padding=(0, gap, 0, 0), pad_edge=False, show_header=header)
    table.add_column(first, overflow="fold")
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table
