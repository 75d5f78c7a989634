"""Columns of files without a header: named by their order, or guessed from their number.

Two columns are `user item` pairs in time order, four are `user item rating timestamp`, and lines of
several lengths, or of five columns and more, are one user each where no user has two. A guess is
held up to the values: what they cannot mean is refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fedmem.core.data.columns import ROLES
from fedmem.core.data.doubts import DATE, ENOUGH, like_dates, like_times
from fedmem.core.data.layouts import SEPARATORS, Layout, find_roles, listed, may_quote, split
from fedmem.core.errors import FedmemError
from fedmem.core.settings import ColumnSettings

WITHOUT_HEADER = {"pairs": ROLES[:2], "ratings": ROLES}
WITH_OTHER = ("user", "timestamp", "item", "other")
"""An order of columns, as an example."""
SEQUENCES = Layout("sequences", " ", (), {}, guessed=True)

LARGEST_RATING = 1e8
AMAZON = {"user": re.compile(r"B0[0-9A-Z]{8}|\d{9}[\dX]"), "item": re.compile(r"A[0-9A-Z]{11,}")}
"""How Amazon's items are written where users should be, and users where items should."""
FEW = 11
"""Different values that a rating has at most, as from 0 to 5 in halves."""


def in_order(path: Path, lines: Sequence[str], columns: ColumnSettings) -> Layout:
    """The layout of a file whose columns `data.columns.order` names, by its first lines.

    Raises:
        FedmemError: the lines have another number of columns, or the order names no user or item.
    """
    assert columns.order is not None
    roles = find_roles(path, columns.order, columns)
    fitting = []
    for separator in SEPARATORS:
        quoted = may_quote(separator, lines[0])
        if all(len(split(line, separator, quoted)) == len(columns.order) for line in lines):
            fitting.append(separator)
    if len(fitting) > 1:
        names = " and ".join(SEPARATORS[separator] for separator in fitting)
        raise FedmemError(
            f"{path} has {len(columns.order)} columns by {names} alike: give it a line that names "
            "them, above the others."
        )
    separator = fitting[0] if fitting else next((s for s in SEPARATORS if s in lines[0]), " ")
    quoted = may_quote(separator, lines[0])
    width = len(split(lines[0], separator, quoted))
    if width != len(columns.order):
        raise FedmemError(
            f"{path} has {width} columns by {SEPARATORS[separator]} in its first line, "
            f"{lines[0][:60]!r}, and data.columns.order names {len(columns.order)}."
        )
    kind = "tsv" if separator == "\t" else "csv"
    return Layout(kind, separator, tuple(columns.order), roles, quoted=quoted)


def guess(path: Path, lines: Sequence[str], wanted: str) -> Layout:
    """The layout of a file without header, of the format that is wanted, by its first lines.

    Raises:
        FedmemError: it is of none, or the values cannot be what their columns would mean.
    """
    if wanted in ("csv", "tsv", "recbole", "jsonl", "json"):
        raise FedmemError(
            f"{path} is not data.format={wanted}: its first line, {lines[0][:60]!r}, names no user "
            "and item.\nSay which columns they are with data.columns.user and data.columns.item."
        )
    separator = next((s for s in SEPARATORS if s in lines[0]), " ")
    if wanted == "sequences":
        return replace(SEQUENCES, guessed=False)
    quoted = may_quote(separator, lines[0])
    rows = [split(line, separator, quoted) for line in lines]
    width = len(rows[0])
    differing = next((i for i, row in enumerate(rows) if len(row) != width), None)
    one_line_each = len({line.split()[0] for line in lines}) == len(lines)
    uneven = differing is not None or width > len(ROLES)
    if wanted == "auto" and uneven and one_line_each and separator in "\t ":
        return _sequences(path, lines)
    if wanted != "auto" or width in (2, 4):
        return _columns(path, rows, separator, quoted, wanted)
    found = f"line 1 has {width} columns"
    if differing is not None:
        found += f" and line {differing + 1} has {len(rows[differing])}"
    if differing is not None and one_line_each:
        raise FedmemError(
            f"{path} is of no format that is known: {found}.\nIf each line is one user, write it "
            "with spaces between: user item item …"
        )
    names = _likely_order(rows[: len(rows) if differing is None else differing])
    raise FedmemError(
        f"{path} is of no format that is known: {found}, without a header.\n"
        "Known are user item rating timestamp, user item, and one user a line; else name all "
        f"columns, as data.columns.order=[{','.join(names)}]."
    )


def _likely_order(rows: Sequence[Sequence[str]]) -> list[str]:
    """An order of columns to begin with: those of times where they are, the first two others."""
    columns = [[cell.strip() for cell in column] for column in zip(*rows, strict=True)]
    dated = (i for i, v in enumerate(columns) if 2 * len(like_dates(v)) > len(v) or _are_times(v))
    time = next(dated, 2 if len(columns) == 3 else None)
    left = [i for i in range(len(columns)) if i != time][:2]
    roles = dict(zip(left, ROLES, strict=False))
    if time is not None:
        roles[time] = "timestamp"
    return [roles.get(i, "other") for i in range(len(columns))]


def _are_times(values: Sequence[str]) -> bool:
    """Whether all of a column's values are numbers that look like times."""
    return all(map(_number, values)) and like_times([float(value) for value in values])


def _sequences(path: Path, lines: Sequence[str]) -> Layout:
    """One user a line, unless cells hold dates, or lists of their own."""
    for line in lines:
        cells = line.split("\t")
        dates = [cell for cell in [*cells, *line.split()] if DATE.fullmatch(cell.strip())]
        if dates or (len(cells) > 2 and any(" " in cell.strip() for cell in cells)):
            what = f"the time {dates[0]!r}" if dates else "lists of several items in a column"
            raise refusal(path, SEQUENCES, f"a line holds {what}")
    return SEQUENCES


def _columns(
    path: Path, rows: Sequence[Sequence[str]], separator: str, quoted: bool, wanted: str
) -> Layout:
    kind = "pairs" if wanted == "pairs" or (wanted == "auto" and len(rows[0]) == 2) else "ratings"
    if not _number(rows[0][-1]) and all(_number(row[-1]) for row in rows[1:]) and rows[1:]:
        raise FedmemError(
            f"{path}, line 1 seems to name columns, {listed(rows[0])}: say which are which with "
            "data.columns.user and data.columns.item."
        )
    names = WITHOUT_HEADER[kind]
    roles = dict(zip(names, names, strict=True))
    layout = Layout(kind, separator, names, roles, quoted=quoted, guessed=True)
    whole = [row for row in rows if len(row) == len(names)]
    columns = [[cell.strip() for cell in column] for column in zip(*whole, strict=True)]
    for role, values in zip(names, columns, strict=False):
        if reason := _impossible(role, values):
            raise refusal(path, layout, f"its {role} {reason}")
    swapped = [all(map(AMAZON[r].fullmatch, v)) for r, v in zip(AMAZON, columns, strict=False)]
    if all(swapped) and len(whole) >= ENOUGH:
        reason = f"its user {columns[0][0]!r} is written as items are at Amazon"
        raise refusal(path, layout, reason, ["item", "user", *names[2:]])
    if kind == "ratings" and len(whole) >= ENOUGH:
        few, ratings = len(set(columns[1])), len(set(columns[2]))
        if few <= FEW and ratings > 2 * FEW:
            reason = f"it has {few} items and {ratings} different ratings in {len(whole)} lines"
            raise refusal(path, layout, reason)
        times = len(set(columns[3]))
        if times <= FEW and ratings > 2 * FEW:
            reason = f"it has {ratings} different ratings and {times} times in {len(whole)} lines"
            raise refusal(path, layout, reason, ["user", "item", "timestamp", "rating"])
    return layout


def refusal(
    path: Path, layout: Layout, reason: str, order: Sequence[str] | None = None
) -> FedmemError:
    """The error for a file whose values cannot be what its columns were guessed to be."""
    if order is None:
        order = ["item", "user"] if len(layout.names) == 2 else WITH_OTHER
    return FedmemError(
        f"{path} has no header; read as {layout}, {reason}.\n"
        f"Name the columns in their order, as data.columns.order=[{','.join(order)}]."
    )


def _impossible(role: str, values: Sequence[str]) -> str | None:
    """Why the values of a column, those in the first lines, cannot be of this role."""
    dates = like_dates(values)
    numbers = [float(value) for value in values if _number(value)]
    if not values:
        return None
    if role in ROLES[:2]:
        if 2 * len(dates) > len(values):
            return f"{dates[0]!r} is a time"
        if _are_times(values):
            return f"{values[0]!r} looks like a time, as all of the first {len(values)} do"
        if any("." in value for value in values) and len(numbers) == len(values) >= ENOUGH:
            return f"{next(v for v in values if '.' in v)!r} looks like a rating"
    elif role == "rating":
        if len(dates) == len(values):
            return f"{dates[0]!r} is a time"
        if not numbers:
            return f"{values[0]!r} is no number"
        if len(numbers) == len(values) and min(map(abs, numbers)) >= LARGEST_RATING:
            return f"{values[0]!r} is too large"
    elif not numbers and not dates and not any(map(str.strip, values)):
        return "is empty"
    return None


def _number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
