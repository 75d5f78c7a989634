"""The rows of an item table, of any form that interactions may have too, by the columns' names.

The form is known by the content. Otherwise than in interactions, a quoted cell between commas or
semicolons may hold the ends of lines, as descriptions do.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from fedmem.core.data.arrow import form_of, read_arrow
from fedmem.core.data.columns import find_column
from fedmem.core.data.files import beginning, numbered_lines
from fedmem.core.data.layouts import SEPARATORS, WITHOUT_QUOTES, listed
from fedmem.core.data.records import ARRAY, read_records
from fedmem.core.errors import FedmemError

Row = dict[str, Any]
"""Cells by the column's name."""
Line = tuple[int, str]
"""With its number, from 1."""

MOVIES = ("id", "title", "genres")
"""Columns of MovieLens' `movies.dat`, which names none and has two colons between them."""
GENRES = (
    "unknown|Action|Adventure|Animation|Children's|Comedy|Crime|Documentary|Drama|Fantasy|"
    "Film-Noir|Horror|Musical|Mystery|Romance|Sci-Fi|Thriller|War|Western"
)
U_ITEM = re.compile(rf"[0-9]+(\|[^|]*){{4}}(\|[01]){{{GENRES.count('|') + 1}}}")
"""A line of `u.item` of MovieLens-100K: id, title, two dates, an address, and a flag a genre."""
TYPED = re.compile(r"[^:]+:(token|token_seq|float|float_seq)")
"""A name in RecBole's files, which separates the words of a sequence by spaces."""
QUOTED = re.compile(r'"((?:[^"]|"")*)"')


def read_rows(
    path: Path, encoding: str = "utf-8", id_column: str | None = None
) -> Iterator[tuple[str, Row]]:
    """Place (`line 7`, `record 7`, `row 7`) and cells of each row, in the file's order.

    `id_column` is the name of the column of ids, where it is none of those that are known.

    Raises:
        FedmemError: the file is not there, is of no known form, or a line of it cannot be read.
    """
    if not path.is_file():
        raise FedmemError(f"There is no item table {path}.")
    head = beginning(path)
    if form := form_of(head):
        return _of_arrow(path, form)
    if head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{") or ARRAY.match(head):
        return read_records(path, encoding)
    first = next(filter(str.strip, head.decode("latin-1").splitlines()), "")
    if "::" in first or U_ITEM.fullmatch(first):
        return _of_movielens(path, encoding)
    return _of_text(path, encoding, id_column)


def _of_arrow(path: Path, form: str) -> Iterator[tuple[str, Row]]:
    table = read_arrow(path, form)
    for number, row in enumerate(table.to_pylist(), 1):
        yield f"row {number}", row


def _of_text(path: Path, encoding: str, id_column: str | None) -> Iterator[tuple[str, Row]]:
    lines = numbered_lines(path, encoding)
    first = next((line for line in lines if line[1].strip()), None)
    if first is None:
        return
    separator = _separator(path, first[1], id_column)
    by_tabs = separator in WITHOUT_QUOTES
    typed = by_tabs and all(map(TYPED.fullmatch, first[1].strip().split("\t")))
    split = (
        _of_tabs(chain([first], lines), typed)
        if by_tabs
        else _of_quotes(path, chain([first], lines), separator)
    )
    _, header = next(split)
    names = [name.strip() for name in header]
    types = {name.partition(":")[0]: name.partition(":")[2] for name in names} if typed else {}
    names = list(types) or names
    twice = next((name for name in names if name and names.count(name) > 1), None)
    if twice is not None:
        raise FedmemError(f"{path} has more than one column {twice!r}.")
    classes = find_column("genres", names)
    for number, cells in split:
        if len(cells) != len(names):
            raise FedmemError(
                f"{path}, line {number} has {len(cells)} columns, and line {first[0]} names "
                f"{len(names)}."
            )
        row: Row = dict(zip(names, cells, strict=True))
        if types.get(classes or "") == "token_seq":
            row[str(classes)] = _words(row[str(classes)])
        yield f"line {number}", row


def _separator(path: Path, header: str, id_column: str | None) -> str:
    """What separates the names of columns, among them that of the ids."""
    found = {each: next(csv.reader([header], delimiter=each)) for each in list(SEPARATORS)[1:]}
    for separator, cells in found.items():
        names = [name.strip() for name in cells]
        if find_column("item", names, id_column, row_is_item=True) and len(names) > 1:
            return separator
    if find_column("item", [header.strip()], id_column, row_is_item=True):
        return ","  # the only column
    names = max(found.values(), key=len)
    raise FedmemError(
        f"{path} has no column of item ids that is known by its name: the first line is "
        f"{listed(names)}.\nItem tables have a line of names: say which is the ids' with "
        "--id-column NAME."
    )


def _of_tabs(lines: Iterable[Line], typed: bool) -> Iterator[tuple[int, list[str]]]:
    """Cells of each line that is not blank; a whole cell in quotes, as some programs write, counts
    without them, but for RecBole's, whose cells are as they are.
    """
    for number, line in lines:
        if line.strip():
            cells = line.split("\t")
            yield number, cells if typed else [_unquoted(cell) for cell in cells]


def _unquoted(cell: str) -> str:
    found = QUOTED.fullmatch(cell.strip())
    return found[1].replace('""', '"') if found else cell


def _of_quotes(
    path: Path, lines: Iterable[Line], separator: str
) -> Iterator[tuple[int, list[str]]]:
    """Number of the first line, and cells, of each row; a quoted cell may go over several lines."""
    read = 0

    def texts() -> Iterator[str]:
        nonlocal read
        for number, line in lines:
            read = number
            yield f"{line}\n"

    table = csv.reader(texts(), delimiter=separator, strict=True)
    number = 1
    try:
        for cells in table:
            if any(cells):
                yield number, cells
            number = read + 1
    except csv.Error as error:
        raise FedmemError(
            f"{path}, the row that begins in line {number}: {error}.\nInside quotes a quotation "
            "mark is written twice."
        ) from error


def _of_movielens(path: Path, encoding: str) -> Iterator[tuple[str, Row]]:
    """MovieLens' own tables, in utf-8 or, of the earlier sets, in latin-1."""
    try:
        lines = list(numbered_lines(path, encoding))
    except FedmemError:
        lines = list(numbered_lines(path, "latin-1"))
    for number, line in lines:
        if not line.strip():
            continue
        if U_ITEM.fullmatch(line):
            cells = line.split("|")
            genres = GENRES.split("|")
            flags = zip(genres, cells[-len(genres) :], strict=True)
            row: Row = {"genres": [genre for genre, flag in flags if flag == "1"]}
            yield f"line {number}", {"id": cells[0], "title": cells[1], **row}
            continue
        cells = line.split("::")
        if len(cells) != len(MOVIES):
            raise FedmemError(f"{path}, line {number} is not {'::'.join(MOVIES)}.")
        yield f"line {number}", dict(zip(MOVIES, cells, strict=True))


def _words(cell: str) -> list[str]:
    """The genres in a cell of RecBole's, which may be lists of quoted words."""
    return [cell] if "," in cell else cell.split()


def names_of(rows: Sequence[tuple[str, Row]]) -> list[str]:
    """The names of all columns: a record may lack some."""
    return list(dict.fromkeys(name for _, row in rows for name in row))
