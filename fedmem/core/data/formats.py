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

from fedmem.core.data.files import numbered_lines, open_bytes, parquet_source, readable
from fedmem.core.errors import FedmemError, first_line
from fedmem.core.settings import ColumnSettings, DataSettings

ROLES = ("user", "item", "rating", "timestamp")
WITHOUT_HEADER = {"pairs": ROLES[:2], "ratings": ROLES}
SEPARATORS = ("::", "\t", ",", ";", " ")
SEPARATOR_NAMES = {"\t": "tabs", ",": "commas", ";": "semicolons", " ": "spaces", "::": "::"}
LOOKED_AT = 1 << 16
"""Characters at the beginning of a file from which its format is recognised."""
USUAL_NAMES = {
    "user": "user userid uid reviewerid customerid visitorid sessionid session username",
    "item": "item itemid iid movieid movie asin parentasin productid product isbn bookid trackid "
    "songid articleid businessid gameid",
    "rating": "rating score stars overall",
    "timestamp": "timestamp time ts datetime date unixreviewtime unixtime",
}
"""Column names that are recognised, the first that is there; case and marks do not count."""


@dataclass(frozen=True)
class Layout:
    """How a file holds interactions.

    Attributes:
        format: one of `FORMATS`, never `auto`.
        separator: between columns of text.
        names: of all columns, in their order.
        roles: the column's name of each of `ROLES` that the file has.
        header: number of the line that names the columns; 0: none does.
    """

    format: str
    separator: str
    names: tuple[str, ...]
    roles: dict[str, str]
    header: int

    def __str__(self) -> str:
        if self.format == "sequences":
            return "sequences (one user a line)"
        columns = ", ".join(self.roles.values())
        by = f" by {SEPARATOR_NAMES[self.separator]}" if self.separator else ""
        return f"{self.format} ({columns}{by})"


SEQUENCES = Layout("sequences", " ", (), {}, 0)


def recognise(path: Path, settings: DataSettings) -> Layout:
    """The layout of a file, of `data.format` where that is not `auto`.

    Raises:
        FedmemError: the file is empty, or of none of the formats, or not of the one that is set.
    """
    wanted = settings.format
    with readable(path):
        if path.stat().st_size == 0:
            raise FedmemError(f"{path} is empty.")
        with open_bytes(path) as file:
            parquet = file.read(4) == b"PAR1"
    if parquet or wanted == "parquet":
        return _require(path, wanted, _parquet(path, settings.columns))
    numbered = [
        (number, line) for number, line in _beginning(path, settings.encoding) if line.strip()
    ]
    if not numbered:
        raise FedmemError(f"{path} has no line but blank ones.")
    (number, first), lines = numbered[0], [line for _, line in numbered]
    if "\0" in first:
        raise FedmemError(f"{path} is no text, and no Parquet either.")
    if first.lstrip().startswith("{"):
        return _require(path, wanted, _json_lines(path, first, settings.columns))
    table = _with_header(path, number, first, settings.columns)
    if table is not None:
        return _require(path, wanted, table)
    return _without_header(path, lines, wanted)


def _require(path: Path, wanted: str, found: Layout) -> Layout:
    if wanted not in ("auto", found.format):
        raise FedmemError(f"{path} reads as {found}, and data.format={wanted} was asked for.")
    return found


def _beginning(path: Path, encoding: str) -> list[tuple[int, str]]:
    """The lines of the first characters, whole."""
    lines, left = [], LOOKED_AT
    for number, line in numbered_lines(path, encoding):
        lines.append((number, line))
        left -= len(line) + 1
        if left <= 0:
            break
    return lines


def split(line: str, separator: str) -> list[str]:
    """A line's cells."""
    if separator == "::":
        return line.split(separator)
    return next(csv.reader([line], delimiter=separator))


def _plain(name: str) -> str:
    """A column's name without RecBole's type, case and marks."""
    return "".join(c for c in name.split(":")[0].lower() if c.isalnum())


def find_column(role: str, names: Sequence[str], asked: str | None) -> str | None:
    """The column of a role: the one asked for, or the usual name that comes first."""
    if asked is not None:
        return asked if asked in names else None
    plain = [_plain(name) for name in names]
    usual = next((usual for usual in USUAL_NAMES[role].split() if usual in plain), None)
    return None if usual is None else names[plain.index(usual)]


def _roles(path: Path, names: Sequence[str], columns: ColumnSettings) -> dict[str, str]:
    """The columns of each role.

    Raises:
        FedmemError: user or item is not there, or a column that was asked for is not.
    """
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
            names = pq.read_schema(parquet_source(path)).names
    except (pa.ArrowException, UnicodeError) as error:
        raise FedmemError(f"{path} cannot be read as Parquet: {first_line(error)}.") from error
    return Layout("parquet", "", tuple(names), _roles(path, names, columns), 0)


def _json_lines(path: Path, first: str, columns: ColumnSettings) -> Layout:
    try:
        names = list(json.loads(first))
    except ValueError as error:
        raise FedmemError(f"{path}, line 1 is no JSON object: {error}.") from error
    return Layout("jsonl", "", tuple(names), _roles(path, names, columns), 0)


def _with_header(path: Path, number: int, line: str, columns: ColumnSettings) -> Layout | None:
    """The layout of a table whose first line names a user or an item; None where it does not."""
    for separator in SEPARATORS[1:]:
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
    found = (
        f"line 1 has {width} columns"
        if differing is None
        else f"line 1 has {width} columns and line {differing + 1} has {len(rows[differing])}"
    )
    raise FedmemError(
        f"{path} is of no format that is known: {found}, without a header.\n"
        "Known are user item rating timestamp, user item, one user a line, and columns with names: "
        "say which with data.columns.user and data.columns.item."
    )


def _columns(path: Path, rows: list[list[str]], separator: str, wanted: str) -> Layout:
    kind = "pairs" if wanted == "pairs" or (wanted == "auto" and len(rows[0]) == 2) else "ratings"
    names = WITHOUT_HEADER[kind]
    if not _number(rows[0][-1]) and all(_number(row[-1]) for row in rows[1:]) and rows[1:]:
        raise FedmemError(
            f"{path}, line 1 seems to name columns, {_listed(rows[0])}: say which are which with "
            "data.columns.user and data.columns.item."
        )
    return Layout(kind, separator, names, {name: name for name in names}, 0)


def _number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
