"""Which format a file of interactions is of, by its first lines, and where its columns are.

The rules, in this order. Parquet is known by its first bytes, JSON lines by a brace. A first line
that names a user and an item column is a header: of RecBole where the names carry types
(`user_id:token`), else of a table whose columns are separated by what separates the names. Without
a header, two columns are `user item` pairs in time order, four are `user item rating timestamp`,
and lines of several lengths, or of five columns and more, are one user each where no user has two.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from fedmem.core.data.columns import ROLES, find_column
from fedmem.core.data.files import numbered_lines, open_bytes, arrow_source, readable
from fedmem.core.errors import FedmemError, first_line
from fedmem.core.settings import ColumnSettings, DataSettings

WITHOUT_HEADER = {"pairs": ROLES[:2], "ratings": ROLES}
SEPARATORS = {"::": "::", "\t": "tabs", ",": "commas", ";": "semicolons", " ": "spaces"}
"""Their names; where a line has more than one of them, the first counts."""
LOOKED_AT = 1 << 16
"""Characters at the beginning of a file, in whole lines, from which its format is recognised."""


@dataclass(frozen=True)
class Layout:
    """How a file holds interactions."""

    format: str
    """One of `FORMATS`, never `auto`."""
    separator: str
    """Between columns of text."""
    names: tuple[str, ...]
    """Of all columns, in their order."""
    roles: dict[str, str]
    """The column's name of each of `ROLES` that the file has."""
    header: int = 0
    """Number of the line that names the columns; 0: none does."""

    def __str__(self) -> str:
        if self.format == "sequences":
            return "sequences (one user a line)"
        columns = ", ".join(self.roles.values())
        by = f" by {SEPARATORS[self.separator]}" if self.separator else ""
        return f"{self.format} ({columns}{by})"


SEQUENCES = Layout("sequences", " ", (), {})


def recognise(path: Path, settings: DataSettings) -> Layout:
    """The layout of a file, of `data.format` where that is not `auto`.

    Raises:
        FedmemError: the file is empty, or of none of the formats, or not of the one that is set.
    """
    found = _recognised(path, settings.format, settings)
    if settings.format not in ("auto", found.format):
        raise FedmemError(
            f"{path} reads as {found}, and data.format={settings.format} was asked for."
        )
    return found


def _recognised(path: Path, wanted: str, settings: DataSettings) -> Layout:
    with readable(path):
        if path.stat().st_size == 0:
            raise FedmemError(f"{path} is empty.")
        with open_bytes(path) as file:
            parquet = file.read(4) == b"PAR1"
    if parquet or wanted == "parquet":
        return _parquet(path, settings.columns)
    lines: dict[int, str] = {}  # by number
    left = LOOKED_AT
    for number, line in numbered_lines(path, settings.encoding):
        if line.strip():
            lines[number] = line
        left -= len(line) + 1
        if left <= 0:
            break
    if not lines:
        raise FedmemError(f"{path} has no line but blank ones.")
    number, first = next(iter(lines.items()))
    if "\0" in first:
        raise FedmemError(f"{path} is no text, and no Parquet either.")
    if first.lstrip().startswith("{"):
        return _json_lines(path, first, settings.columns)
    table = _with_header(path, number, first, settings.columns)
    return table or _without_header(path, list(lines.values()), wanted)


def split(line: str, separator: str) -> list[str]:
    """A line's cells."""
    if separator == "::":
        return line.split(separator)
    return next(csv.reader([line], delimiter=separator))


def _roles(path: Path, names: Sequence[str], columns: ColumnSettings) -> dict[str, str]:
    """The column of each role that there is; user and item, and those asked for, there must be."""
    found = {role: find_column(role, names, vars(columns)[role]) for role in ROLES}
    for role, name in found.items():
        asked = vars(columns)[role]
        if name is None and (asked is not None or role in ROLES[:2]):
            what = f"column {asked!r}" if asked else f"{role} column that is known by its name"
            raise FedmemError(
                f"{path} has no {what}; its columns are {_listed(names)}.\n"
                f"Say which it is with data.columns.{role}=NAME."
            )
        if name is not None and names.count(name) > 1:
            raise FedmemError(f"{path} has more than one column {name!r}.")
    return {role: name for role, name in found.items() if name is not None}


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(" ".join(name[:40].split()) for name in names[:12])
    return shown + (f" and {len(names) - 12} more" if len(names) > 12 else "")


def _parquet(path: Path, columns: ColumnSettings) -> Layout:
    try:
        with readable(path):
            names = pq.read_schema(arrow_source(path)).names
    except (pa.ArrowException, UnicodeError) as error:
        raise FedmemError(f"{path} cannot be read as Parquet: {first_line(error)}.") from error
    return Layout("parquet", "", tuple(names), _roles(path, names, columns))


def _json_lines(path: Path, first: str, columns: ColumnSettings) -> Layout:
    try:
        names = list(json.loads(first))
    except ValueError as error:
        raise FedmemError(f"{path}, line 1 is no JSON object: {error}.") from error
    return Layout("jsonl", "", tuple(names), _roles(path, names, columns))


def _with_header(path: Path, number: int, line: str, columns: ColumnSettings) -> Layout | None:
    """The layout of a table whose first line names a user or an item; None where it does not."""
    for separator in list(SEPARATORS)[1:]:
        names = [name.strip() for name in split(line, separator)]
        named = any(find_column(role, names, vars(columns)[role]) for role in ROLES[:2])
        if named and len(names) > 1:
            kind = "csv" if separator != "\t" else "recbole" if ":" in line else "tsv"
            return Layout(kind, separator, tuple(names), _roles(path, names, columns), number)
    return None


def _without_header(path: Path, lines: list[str], wanted: str) -> Layout:
    if wanted in ("csv", "tsv", "recbole", "jsonl"):
        raise FedmemError(
            f"{path} is not data.format={wanted}: its first line, {lines[0][:60]!r}, names no user "
            "and item.\nSay which columns they are with data.columns.user and data.columns.item."
        )
    separator = next((s for s in SEPARATORS if s in lines[0]), " ")
    if wanted == "sequences":
        return SEQUENCES
    rows = [split(line, separator) for line in lines]
    width = len(rows[0])
    differing = next((i for i, row in enumerate(rows) if len(row) != width), None)
    one_line_each = len({line.split()[0] for line in lines}) == len(lines)
    uneven = differing is not None or width > len(ROLES)
    if wanted == "auto" and uneven and one_line_each and separator in "\t ":
        return SEQUENCES
    if wanted != "auto" or width in (2, 4):
        return _columns(path, rows, separator, wanted)
    found = f"line 1 has {width} columns"
    if differing is not None:
        found += f" and line {differing + 1} has {len(rows[differing])}"
    raise FedmemError(
        f"{path} is of no format that is known: {found}, without a header.\n"
        "Known are user item rating timestamp, user item, one user a line, and columns with names: "
        "say which with data.columns.user and data.columns.item."
    )


def _columns(path: Path, rows: list[list[str]], separator: str, wanted: str) -> Layout:
    kind = "pairs" if wanted == "pairs" or (wanted == "auto" and len(rows[0]) == 2) else "ratings"
    if not _number(rows[0][-1]) and all(_number(row[-1]) for row in rows[1:]) and rows[1:]:
        raise FedmemError(
            f"{path}, line 1 seems to name columns, {_listed(rows[0])}: say which are which with "
            "data.columns.user and data.columns.item."
        )
    names = WITHOUT_HEADER[kind]
    return Layout(kind, separator, names, dict(zip(names, names, strict=True)))


def _number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
