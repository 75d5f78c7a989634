"""Which format a file of interactions is of, by its first lines, and where its columns are.

The rules, in this order. Parquet and Feather are known by their first bytes, JSON lines by a brace,
an array of records by a bracket. Comments come first, if at all, and are passed over. A first line
that names a user and an item column is a header: of RecBole where the names carry types
(`user_id:token`), else of a table whose columns are separated by what separates the names. Without
a header, `data.columns.order` names the columns; else they are guessed, see `headerless.py`.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from fedmem.core.data.arrow import form_of, schema_of
from fedmem.core.data.columns import ROLES, find_column
from fedmem.core.data.files import beginning, numbered_lines, readable
from fedmem.core.data.headerless import guess, in_order
from fedmem.core.data.layouts import SEPARATORS, Layout, find_roles, listed, may_quote, split
from fedmem.core.data.records import ARRAY, Record, all_names, parse, read_records
from fedmem.core.errors import FedmemError
from fedmem.core.settings import ColumnSettings, DataSettings

LOOKED_AT = 1 << 16
"""Characters at the beginning of a file, in whole lines, from which its format is recognised."""
MARKS = ("#", "%")
"""What a comment begins with."""
Lines = dict[int, str]
"""By number, those that are not blank."""


def recognise(path: Path, settings: DataSettings) -> Layout:
    """The layout of a file, of `data.format` where that is not `auto`.

    Raises:
        FedmemError: the file is empty, or of none of the formats, or not of the one that is set.
    """
    found = _recognised(path, settings)
    if settings.format not in ("auto", found.format):
        raise FedmemError(
            f"{path} reads as {found}, and data.format={settings.format} was asked for."
        )
    if settings.columns.order is not None and list(found.names) != settings.columns.order:
        raise FedmemError(
            f"{path} names its columns itself, {listed(found.names)}: data.columns.order is for "
            "files without a header."
        )
    return found


def first_lines(path: Path, encoding: str) -> Lines:
    """Those at the beginning of a file, by number.

    Raises:
        FedmemError: there is none, or the file cannot be read.
    """
    lines: Lines = {}
    left = LOOKED_AT
    for number, line in numbered_lines(path, encoding):
        if line.strip():
            lines[number] = line
        left -= len(line) + 1
        if left <= 0:
            break
    if not lines:
        raise FedmemError(f"{path} has no line but blank ones.")
    return lines


def _recognised(path: Path, settings: DataSettings) -> Layout:
    wanted, columns = settings.format, settings.columns
    with readable(path):
        if path.stat().st_size == 0:
            raise FedmemError(f"{path} is empty.")
    head = beginning(path)
    if form_of(head) or wanted in ("parquet", "feather"):
        return _of_arrow(path, form_of(head) or "parquet", columns)
    if ARRAY.match(head):
        records = [record for _, record in read_records(path, settings.encoding)]
        names = list(dict.fromkeys(name for record in records for name in record))
        return _of_records(path, "json", records, names, columns)
    lines = first_lines(path, settings.encoding)
    if "\0" in next(iter(lines.values())):
        raise FedmemError(f"{path} is no text, and no Parquet either.")
    if next(iter(lines.values())).lstrip().startswith("{"):
        return _json_lines(path, settings.encoding, columns)
    comments = _comments(path, lines)
    if len(comments) == len(lines):
        raise FedmemError(f"{path} has no line but blank ones and comments.")
    rows = {number: line for number, line in lines.items() if number not in comments}
    number, first = next(iter(rows.items()))
    table = _with_header(path, number, first, columns)
    if table is None and columns.order is not None:
        table = replace(in_order(path, list(rows.values()), columns), skip=number - 1)
    return table or replace(guess(path, list(rows.values()), wanted), skip=number - 1)


def _comments(path: Path, lines: Lines) -> list[int]:
    """Numbers of the lines at the beginning that are comments, and not as wide as the rows.

    Raises:
        FedmemError: one may be a row as well.
    """
    numbers = list(lines)
    marked = list(itertools.takewhile(lambda n: lines[n].startswith(MARKS), numbers))
    if len(marked) == len(numbers):
        return []  # all ids begin so
    first = lines[numbers[len(marked)]]
    while marked:
        line = lines[marked[-1]]
        as_wide = _is_as_wide(line, first)
        if not as_wide and (_names_columns(first) or not _names_columns(line)):
            return marked
        if as_wide and line[1:2].isspace() and not _names_columns(line):
            raise FedmemError(
                f"{path}, line {marked[-1]} may be a comment or an interaction, since it begins "
                f"with {line[:2]!r}: take it out, or give the file a line that names its columns."
            )
        marked.pop()  # a header, or an id that begins so
    return []


def _is_as_wide(line: str, row: str) -> bool:
    """Whether a line has as many cells as a row, by anything that may separate them."""
    for separator in SEPARATORS:
        quoted = may_quote(separator, row)
        cells = split(line, separator, quoted)
        if len(cells) == len(split(row, separator, quoted)) > 1 and cells[0].strip() not in MARKS:
            return True
    return False


def _names_columns(line: str) -> bool:
    found = (split(line, separator, True) for separator in SEPARATORS if separator != "::")
    return any(find_column("user", names) and find_column("item", names) for names in found)


def _of_arrow(path: Path, kind: str, columns: ColumnSettings) -> Layout:
    schema = schema_of(path, kind)
    is_list = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    lists = [field.name for field in schema if any(kind(field.type) for kind in is_list)]
    roles = find_roles(path, schema.names, columns, lists)
    return Layout(kind, "", tuple(schema.names), roles)


def first_records(path: Path, encoding: str) -> list[Record]:
    """Those that stand one a line at the beginning of a file, up to the first line that is none.

    Raises:
        FedmemError: as `first_lines`, and where the first line is none.
    """
    records: list[Record] = []
    for number, line in first_lines(path, encoding).items():
        try:
            value = parse(line)
        except ValueError as error:
            if records:
                break  # the reader says what is wrong
            raise FedmemError(f"{path}, line {number} is no JSON object: {error}.") from error
        if isinstance(value, dict):
            records.append(value)
    return records


def _json_lines(path: Path, encoding: str, columns: ColumnSettings) -> Layout:
    records = first_records(path, encoding)
    names = list(dict.fromkeys(name for record in records for name in record))
    if find_column("timestamp", names, columns.timestamp) is None:
        names = all_names(path)  # later records may have one
    return _of_records(path, "jsonl", records, names, columns)


def _of_records(
    path: Path, kind: str, records: list[Record], names: list[str], columns: ColumnSettings
) -> Layout:
    lists = [name for name in names if any(isinstance(r.get(name), list) for r in records)]
    return Layout(kind, "", tuple(names), find_roles(path, names, columns, lists))


def _with_header(path: Path, number: int, line: str, columns: ColumnSettings) -> Layout | None:
    """The layout of a table whose first line names a user or an item; None where it does not."""
    for separator in SEPARATORS:
        quoted = may_quote(separator, line)
        names = [name.strip() for name in split(line, separator, quoted)]
        if len(names) < 2:
            continue
        if any(find_column(role, names, getattr(columns, role)) for role in ROLES[:2]):
            kind = "csv" if separator != "\t" else "recbole" if ":" in line else "tsv"
            lists = [name for name in names if kind == "recbole" and name.endswith("token_seq")]
            roles = find_roles(path, names, columns, lists)
            return Layout(kind, separator, tuple(names), roles, number, quoted)
    return None
