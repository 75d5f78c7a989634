"""The item table: ids, titles, genres, descriptions and pictures, from a file of any usual form."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedmem.core.data.columns import find_column
from fedmem.core.data.files import PACKED_SUFFIXES
from fedmem.core.data.values import WORDS
from fedmem.core.errors import FedmemError
from fedmem.features.options import ROLES
from fedmem.features.plain_text import plain_text, written_list
from fedmem.features.rows import Row, names_of, read_rows

USUAL_FILES = ("movies.dat", "movies.csv", "items.csv", "items.tsv", "items.jsonl", "*.item")
"""Names under which a data folder may hold an item table; the first that is there is taken."""
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
ADDRESS = re.compile(r"(?!file:)[a-z][a-z0-9+.-]*://|//|data:|www\.", re.IGNORECASE)
"""How a picture's address begins, where a path should stand."""
IN_TABLE = "data: in the table itself"
"""What stands for a picture whose bytes are a cell."""

Report = Callable[[str], None]


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
    *,
    encoding: str = "utf-8",
    report: Report = lambda _: None,
    fields: Collection[str] = tuple(ROLES),
) -> list[Item]:
    """Read an item table, in the file's order; of an id that is there twice the first row counts.

    Args:
        path: a table with named columns, of any form that interactions may have, or MovieLens'
            `movies.dat`.
        named: column by field, of those whose name is not known.
        descriptions: a JSON object from item id to description, before the table's own.
        images: folder of `<item id>.jpg`, `.jpeg`, `.png` or `.webp`; where the table has a column
            of paths, what these are relative to (else the table's own folder).
        encoding: of the table, where it is text.
        report: is given a line for each kind of what is left out.
        fields: of `ROLES` those that are read; the others stay empty.

    Raises:
        FedmemError: a file or column is missing, cannot be read, or no row has an id.
    """
    rows = list(read_rows(path, encoding, named.get("id")))
    if not rows:
        raise FedmemError(f"{path} has no items.")
    columns = _find_columns(path, names_of(rows), named, fields)
    texts = _read_descriptions(descriptions) if descriptions else {}
    find_picture = _Pictures(path, columns.get("image"), images)
    items: dict[str, Item] = {}
    nameless: list[str] = []
    repeated: list[str] = []
    for place, row in rows:
        item = _id_of(path, place, row.get(columns["id"]))
        if not item:
            nameless.append(place)
        elif item in items:
            repeated.append(f"{item} in {place}")
        else:
            items[item] = _item(item, row, columns, texts, find_picture)
    if not items:
        raise FedmemError(f"{path}: no row has an id in its column {columns['id']}.")
    if nameless:
        report(f"left out: {_rows(nameless)} without an id, first {nameless[0]}")
    if repeated:
        report(
            f"left out: {_rows(repeated)} with an id that an earlier row has, first {repeated[0]}"
        )
    if texts and not texts.keys() & items.keys():
        report(f"{descriptions}: none of its {len(texts):,} ids is in {path}")
    find_picture.report(report)
    return list(items.values())


def read_titles(
    path: Path,
    named: Mapping[str, str | None] | None = None,
    encoding: str = "utf-8",
    report: Report = lambda _: None,
) -> dict[str, str]:
    """Title by id; arguments, order and errors as of `read_items`, reports with the file's name."""
    items = read_items(
        path,
        named or {},
        encoding=encoding,
        report=lambda line: report(f"{path}: {line}"),
        fields=("id", "title"),
    )
    return {item.id: item.title for item in items}


def find_table(folder: Path) -> Path | None:
    """The item table with a usual name in the folder; None where there is no such file."""
    patterns = (f"{name}{suffix}" for name in USUAL_FILES for suffix in PACKED_SUFFIXES)
    return next((path for pattern in patterns for path in sorted(folder.glob(pattern))), None)


def find_titles(
    folder: Path, encoding: str = "utf-8", report: Report = lambda _: None
) -> dict[str, str]:
    """Titles from a file with a usual name in the folder; none where there is no such file, or
    none that can be read, which is reported.
    """
    table = find_table(folder)
    try:
        return read_titles(table, encoding=encoding, report=report) if table else {}
    except FedmemError as error:
        report(f"no titles: {error}")
        return {}


class _Pictures:
    """Where the items' pictures are; counts those that are no files."""

    def __init__(self, table: Path, column: str | None, folder: Path | None) -> None:
        if folder is not None and not folder.is_dir():
            raise FedmemError(f"There is no folder of images {folder}.")
        self._column = column
        self._base = folder or table.parent
        files = sorted(folder.iterdir()) if folder else []
        self._by_id = {each.stem: each for each in files if each.suffix.lower() in IMAGE_SUFFIXES}
        self._addresses: list[str] = []

    def __call__(self, item: str, row: Row) -> Path | None:
        """The item's picture; None: it has none."""
        named = _first_text(written_list(row.get(self._column))) if self._column else ""
        if not named or ADDRESS.match(named):
            found = self._by_id.get(item)
            if named and found is None:
                self._addresses.append(named)
            return found
        return self._base / named.removeprefix("file://")

    def report(self, report: Report) -> None:
        """Say how many pictures stand elsewhere."""
        if self._addresses:
            report(
                f"left out: {len(self._addresses):,} pictures of column {self._column} that are no "
                f"files, as {self._addresses[0][:60]}: save them as <item id>.jpg and give "
                "--images FOLDER"
            )


def _first_text(value: Any) -> str:
    """A picture's path or address, the first of several."""
    if isinstance(value, bytes):
        return IN_TABLE
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return next(filter(None, map(_first_text, value)), "")
    return plain_text(value)


def _item(
    item: str,
    row: Row,
    columns: Mapping[str, str],
    texts: Mapping[str, str],
    find_picture: _Pictures,
) -> Item:
    cells = {field: row.get(column) for field, column in columns.items()}
    genres = plain_text(written_list(cells.get("genres")), "|").split("|")
    return Item(
        id=item,
        title=plain_text(cells.get("title")),
        genres=", ".join(filter(None, map(str.strip, genres))),
        description=texts.get(item) or plain_text(written_list(cells.get("description"))),
        image=find_picture(item, row),
    )


def _id_of(path: Path, place: str, value: Any) -> str:
    """An id as text; none where it is missing."""
    if value is None or value != value:
        return ""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise FedmemError(
            f"{path}, {place}: {str(value)[:60]!r} is no id, which is text or a number."
        )
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # as where a program wrote 7 as 7.0
    text = str(value).strip()
    return "" if text.lower() in WORDS else text


def _rows(places: Collection[str]) -> str:
    return f"{len(places):,} row{'s' if len(places) > 1 else ''}"


def _find_columns(
    path: Path, present: list[str], named: Mapping[str, str | None], fields: Collection[str]
) -> dict[str, str]:
    """The table's column of each of these fields that it has."""
    shown = f"the columns are {', '.join(present)}"
    columns = {}
    for field, role in ROLES.items():
        if field not in fields:
            continue
        wanted = named.get(field)
        found = find_column(role, present, wanted, row_is_item=True)
        if wanted and found is None:
            raise FedmemError(f"{path} has no column {wanted}: {shown}.")
        if found is not None:
            columns[field] = found
    if "id" not in columns:
        raise FedmemError(f"{path} has no column of item ids: {shown}; name it: --id-column NAME")
    return columns


def _read_descriptions(path: Path) -> dict[str, str]:
    try:
        content = json.loads(path.read_text("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise FedmemError(f"{path} cannot be read as JSON: {error}.") from error
    of_texts = isinstance(content, dict) and all(
        value is None or isinstance(value, str | list) for value in content.values()
    )
    if not of_texts:
        raise FedmemError(f"{path} must be one JSON object from item id to description.")
    return {item: plain_text(text) for item, text in content.items()}
