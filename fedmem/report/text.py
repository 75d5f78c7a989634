"""The report's tables as text: for a terminal, and as Markdown."""

from __future__ import annotations

import io
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from fedmem.core.console import make_table, say
from fedmem.report.study import Study
from fedmem.report.tables import IN_TERMINAL, Block, tables_of


def print_tables(study: Study, console: Console) -> None:
    """The arms, what private ones have spent, then by how much they differ, in 80 columns."""
    tables = tables_of(study)
    arms, differences = tables["arms"], tables["differences"]
    several = len(arms.blocks) > 1
    blocks = [
        Block(names if several else (), [row[:IN_TERMINAL] for row in rows], note)
        for names, rows, note in arms.blocks
    ]
    headings = [heading.replace(" ", "\n") for heading in arms.headings[:IN_TERMINAL]]
    _print(headings, blocks, console)
    for others in (tables["privacy"], differences):
        if others.blocks:
            say("", console)
            _print(others.headings, others.blocks, console)


def _print(headings: Sequence[str], blocks: Sequence[Block], console: Console) -> None:
    """Blocks between their names and notes, in columns of one width."""
    columns = zip(headings, *(row for block in blocks for row in block.rows), strict=True)
    widths = [max(len(line) for cell in column for line in cell.split("\n")) for column in columns]

    def lay(rows: Sequence[Sequence[str]], header: bool = False) -> None:
        table = make_table(*headings, header=header)
        for column, width in zip(table.columns, widths, strict=True):
            column.min_width = width
        for row in rows:
            table.add_row(*row)
        console.print(table)

    lay([], header=True)
    for names, rows, note in blocks:
        if names:
            say(f"\n{' − '.join(names)}", console)
        lay(rows)
        if note:
            say(note, console)


def to_markdown(study: Study) -> str:
    """All tables as Markdown, notes on them, and what the runs were made with."""
    notes = [f"{note}.\n" for note in study.notes]
    made_with = [f"Made with {line}.\n" for line in study.made_with]
    return "\n".join([*markdown_tables(study).values(), *notes, *made_with])


def markdown_tables(study: Study) -> dict[str, str]:
    """Tables as Markdown, by their subject; empty ones are left out."""
    found: dict[str, str] = {}
    for subject, (named, headings, blocks) in tables_of(study).items():
        table = Table(box=box.MARKDOWN)
        for place, heading in enumerate([*named, *headings]):
            table.add_column(heading, justify="right" if place > 1 else "left", no_wrap=True)
        for names, rows, note in blocks:
            for row in [*rows, [note]] if note else rows:
                table.add_row(*names, *row)
        if table.rows:
            text = io.StringIO()
            Console(file=text, width=10_000, color_system=None).print(table)
            lines = [line.rstrip() for line in text.getvalue().splitlines()]
            found[subject] = "\n".join(filter(None, lines)) + "\n"
    return found
