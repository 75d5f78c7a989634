"""Tables of pages that are made from the code."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def markdown_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown: a line for each row, a cell for each heading."""
    lines = [headings, *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines).replace(
        "|\n", f"|\n|{'---|' * len(headings)}\n", 1
    )
