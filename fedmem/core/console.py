"""How a line and a table look in a terminal: the same from every command."""

from __future__ import annotations

import codecs
import io
import sys
import unicodedata

from rich.console import Console
from rich.table import Table

PLAIN = {"−": "-", "–": "-", "…": "...", "·": "|", "×": "x", "→": "->", "≥": ">=", "≤": "<="}
"""What stands for signs of ours that an encoding does not have."""


def show_anything() -> None:
    """Let this process's terminal, or the pipe in its place, take any text, whatever its encoding.

    What it cannot show is shown by what is next to it: `é` by `e`, and what has nothing by `?`.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="plain")


def _in_plain(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    found = []
    for sign in error.object[error.start : error.end]:
        letters = PLAIN.get(sign) or unicodedata.normalize("NFKD", sign)
        found.append(letters.encode("ascii", "ignore").decode() or "?")
    return "".join(found), error.end


codecs.register_error("plain", _in_plain)


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
