"""Titles of items by the data's own ids, to show to people."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from pathlib import Path

from fedmem.errors import FedmemError

USUAL_FILES = ("movies.dat", "movies.csv", "items.csv", "titles.csv", "titles.json")
"""Names under which a data folder may hold titles; the first that is there is taken."""
IDS = ("id", "item", "item_id", "itemid", "movieid", "movie_id")
TITLES = ("title", "name", "movie_title")


def find_titles(folder: Path) -> dict[str, str]:
    """Titles from a file with a usual name in the folder; none where there is no such file."""
    found = next((folder / name for name in USUAL_FILES if (folder / name).is_file()), None)
    return {} if found is None else read_titles(found)


def read_titles(path: Path) -> dict[str, str]:
    """Title by id, in the file's order.

    `id::title::…` in latin-1 (MovieLens' `movies.dat`), a `.csv` or `.tsv` whose header names the
    columns, or `.json`: an object from id to title, or a list of objects.

    Raises:
        FedmemError: the file is not there, or is none of these.
    """
    if not path.is_file():
        raise FedmemError(f"There is no table of items {path}.")
    try:
        if path.suffix == ".json":
            titles = _of_json(json.loads(path.read_text(encoding="utf-8")))
        elif path.suffix in (".csv", ".tsv"):
            with path.open(encoding="utf-8-sig", newline="") as file:
                titles = _of_rows(csv.DictReader(file, dialect=_DIALECTS[path.suffix]))
        else:
            lines = path.read_text(encoding="latin-1").splitlines()
            rows = [line.split("::") for line in lines if line.strip()]
            titles = {row[0].strip(): row[1].strip() for row in rows}
    except (IndexError, KeyError, ValueError, csv.Error) as error:
        raise FedmemError(
            f"{path} is no table of items with an id and a title: .csv, .tsv and .json are, and "
            f"lines of id::title ({type(error).__name__}: {error})."
        ) from error
    return titles


_DIALECTS = {".csv": "excel", ".tsv": "excel-tab"}


def _of_json(content: object) -> dict[str, str]:
    if isinstance(content, dict):
        return {str(item): str(title) for item, title in content.items()}
    if isinstance(content, list) and all(isinstance(row, dict) for row in content):
        return _of_rows(content)
    raise ValueError("neither an object nor a list of objects")


def _of_rows(rows: Iterable[dict[str, object]]) -> dict[str, str]:
    titles = {}
    for row in rows:
        cells = {str(name).lower(): cell for name, cell in row.items()}
        item, title = (
            next((cells[name] for name in names if name in cells), None) for names in (IDS, TITLES)
        )
        if item is None or title is None:
            raise KeyError(f"no column of {', '.join(IDS)}, or none of {', '.join(TITLES)}")
        titles[str(item).strip()] = str(title).strip()
    return titles
