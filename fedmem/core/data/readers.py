"""From files to a table of interactions: codes of users and items, ratings and timestamps."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fedmem.core.data.arrow import read_arrow
from fedmem.core.data.columns import ROLES
from fedmem.core.data.doubts import impossible
from fedmem.core.data.files import numbered_lines, readable
from fedmem.core.data.formats import first_records, recognise
from fedmem.core.data.headerless import refusal
from fedmem.core.data.histories import unrolled
from fedmem.core.data.ids import Ids, encode_some
from fedmem.core.data.layouts import Layout
from fedmem.core.data.records import Columns, read_columns, read_records
from fedmem.core.data.text import first_wrong, read_separated, read_sequences
from fedmem.core.data.values import BadValue, Mask, Numbers, numbers
from fedmem.core.errors import FedmemError, first_line
from fedmem.core.settings import DataSettings


@dataclass(frozen=True)
class Table:
    """What files hold, a row an interaction, in their order."""

    users: npt.NDArray[np.int64]
    """[N] places in `user_ids`, which are the data's own, ascending, each once."""
    user_ids: Ids
    items: npt.NDArray[np.int64]
    item_ids: Ids
    ratings: Numbers | None
    """[N]"""
    timestamps: Numbers | None
    """[N] in whatever unit; None: the files are in time order."""
    files: npt.NDArray[np.int16]
    """[N] the file of each row."""
    missing: str = ""
    """What rows were dropped for that are not among the [N]."""
    dropped: int = 0
    """How many these are."""


@dataclass(frozen=True)
class _Part:
    path: Path
    layout: Layout
    rows: int


def read_table(paths: Sequence[Path], settings: DataSettings) -> tuple[Table, Layout]:
    """Read files of interactions, one after the other, and say how they are laid out.

    Raises:
        FedmemError: one is of no format that is known or of another than the first, a line of it
            cannot be read, or a value is missing and `data.missing` says to refuse that.
    """
    parts: list[_Part] = []
    read: list[Columns] = []
    for path in paths:
        layout = _layout(path, settings, parts)
        used = layout.roles
        if settings.min_rating is None:  # ratings are read where they are used
            used = {role: name for role, name in used.items() if role != "rating"}
        columns = _columns(path, replace(layout, roles=used), settings)
        parts.append(_Part(path, layout, len(columns["user"])))
        read.append(columns)
    layout = parts[0].layout
    if not sum(part.rows for part in parts):
        raise FedmemError(f"{paths[0]} has no interactions.")
    columns = {role: _joined([each[role] for each in read]) for role in read[0]}
    del read
    files = np.repeat(np.arange(len(parts), dtype=np.int16), [part.rows for part in parts])
    if "history" in columns:
        try:
            columns, files = unrolled(columns, files)
        except FedmemError as error:
            raise FedmemError(f"{', '.join(map(str, paths[:3]))}: {error}.") from error
    converted: dict[str, Any] = {}
    missing: dict[str, Mask] = {}
    for role, column in columns.items():
        try:
            if role in ROLES[:2]:
                converted[role] = encode_some(column, settings.missing != "keep")
                absent = converted[role][0] < 0
            else:
                converted[role], absent = numbers(column, role == "timestamp")
        except BadValue as bad:
            place = _place_of(parts, settings.encoding, bad.row)
            raise FedmemError(f"{place}: the {role} {bad}.") from bad
        if absent is not None and absent.any():
            missing[role] = absent
    (users, user_ids), (items, item_ids) = converted["user"], converted["item"]
    ratings, timestamps = converted.get("rating"), converted.get("timestamp")
    table = Table(users, user_ids, items, item_ids, ratings, timestamps, files)
    if missing:
        table = _without(table, missing, columns, parts, settings)
    if layout.guessed and (reason := impossible(table.users, table.items, table.timestamps)):
        raise refusal(paths[0], layout, reason)
    return table, layout


def _layout(path: Path, settings: DataSettings, before: Sequence[_Part]) -> Layout:
    """The layout of a file; one after the first may lack the header that the first has."""
    if not before:
        return recognise(path, settings)
    expected = before[0].layout
    try:
        found = recognise(path, settings)
    except FedmemError:
        found = None
    same = found is not None and (found.format, found.roles) == (expected.format, expected.roles)
    if found is not None and same:
        return found
    if expected.skip and expected.format in ("csv", "tsv", "recbole"):
        without = replace(expected, skip=0)
        if first_wrong(path, without, settings.encoding) is None:
            return without
    raise FedmemError(
        f"{path} reads as {found or 'none of the formats'}, and {before[0].path} as {expected}: "
        "parts must be alike."
    )


def _columns(path: Path, layout: Layout, settings: DataSettings) -> Columns:
    """The file's columns by role, without those that nothing is read for."""
    encoding = settings.encoding
    try:
        with readable(path):
            if layout.format == "sequences":
                columns = read_sequences(path, layout, encoding)
            elif layout.format in ("json", "jsonl"):
                sample = first_records(path, encoding) if layout.format == "jsonl" else None
                columns = read_columns(path, layout.roles, sample, encoding)
            elif layout.format in ("parquet", "feather"):
                columns = _of_arrow(path, layout)
            else:
                columns = read_separated(path, layout, encoding)
    except (pa.ArrowException, FedmemError, UnicodeError) as error:
        raise _explanation(path, layout, encoding, error) from error
    return columns


def _of_arrow(path: Path, layout: Layout) -> Columns:
    table = read_arrow(path, layout.format, list(layout.roles.values()))
    columns = {}
    for role, name in layout.roles.items():
        column = table[name]
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        if pa.types.is_large_string(column.type) or pa.types.is_string_view(column.type):
            column = column.cast(pa.string())
        columns[role] = column
    return columns


def _joined(columns: Sequence[pa.ChunkedArray]) -> pa.ChunkedArray:
    """One column of several, as text where their types differ."""
    kinds = {column.type for column in columns if not pa.types.is_null(column.type)}
    kind = kinds.pop() if len(kinds) == 1 else pa.string()
    if len(columns) == 1:
        return columns[0]
    return pa.chunked_array([chunk.cast(kind) for each in columns for chunk in each.chunks], kind)


def _without(
    table: Table,
    missing: dict[str, Mask],
    columns: Columns,
    parts: Sequence[_Part],
    settings: DataSettings,
) -> Table:
    """The table without the rows that miss something, if that is wanted.

    Raises:
        FedmemError: it is not.
    """
    absent = np.logical_or.reduce(list(missing.values()))
    what = ", ".join(f"{role} missing in {mask.sum():,}" for role, mask in missing.items())
    if settings.missing != "drop":
        row = int(np.argmax(absent))
        role = next(role for role, mask in missing.items() if mask[row])
        place = _place_of(parts, settings.encoding, row)
        value = columns[role][row].as_py()
        written = f" ({value.strip()!r})" if isinstance(value, str) and value.strip() else ""
        keep = ""
        if written and role in ROLES[:2]:
            keep = ", or data.missing=keep to take the word for an id"
        raise FedmemError(
            f"{place}: the {role} is missing{written}; of {len(absent):,} interactions: {what}.\n"
            f"Set data.missing=drop to leave these out{keep}."
        )
    rows = np.flatnonzero(~absent)
    if not len(rows):
        raise FedmemError(f"{parts[0].path} has no interactions but such with missing values.")
    user_codes, users = np.unique(table.users[rows], return_inverse=True)
    item_codes, items = np.unique(table.items[rows], return_inverse=True)
    return Table(
        users,
        table.user_ids[user_codes],
        items,
        table.item_ids[item_codes],
        None if table.ratings is None else table.ratings[rows],
        None if table.timestamps is None else table.timestamps[rows],
        table.files[rows],
        what,
        int(absent.sum()),
    )


def _explanation(path: Path, layout: Layout, encoding: str, error: Exception) -> FedmemError:
    """Why a file could not be read as the layout that it began with: the first line that differs.

    The reader's own error is repeated where no line is found to be wrong.
    """
    try:
        if layout.separator and (wrong := first_wrong(path, layout, encoding)):
            return FedmemError(f"{path}, {wrong}.")
        if layout.format == "jsonl":
            deque(read_records(path, encoding), maxlen=0)
    except FedmemError as found:
        return found
    if str(path) in str(error):
        return FedmemError(str(error))
    return FedmemError(f"{path} cannot be read as {layout}: {first_line(error)}.")


def _place_of(parts: Sequence[_Part], encoding: str, row: int) -> str:
    """Where a row, from 0, stands: blank lines, comments and the header are none."""
    for part in parts:
        if row < part.rows:
            break
        row -= part.rows
    path, layout = part.path, part.layout
    if layout.format in ("parquet", "feather", "sequences") or "history" in layout.roles:
        return f"{path}, interaction {row + 1}"
    if layout.format in ("json", "jsonl"):
        place, _ = next(islice(read_records(path, encoding), row, None))
        return f"{path}, {place}"
    lines = (n for n, line in numbered_lines(path, encoding) if line and n > layout.skip)
    return f"{path}, line {next(islice(lines, row, None))}"
