"""The report's tables as text: for a terminal, and as Markdown."""

from __future__ import annotations

import io
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from fedmem.core.console import make_table, say
from fedmem.report import differences, share
from fedmem.report.runs import METRICS
from fedmem.report.study import Study
from fedmem.report.table import HEADINGS, blocks_of

TableRows = list[list[str]]
IN_TERMINAL = 2 + len(METRICS)
"""Columns of the arms' table that 80 letters have room for."""


def print_tables(study: Study, console: Console) -> None:
    """The arms, then by how much they differ, in 80 columns."""
    blocks = blocks_of(study)
    many = len(blocks) > 1
    _print(
        [heading.replace(" ", "\n") for heading in HEADINGS[:IN_TERMINAL]],
        [(b.arm if many else "", [row[:IN_TERMINAL] for row in b.rows], b.note) for b in blocks],
        console,
    )
    if study.contrasts:
        say("", console)
        found = [(f"{c.name} − {c.against}", differences.rows_of(c), "") for c in study.contrasts]
        _print(differences.HEADINGS, found, console)


def _print(
    headings: Sequence[str], groups: Sequence[tuple[str, TableRows, str]], console: Console
) -> None:
    """Groups of rows between their names and notes, in columns of one width."""
    columns = zip(headings, *(row for _, rows, _ in groups for row in rows), strict=True)
    widths = [max(len(line) for cell in column for line in cell.split("\n")) for column in columns]

    def lay(rows: TableRows, header: bool = False) -> None:
        table = make_table(*headings, header=header)
        for column, width in zip(table.columns, widths, strict=True):
            column.min_width = width
        for row in rows:
            table.add_row(*row)
        console.print(table)

    lay([], header=True)
    for name, rows, note in groups:
        if name:
            say(f"\n{name}", console)
        lay(rows)
        if note:
            say(note, console)


def to_markdown(study: Study) -> str:
    """All tables as Markdown, and what the runs were made with."""
    made_with = [f"Made with {line}.\n" for line in study.made_with]
    return "\n".join([*markdown_tables(study).values(), *made_with])


def markdown_tables(study: Study) -> dict[str, str]:
    """Tables as Markdown, by their subject; empty ones are left out."""
    contrasts = {(c.name, c.against): c for c in study.contrasts}
    tables: dict[str, tuple[Sequence[str], TableRows]] = {
        "arms": (
            ["arm", *HEADINGS],
            [
                [block.arm, *row]
                for block in blocks_of(study)
                for row in [*block.rows, *([[block.note]] if block.note else [])]
            ],
        ),
        "share": (share.HEADINGS, share.rows_of(study)),
        "differences": (
            ["arm", "less", *differences.HEADINGS],
            [[*pair, *row] for pair, c in contrasts.items() for row in differences.rows_of(c)],
        ),
        "slices": (
            ["arm", "less", *differences.SLICE_HEADINGS],
            [[*pair, *row] for pair, c in contrasts.items() for row in differences.slice_rows(c)],
        ),
    }
    return {name: _markdown(headings, rows) for name, (headings, rows) in tables.items() if rows}


def _markdown(headings: Sequence[str], rows: TableRows) -> str:
    table = Table(box=box.MARKDOWN)
    for place, heading in enumerate(headings):
        table.add_column(heading, justify="right" if place > 1 else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    text = io.StringIO()
    Console(file=text, width=10_000, color_system=None).print(table)
    lines = [line.rstrip() for line in text.getvalue().splitlines()]
    return "\n".join(line for line in lines if line) + "\n"
