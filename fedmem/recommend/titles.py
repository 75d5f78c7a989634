"""Titles of items by the data's own ids, to show to people."""

from __future__ import annotations

from pathlib import Path

from fedmem.features.table import read_items

USUAL_FILES = ("movies.dat", "movies.csv", "items.csv", "items.tsv", "items.jsonl", "*.item")
"""Names under which a data folder may hold an item table; the first that is there is taken."""


def find_table(folder: Path) -> Path | None:
    """The item table with a usual name in the folder; None where there is no such file."""
    return next((path for name in USUAL_FILES for path in sorted(folder.glob(name))), None)


def find_titles(folder: Path) -> dict[str, str]:
    """Titles from a file with a usual name in the folder; none where there is no such file."""
    table = find_table(folder)
    return read_titles(table) if table else {}


def read_titles(path: Path) -> dict[str, str]:
    """Title by id, in the table's order.

    Raises:
        FedmemError: as `read_items`.
    """
    return {item.id: item.title for item in read_items(path, {})}
