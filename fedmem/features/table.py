"""The item table: ids, titles, genres, descriptions and pictures, from a file of any usual form."""

from __future__ import annotations

import argparse
import csv
import gzip
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO, cast

import pyarrow.parquet as pq

from fedmem.core.errors import FedmemError

COLUMNS = {
    "id": ("item_id", "itemid", "id", "item", "movie_id", "movieid", "product_id", "asin"),
    "title": ("title", "name", "movie_title"),
    "genres": ("genres", "genre", "categories", "category", "class", "tags"),
    "description": ("description", "plot", "overview", "summary", "text"),
    "image": ("image", "image_path", "picture", "poster", "photo"),
}
"""What each column may be called, in any case, where the user does not name it."""

USUAL_FILES = ("movies.dat", "movies.csv", "items.csv", "items.tsv", "items.jsonl", "*.item")
"""Names under which a data folder may hold an item table; the first that is there is taken."""

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")

Row = dict[str, Any]
"""Cells by the column's name."""


@dataclass(frozen=True)
class Item:
    """One row; what is not known is empty."""

    id: str
    title: str = ""
    genres: str = ""
    """Separated by commas."""
    description: str = ""
    image: Path | None = None
    """Where the picture should be; the file may be missing."""


def read_items(
    path: Path,
    named: Mapping[str, str | None],
    descriptions: Path | None = None,
    images: Path | None = None,
) -> list[Item]:
    """Read an item table, in the file's order.

    Args:
        path: `.csv`, `.tsv`, `.jsonl` or `.parquet` with named columns, RecBole's `.item`, or
            MovieLens' `movies.dat`; `.gz` of any that is text.
        named: column by field, of those whose name is not among `COLUMNS`.
        descriptions: a JSON object from item id to description, before the table's own.
        images: folder of `<item id>.jpg`, `.jpeg`, `.png` or `.webp`; where the table has a column
            of paths, what these are relative to (else the table's own folder).

    Raises:
        FedmemError: a file or column is missing, the table is empty, or an id is empty or twice.
    """
    rows = _read_rows(path)
    if not rows:
        raise FedmemError(f"{path} has no items.")
    columns = _find_columns(path, list(dict.fromkeys(name for row in rows for name in row)), named)
    texts = _read_descriptions(descriptions) if descriptions else {}
    if images is not None and not images.is_dir():
        raise FedmemError(f"There is no folder of images {images}.")
    files = sorted(images.iterdir()) if images and "image" not in columns else []
    by_id = {file.stem: file for file in files if file.suffix.lower() in IMAGE_SUFFIXES}
    items: dict[str, Item] = {}
    for number, row in enumerate(rows, 1):
        cells = {field: _cell(row.get(column)) for field, column in columns.items()}
        item, picture = cells["id"], cells.get("image")
        if not item:
            raise FedmemError(f"{path}: item {number} of the table has no {columns['id']}.")
        if item in items:
            raise FedmemError(
                f"{path} has id {item} twice, as items {list(items).index(item) + 1} and {number} "
                "of the table."
            )
        items[item] = Item(
            id=item,
            title=cells.get("title", ""),
            genres=", ".join(genre.strip() for genre in cells.get("genres", "").split("|")),
            description=texts.get(item) or cells.get("description", ""),
            image=(images or path.parent) / picture if picture else by_id.get(item),
        )
    return list(items.values())


def read_titles(path: Path, named: Mapping[str, str | None] | None = None) -> dict[str, str]:
    """Title by id; arguments, order and errors as of `read_items`."""
    return {item.id: item.title for item in read_items(path, named or {})}


def find_table(folder: Path) -> Path | None:
    """The item table with a usual name in the folder; None where there is no such file."""
    return next((path for name in USUAL_FILES for path in sorted(folder.glob(name))), None)


def find_titles(folder: Path) -> dict[str, str]:
    """Titles from a file with a usual name in the folder; none where there is no such file."""
    table = find_table(folder)
    return read_titles(table) if table else {}


def add_table_options(
    parser: argparse.ArgumentParser, fields: Collection[str], required: bool = False
) -> None:
    """`--items`, and a `--…-column` for each field that the command reads."""
    readers = " ".join(READERS)
    parser.add_argument("--items", type=Path, required=required, help=f"item table: {readers}")
    for field in fields:
        parser.add_argument(
            f"--{field}-column", metavar="NAME", help=f"column of {field}; default: by its name"
        )


def named_columns(args: argparse.Namespace) -> dict[str, str | None]:
    """The columns that the user named, by field."""
    return {field: getattr(args, f"{field}_column", None) for field in COLUMNS}


def _read_rows(path: Path) -> list[Row]:
    suffix = Path(path.name.removesuffix(".gz")).suffix.lower()
    if suffix not in READERS:
        raise FedmemError(f"{path} is of no known form: use one of {', '.join(READERS)}.")
    if not path.is_file():
        raise FedmemError(f"There is no item table {path}.")
    try:
        return READERS[suffix](path)
    except UnicodeDecodeError as error:
        raise FedmemError(f"{path} is not UTF-8: {error.reason} at byte {error.start}.") from error
    except (OSError, EOFError, ValueError, csv.Error) as error:
        raise FedmemError(f"{path} cannot be read as {suffix}: {error}.") from error


def _open(path: Path, encoding: str = "utf-8-sig") -> TextIO:
    opened = gzip.open if path.suffix == ".gz" else open
    return cast(TextIO, opened(path, "rt", encoding=encoding, newline=""))


def _read_movies(path: Path) -> list[Row]:
    """MovieLens: id::title::genre|genre, in latin-1."""
    with _open(path, "latin-1") as file:
        lines = [line.rstrip("\r\n").split("::") for line in file if line.strip()]
    for number, line in enumerate(lines, 1):
        if len(line) != 3:
            raise ValueError(f"line {number} is not id::title::genres")
    return [dict(zip(("id", "title", "genres"), line, strict=True)) for line in lines]


def _read_separated(path: Path, separator: str, quotes: bool = True) -> list[Row]:
    rows = []
    with _open(path) as file:
        table = csv.reader(
            file, delimiter=separator, quoting=csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE
        )
        header = next(table, [])
        for line in filter(None, table):
            if len(line) != len(header):
                raise ValueError(
                    f"line {table.line_num} has {len(line)} columns, the header {len(header)}"
                )
            rows.append(dict(zip(header, line, strict=True)))
    return rows


def _read_recbole(path: Path) -> list[Row]:
    """RecBole: tabs, `name:type` in the header, the tokens of a class separated by spaces."""
    rows = []
    for line in _read_separated(path, "\t", quotes=False):
        row = {name.partition(":")[0]: cell for name, cell in line.items()}
        rows.append(row | {"class": "|".join(row["class"].split())} if "class" in row else row)
    return rows


def _read_json_lines(path: Path) -> list[Row]:
    rows: list[Row] = []
    with _open(path) as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                try:
                    row = json.loads(line)
                except json.JSONDecodeError as error:
                    raise ValueError(f"line {number} is no JSON: {error.msg}") from error
                if not isinstance(row, dict):
                    raise ValueError(f"line {number} is no object")
                rows.append(row)
    return rows


READERS: Mapping[str, Callable[[Path], list[Row]]] = {
    ".csv": lambda path: _read_separated(path, ","),
    ".tsv": lambda path: _read_separated(path, "\t"),
    ".jsonl": _read_json_lines,
    ".parquet": lambda path: pq.read_table(path).to_pylist(),
    ".item": _read_recbole,
    ".dat": _read_movies,
}


def _find_columns(
    path: Path, present: list[str], named: Mapping[str, str | None]
) -> dict[str, str]:
    """The table's column of each field that it has."""
    listed = f"the columns are {', '.join(present)}"
    by_name = {name.lower(): name for name in reversed(present)}
    columns = {}
    for field, usual in COLUMNS.items():
        if wanted := named.get(field):
            if wanted not in present:
                raise FedmemError(f"{path} has no column {wanted}: {listed}.")
            columns[field] = wanted
        elif found := next((by_name[name] for name in usual if name in by_name), None):
            columns[field] = found
    if "id" not in columns:
        raise FedmemError(f"{path} has no column of item ids: {listed}; name it: --id-column NAME")
    return columns


def _cell(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "|".join(_cell(part) for part in value)
    return "" if value is None or value != value else str(value).strip()


def _read_descriptions(path: Path) -> dict[str, str]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise FedmemError(f"{path} cannot be read as JSON: {error}.") from error
    if not isinstance(content, dict) or not all(isinstance(text, str) for text in content.values()):
        raise FedmemError(f"{path} must be one JSON object from item id to description.")
    return {item: text.strip() for item, text in content.items()}
