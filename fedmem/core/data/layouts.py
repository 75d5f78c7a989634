"""How a file holds interactions: its format, and which column is which."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fedmem.core.data.columns import ROLES, find_column
from fedmem.core.data.files import MAX_LINE
from fedmem.core.errors import FedmemError
from fedmem.core.settings import ColumnSettings

SEPARATORS = {
    "::": "::",
    "\t": "tabs",
    ",": "commas",
    ";": "semicolons",
    "|": "bars",
    " ": "spaces",
}
"""Their names; where a line has more than one of them, the first counts."""
WITHOUT_QUOTES = ("::", "\t")
"""What separates columns in formats that know no quotes: a quotation mark is part of a title."""

csv.field_size_limit(MAX_LINE + 1)


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
    """The column's name of each of `ROLES` that the file has, and of the `history` that lists a
    user's items in one row."""
    skip: int = 0
    """Lines before the first row: comments, and the one that names the columns."""
    quoted: bool = False
    """Whether cells may stand in quotes."""
    guessed: bool = False
    """Whether the columns are known by their number alone."""

    def __str__(self) -> str:
        if self.format == "sequences":
            return "sequences (one user a line)"
        columns = ", ".join(self.roles.values())
        by = f" by {SEPARATORS[self.separator]}" if self.separator else ""
        return f"{self.format} ({columns}{by})"


def split(line: str, separator: str, quoted: bool) -> list[str]:
    """A line's cells."""
    if not quoted:
        return line.split(separator)
    return next(csv.reader([line], delimiter=separator))


def may_quote(separator: str, line: str) -> bool:
    """Whether cells may stand in quotes, where a line is the first: not by tabs, unless it does."""
    if separator not in WITHOUT_QUOTES:
        return True
    first = line.split(separator)[0].strip()
    return separator == "\t" and len(first) > 1 and first[0] == first[-1] == '"'


def find_roles(
    path: Path, names: Sequence[str], columns: ColumnSettings, lists: Sequence[str] = ()
) -> dict[str, str]:
    """The column of each role that there is; `lists` are those that hold a list in each row.

    Raises:
        FedmemError: there is none of users or of items, or none of a name that was asked for, or
            there are two of a name.
    """
    history = columns.item if columns.item in lists else find_column("history", lists)
    found = {}
    for role in ROLES:
        asked = getattr(columns, role)
        if role == "item" and history is not None and asked in (None, history):
            name = find_column(role, [name for name in names if name not in lists])
        else:
            name = find_column(role, names, asked)
            if name is None and (asked is not None or role in ROLES[:2]):
                what = f"column {asked!r}" if asked else f"{role} column that is known by its name"
                raise FedmemError(
                    f"{path} has no {what}; its columns are {listed(names)}.\n"
                    f"Say which it is with data.columns.{role}=NAME."
                )
        if name is not None and names.count(name) > 1:
            raise FedmemError(f"{path} has more than one column {name!r}.")
        found[role] = name
    if history is not None:
        found["history"] = history
    return {role: name for role, name in found.items() if name is not None}


def listed(names: Sequence[str]) -> str:
    """Names of columns, as a message shows them."""
    shown = ", ".join(" ".join(name[:40].split()) for name in names[:12])
    return shown + (f" and {len(names) - 12} more" if len(names) > 12 else "")
