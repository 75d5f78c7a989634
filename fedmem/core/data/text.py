"""Columns of files of text: separated cells, and lines that each hold a user's items.

Arrow parses all columns as text, block by block, so that a line without end is noticed before it
fills the memory. What it cannot parse is then looked up line by line, to say where it stands.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from fedmem.core.data.files import MAX_LINE, numbered_lines, open_bytes
from fedmem.core.data.layouts import Layout, split
from fedmem.core.data.records import Columns
from fedmem.core.errors import FedmemError

LINE = "line"
NOT_IN_TEXT = "\x01"


class _Watched:
    """A file that notes whether there are quotation marks in what is read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.has_quotes = False

    def read(self, size: int = -1) -> bytes:
        block = self._file.read(size)
        self.has_quotes = self.has_quotes or b'"' in block
        return block

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def read_separated(path: Path, layout: Layout, encoding: str) -> Columns:
    """Columns of text by role.

    Raises:
        FedmemError: a line has another number of cells, or a quoted cell holds the end of a line.
        pyarrow.ArrowException: likewise.
    """
    by_name = {name: role for role, name in layout.roles.items()}
    names = [by_name.get(name, f"{NOT_IN_TEXT}{i}") for i, name in enumerate(layout.names)]
    if layout.separator != "::":
        return _read(path, names, list(layout.roles), layout, encoding, layout.separator)
    # Arrow separates by one character: what stands between two colons is a column, always empty.
    between = [f"{NOT_IN_TEXT}between {i}" for i in range(len(names) - 1)]
    all_names = [name for pair in zip(names, [*between, ""], strict=True) for name in pair][:-1]
    columns = _read(path, all_names, [*layout.roles, *between], layout, encoding, ":")
    for name in between:
        if pc.any(pc.not_equal(columns.pop(name), "")).as_py():
            raise FedmemError("columns are separated by :: in some lines only")
    return columns


def _read(
    path: Path, names: list[str], wanted: list[str], layout: Layout, encoding: str, separator: str
) -> Columns:
    with open_bytes(path) as file:
        watched = _Watched(file)
        table = pa.csv.read_csv(
            watched,
            pa.csv.ReadOptions(
                use_threads=False,
                block_size=MAX_LINE,
                column_names=names,
                skip_rows=layout.skip,
                encoding=encoding,
            ),
            pa.csv.ParseOptions(
                delimiter=separator,
                quote_char='"' if layout.quoted else False,
                double_quote=layout.quoted,
            ),
            pa.csv.ConvertOptions(
                include_columns=wanted,
                column_types=dict.fromkeys(wanted, pa.string()),
                strings_can_be_null=False,
            ),
        )
    if layout.quoted and (watched.has_quotes or encoding != "utf-8"):
        lines = Layout("", NOT_IN_TEXT, (LINE,), {LINE: LINE}, layout.skip)
        if table.num_rows != len(_read(path, [LINE], [LINE], lines, encoding, NOT_IN_TEXT)[LINE]):
            raise FedmemError("a quoted cell holds the end of a line")
    return {name: table[name] for name in wanted}


def read_sequences(path: Path, layout: Layout, encoding: str) -> Columns:
    """Users and items of lines that each hold a user and the user's items."""
    whole = Layout("", NOT_IN_TEXT, (LINE,), {LINE: LINE}, layout.skip)
    lines = read_separated(path, whole, encoding)[LINE]
    cells = pc.utf8_split_whitespace(pc.utf8_trim_whitespace(lines)).combine_chunks()
    values, lengths = cells.flatten(), pc.list_value_length(cells).to_numpy()
    first = np.cumsum(lengths) - lengths
    is_item = np.ones(len(values), dtype=bool)
    is_item[first] = False
    users = values.take(pa.array(np.repeat(first, lengths - 1)))
    items = values.filter(pa.array(is_item))
    return {"user": pa.chunked_array([users]), "item": pa.chunked_array([items])}


def first_wrong(path: Path, layout: Layout, encoding: str) -> str | None:
    """The first line that differs from the layout, and in what; None: there is none.

    Raises:
        FedmemError: the lines cannot be read.
    """
    if layout.format == "sequences":
        return None
    for number, line in numbered_lines(path, encoding):
        if not line or number <= layout.skip:
            continue
        found, expected = len(split(line, layout.separator, layout.quoted)), len(layout.names)
        if layout.quoted and _is_open(line, layout.separator):
            return (
                f"line {number}: a quoted cell holds the end of the line, or its quotation mark "
                "has no second one"
            )
        if found != expected:
            return f"line {number} has {found} columns where {expected} are expected ({layout})"
    return None


def _is_open(line: str, separator: str) -> bool:
    """Whether a quoted cell goes on in the next line."""
    return any("\n" in cell for cell in next(csv.reader([line + "\n"], delimiter=separator)))
