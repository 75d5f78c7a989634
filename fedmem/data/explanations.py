"""Where in a file something is wrong, found by reading it again line by line."""

from __future__ import annotations

import json
from pathlib import Path

from fedmem.data.files import numbered_lines
from fedmem.data.formats import Layout, split
from fedmem.errors import FedmemError


def explanation(path: Path, layout: Layout, encoding: str, error: Exception) -> FedmemError:
    """Why a file could not be read as the layout that it began with: the first line that differs.

    Args:
        path: of the file.
        layout: that its first lines have.
        encoding: of text.
        error: what the reader said, told where no line is found to be wrong.
    """
    if layout.format != "parquet":
        try:
            for number, line in numbered_lines(path, encoding):
                wrong = _wrong(line, layout) if line and number > layout.header else None
                if wrong:
                    return FedmemError(f"{path}, line {number} {wrong}.")
        except FedmemError as found:
            return found
    return FedmemError(f"{path} cannot be read as {layout}: {_first_line(error)}.")


def place_of(path: Path, layout: Layout, encoding: str, row: int) -> str:
    """Where a row, from 0, stands: blank lines and the header are none."""
    if layout.format in ("parquet", "sequences"):
        return f"interaction {row + 1}"
    rows = (n for n, line in numbered_lines(path, encoding) if line and n > layout.header)
    return f"line {next(n for i, n in enumerate(rows) if i == row)}"


def _wrong(line: str, layout: Layout) -> str | None:
    if layout.format == "sequences":
        return None
    if layout.format == "jsonl":
        return _wrong_json(line, layout)
    found, expected = len(split(line, layout)), len(layout.names)
    if found == expected:
        return None
    return f"has {found} columns where {expected} are expected ({layout})"


def _wrong_json(line: str, layout: Layout) -> str | None:
    try:
        value = json.loads(line)
    except ValueError as error:
        return f"is no JSON: {error}"
    if not isinstance(value, dict):
        return "is no JSON object"
    for role, name in layout.roles.items():
        cell = value.get(name)
        if isinstance(cell, bool) or not isinstance(cell, str | int | float):
            return f"has {cell!r:.60} for {name}, its {role}"
    return None


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else repr(error)
