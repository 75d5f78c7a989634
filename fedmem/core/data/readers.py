"""From a file to a table of interactions: codes of users and items, ratings and timestamps.

Arrow parses all columns of text as text, block by block, so that a line without end is noticed
before it fills the memory. What it cannot parse, or what turns out to be no number, is then looked
up line by line, to be able to say where it stands.
"""

from __future__ import annotations

import codecs
import json
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from fedmem.core.data.columns import ROLES
from fedmem.core.data.files import MAX_LINE, numbered_lines, open_bytes, arrow_source, readable
from fedmem.core.data.formats import Layout, recognise, split
from fedmem.core.data.ids import BadValue, Ids, encode
from fedmem.core.errors import FedmemError, first_line
from fedmem.core.settings import DataSettings

Numbers = npt.NDArray[np.int64] | npt.NDArray[np.float64]
Columns = dict[str, pa.ChunkedArray]
"""By role."""

NUMBERS = (pa.int64(), pa.float64())
DATES = (pa.timestamp("ns"), pa.timestamp("ns", "UTC"))
BETWEEN = "between "
NOT_IN_TEXT = "\x01"


@dataclass(frozen=True)
class Table:
    """What a file holds, a row an interaction, in the file's order."""

    users: npt.NDArray[np.int64]
    """[N] places in `user_ids`, which are the data's own, ascending, each once."""
    user_ids: Ids
    items: npt.NDArray[np.int64]
    item_ids: Ids
    ratings: Numbers | None
    """[N]"""
    timestamps: Numbers | None
    """[N] in whatever unit; None: the file is in time order."""


def read_table(path: Path, settings: DataSettings) -> tuple[Table, Layout]:
    """Read a file of interactions, and say how it is laid out.

    Raises:
        FedmemError: it is of no format that is known, or a line of it cannot be read.
    """
    layout = recognise(path, settings)
    try:
        with readable(path):
            columns = _READERS[layout.format](path, layout, settings)
    except (pa.ArrowException, FedmemError, UnicodeError) as error:
        raise _explanation(path, layout, settings.encoding, error) from error
    if not len(columns["user"]):
        raise FedmemError(f"{path} has no interactions.")
    converted: dict[str, Any] = {}
    for role, column in columns.items():
        try:
            as_ids = role in ROLES[:2]
            converted[role] = encode(column) if as_ids else numbers(column, role == "timestamp")
        except BadValue as bad:
            place = _place_of(path, layout, settings.encoding, bad.row)
            raise FedmemError(f"{path}, {place}: the {role} {bad}.") from bad
    (users, user_ids), (items, item_ids) = converted["user"], converted["item"]
    ratings, timestamps = converted.get("rating"), converted.get("timestamp")
    return Table(users, user_ids, items, item_ids, ratings, timestamps), layout


def numbers(column: pa.ChunkedArray, dates: bool) -> Numbers:
    """A column [N] as numbers; dates, where they are allowed, as nanoseconds since 1970.

    Raises:
        BadValue: a value is missing, or is not a number.
    """
    if column.null_count:
        raise BadValue(int(np.argmax(column.is_null().to_numpy())), "is missing")
    kinds = list(NUMBERS)
    if pa.types.is_string(column.type):
        column = pc.utf8_trim_whitespace(column)
        # The first value decides, so that a later one that does not fit it can be named.
        if dates and _cast(column[:1], NUMBERS[-1]) is None:
            kinds = [kind for kind in DATES if _cast(column[:1], kind) is not None] or kinds
    elif dates:
        kinds += DATES
    for kind in kinds:
        cast = _cast(column, kind)
        if cast is not None:
            values: Numbers = cast.cast(kind if kind in NUMBERS else pa.int64()).to_numpy()
            if np.isnan(values).any():
                raise BadValue(int(np.argmax(np.isnan(values))), "is missing")
            return values
    if not pa.types.is_string(column.type):
        raise BadValue(0, f"is of type {column.type}, which is no number")
    starts = range(len(column))  # from one on that does not cast, no longer beginning does either
    row = bisect_left(starts, True, key=lambda n: _cast(column[: n + 1], kinds[-1]) is None)
    what = "number" if kinds[-1] in NUMBERS else "date like the first"
    raise BadValue(row, f"{column[row].as_py()[:60]!r} is no {what}")


def _cast(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray | None:
    try:
        return column.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None


def _read_columns(path: Path, layout: Layout, settings: DataSettings) -> Columns:
    if layout.separator != "::":
        return _read_text(path, list(layout.names), layout, settings.encoding, layout.separator)
    # Arrow separates by one character: what stands between two colons is a column, always empty.
    names = [name for role in layout.names for name in (role, BETWEEN + role)][:-1]
    columns = _read_text(path, names, layout, settings.encoding, ":")
    for name in names[1::2]:
        if pc.any(pc.not_equal(columns.pop(name), "")).as_py():
            raise FedmemError("columns are separated by :: in some lines only")
    return columns


def _read_text(
    path: Path, names: list[str], layout: Layout, encoding: str, separator: str
) -> Columns:
    """Columns of text by role, and those that have none."""
    quoted = layout.header > 0
    wanted = {**{name: name for name in names if BETWEEN in name}, **layout.roles}
    with open_bytes(path) as file:
        table = pa.csv.read_csv(
            file,
            pa.csv.ReadOptions(
                use_threads=False,
                block_size=MAX_LINE,
                column_names=names,
                skip_rows=layout.header,
                encoding=encoding,
            ),
            pa.csv.ParseOptions(
                delimiter=separator, quote_char='"' if quoted else False, double_quote=quoted
            ),
            pa.csv.ConvertOptions(
                include_columns=list(wanted.values()),
                column_types={name: pa.string() for name in wanted.values()},
                strings_can_be_null=False,
            ),
        )
    return {role: table[name] for role, name in wanted.items()}


def _read_sequences(path: Path, _layout: Layout, settings: DataSettings) -> Columns:
    whole = Layout("", NOT_IN_TEXT, ("line",), {"line": "line"})
    lines = _read_text(path, ["line"], whole, settings.encoding, NOT_IN_TEXT)["line"]
    cells = pc.utf8_split_whitespace(pc.utf8_trim_whitespace(lines)).combine_chunks()
    values, lengths = cells.flatten(), pc.list_value_length(cells).to_numpy()
    first = np.cumsum(lengths) - lengths
    is_item = np.ones(len(values), dtype=bool)
    is_item[first] = False
    users = values.take(pa.array(np.repeat(first, lengths - 1)))
    items = values.filter(pa.array(is_item))
    return {"user": pa.chunked_array([users]), "item": pa.chunked_array([items])}


def _read_json_lines(path: Path, layout: Layout, settings: DataSettings) -> Columns:
    types = {str: pa.string(), int: pa.int64(), float: pa.float64()}
    first = json.loads(next(line for _, line in numbered_lines(path, settings.encoding) if line))
    schema = pa.schema([])
    for role, name in layout.roles.items():
        kind = types.get(type(first[name]))
        if kind is None:
            raise FedmemError(f"the {role} is neither a number nor text")
        whole = role == "rating" and kind == pa.int64()  # a later one need not be
        schema = schema.append(pa.field(name, pa.float64() if whole else kind))
    if codecs.lookup(settings.encoding).name != "utf-8":
        raise FedmemError("JSON lines are read as utf-8 only")
    with open_bytes(path) as file:
        table = pa.json.read_json(
            file,
            pa.json.ReadOptions(use_threads=False, block_size=MAX_LINE),
            pa.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
        )
    return {role: table[name] for role, name in layout.roles.items()}


def _read_parquet(path: Path, layout: Layout, _settings: DataSettings) -> Columns:
    names = list(layout.roles.values())
    table = pq.read_table(arrow_source(path), columns=names, memory_map=True)
    columns = {}
    for role, name in layout.roles.items():
        column = table[name]
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        if pa.types.is_large_string(column.type) or pa.types.is_string_view(column.type):
            column = column.cast(pa.string())
        columns[role] = column
    return columns


def _explanation(path: Path, layout: Layout, encoding: str, error: Exception) -> FedmemError:
    """Why a file could not be read as the layout that it began with: the first line that differs.

    The reader's own error is repeated where no line is found to be wrong.
    """
    first: str | None = None
    try:
        for number, line in numbered_lines(path, encoding) if layout.format != "parquet" else ():
            if line and number > layout.header:
                first = line if first is None else first
                if wrong := _wrong(line, layout, first):
                    return FedmemError(f"{path}, line {number} {wrong}.")
    except FedmemError as found:
        return found
    return FedmemError(f"{path} cannot be read as {layout}: {first_line(error)}.")


def _place_of(path: Path, layout: Layout, encoding: str, row: int) -> str:
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
            text = repr(cell)
            text = text if len(text) <= 60 else text[:60] + "…"
            return f"has {text} as its {role} ({name}), where the first is {first[name]!r}"
    return None


_READERS: dict[str, Callable[[Path, Layout, DataSettings], Columns]] = {
    **dict.fromkeys(("ratings", "pairs", "csv", "tsv", "recbole"), _read_columns),
    "sequences": _read_sequences,
    "jsonl": _read_json_lines,
    "parquet": _read_parquet,
}
