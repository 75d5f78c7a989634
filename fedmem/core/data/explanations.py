"""Where in a file something is wrong, found by reading it again line by line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fedmem.core.data.files import numbered_lines
from fedmem.core.data.formats import Layout, split
from fedmem.core.errors import FedmemError, first_line


def explanation(path: Path, layout: Layout, encoding: str, error: Exception) -> FedmemError:
    """Why a file could not be read as the layout that it began with: the first line that differs.

    Args:
        path: of the file.
        layout: that its first lines have.
        encoding: of text.
        error: the reader's own, repeated where no line is found to be wrong.
    """
    first: str | None = None
    try:
        for number, line in numbered_lines(path, encoding) if layout.format != "parquet" else ():
            if line and number > layout.header:
                first = line if first is None else first
                wrong = _wrong(line, layout, first)
                if wrong:
                    return FedmemError(f"{path}, line {number} {wrong}.")
    except FedmemError as found:
        return found
    return FedmemError(f"{path} cannot be read as {layout}: {first_line(error)}.")


def place_of(path: Path, layout: Layout, encoding: str, row: int) -> str:
    """Where a row, from 0, stands: blank lines and the header are none."""
    if layout.format in ("parquet", "sequences"):
        return f"interaction {row + 1}"
    rows = (n for n, line in numbered_lines(path, encoding) if line and n > layout.header)
    return f"line {next(n for i, n in enumerate(rows) if i == row)}"


def _wrong(line: str, layout: Layout, first: str) -> str | None:
    if layout.format == "sequences":
        return None
    if layout.format == "jsonl":
        return _wrong_json(line, layout, json.loads(first))
    found, expected = len(split(line, layout.separator)), len(layout.names)
    if found == expected:
        return None
    return f"has {found} columns where {expected} are expected ({layout})"


def _wrong_json(line: str, layout: Layout, first: dict[str, Any]) -> str | None:
    try:
        value = json.loads(line)
    except ValueError as error:
        return f"is no JSON: {error}"
    if not isinstance(value, dict):
        return "is no JSON object"
    for role, name in layout.roles.items():
        cell, kind = value.get(name), type(first[name])
        allowed = {int, float} if role == "rating" and kind in (int, float) else {kind}
        if type(cell) not in allowed & {int, float, str}:
            return f"has {_short(cell)} as its {role} ({name}), where the first is {first[name]!r}"
    return None


def _short(cell: object) -> str:
    text = repr(cell)
    return text if len(text) <= 60 else text[:60] + "…"
