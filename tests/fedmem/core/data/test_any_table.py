"""Small tables written in any way: what is read is the table, or one or two lines say why not."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedmem.core.data.ids import as_text
from fedmem.core.data.readers import read_table
from fedmem.core.data.values import WORDS as STAND_FOR_NONE
from fedmem.core.errors import FedmemError
from fedmem.runs.configuration import compose_settings

CUSTOM = compose_settings(["data=custom"]).data
WORDS = ("", " ", "nan", "NaN", "NULL", "None", "NA", "n/a", "\\N", "-", "?", "(null)")
MISSING = {"", *STAND_FOR_NONE}
"""What stands for a missing value."""
PACKED: dict[str, Callable[[bytes], bytes]] = {
    "": lambda content: content,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
}
SEPARATORS = {"csv": ",", "semicolons": ";", "bars": "|", "spaces": " ", "tsv": "\t", "inter": "\t"}
TEXT = [*SEPARATORS, "jsonl", "json"]
HEADER = {"user": "user_id:token", "item": "item_id:token", "time": "timestamp:float"}

Cell = str | int
Row = tuple[Cell, Cell, Cell, str]
"""User, item, time and title."""


@dataclass(frozen=True)
class Written:
    """A table, and how it is written."""

    rows: list[Row]
    form: str
    columns: list[str]
    """The order of user, item, time and title; time and title may be left out."""
    header: bool
    encoding: str
    line_end: str
    quoting: int
    packed: str
    missing: str


PLAIN = st.sampled_from(["u1", "u2", "7", "12", "a b", "07", "x-y"])
ODD = st.text(st.characters(exclude_categories=["Cs"], max_codepoint=0x2100), max_size=4)
MARKED = st.sampled_from(
    ['"', '"Heroes', 'say "x"', "a,b", "a;b", "#1", "% x", "a\tb", "a\nb", "'", "a::b"]
)
CELL = st.one_of(PLAIN, PLAIN, PLAIN, st.integers(0, 9).map(str), MARKED, ODD)
MAYBE = st.one_of(*[CELL] * 8, st.sampled_from(WORDS))
TIME: st.SearchStrategy[Cell] = st.one_of(*[st.integers(0, 2 * 10**9)] * 9, st.sampled_from(WORDS))


@st.composite
def tables(draw: st.DrawFn) -> Written:
    """Any table in any form."""
    ids = draw(st.sampled_from([PLAIN, CELL, MAYBE]))
    numeric = st.integers(0, 10**6)
    times = draw(st.sampled_from([numeric, numeric, TIME]))
    rows = draw(st.lists(st.tuples(ids, ids, times, CELL), min_size=1, max_size=12))
    columns = draw(st.permutations(["user", "item", "time", "title"]))
    left_out = draw(st.sampled_from([(), ("title",), ("time",), ("title", "time")]))
    return Written(
        rows=rows,
        form=draw(st.sampled_from([*TEXT, "parquet", "feather"])),
        columns=[name for name in columns if name not in left_out],
        header=draw(st.booleans()),
        encoding=draw(st.sampled_from(["utf-8", "utf-8", "utf-8-sig", "latin-1", "utf-16"])),
        line_end=draw(st.sampled_from(["\n", "\r\n", "\r"])),
        quoting=draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])),
        packed=draw(st.sampled_from(list(PACKED))),
        missing=draw(st.sampled_from(["refuse", "drop", "keep"])),
    )


def write(table: Written, folder: Path) -> Path | None:
    """The file; None where a table cannot be written so."""
    path = folder / f"data.{table.form}{table.packed}"
    names = ("user", "item", "time", "title")
    rows = [dict(zip(names, row, strict=True)) for row in table.rows]
    rows = [{name: row[name] for name in table.columns} for row in rows]
    own = {"user": "user_id", "item": "item_id", "time": "timestamp", "title": "title"}
    named = [{own[name]: value for name, value in row.items()} for row in rows]
    if table.form in ("parquet", "feather"):
        columns = {own[n]: [str(row[own[n]]) for row in named] for n in table.columns}
        sink = io.BytesIO()
        if table.form == "parquet":
            pq.write_table(pa.table(columns), sink)
        else:
            pa.feather.write_feather(pa.table(columns), sink)
        path.write_bytes(PACKED[table.packed](sink.getvalue()))
        return path
    if table.form == "jsonl":
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in named)
    elif table.form == "json":
        text = json.dumps(named)
    elif table.form in ("tsv", "inter"):  # without quotes
        cells = [[str(value) for value in row.values()] for row in rows]
        if any(set("\t\n\r") & set(cell) for row in cells for cell in row):
            return None
        lines = ["\t".join(row) for row in cells]
        if table.header:
            header = HEADER if table.form == "inter" else own
            lines.insert(0, "\t".join(header.get(name, "title:token") for name in table.columns))
        text = "".join(line + table.line_end for line in lines)
    else:
        out = io.StringIO()
        separator = SEPARATORS[table.form]
        writer = csv.writer(
            out, delimiter=separator, lineterminator=table.line_end, quoting=table.quoting
        )
        if table.header:
            writer.writerow([own[name] for name in table.columns])
        writer.writerows(row.values() for row in rows)
        text = out.getvalue()
    try:
        path.write_bytes(PACKED[table.packed](text.encode(table.encoding)))
    except UnicodeEncodeError:
        return None
    return path


def is_missing(cell: Cell, words: bool) -> bool:
    text = str(cell).strip()
    return not text or (words and text.lower() in MISSING)


def expected(table: Written) -> list[tuple[Any, ...]]:
    """The rows that should be read: user, item and time where there is one."""
    found = []
    for user, item, time, _ in table.rows:
        words = table.missing != "keep"
        absent = is_missing(user, words) or is_missing(item, words)
        absent |= "time" in table.columns and is_missing(time, True)
        if table.missing == "drop" and absent:
            continue
        row = (str(user).strip(), str(item).strip())
        found.append((*row, int(time)) if "time" in table.columns and not absent else row)
    return found


def check(table: Written) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = write(table, Path(name))
        if path is None:
            return
        order = None
        if not table.header and table.form in SEPARATORS:
            order = ["timestamp" if column == "time" else column for column in table.columns]
        encoding = "utf-8" if table.encoding == "utf-8-sig" else table.encoding
        configured = replace(
            CUSTOM,
            path=str(path),
            encoding=encoding,
            missing=table.missing,
            columns=replace(CUSTOM.columns, order=order),
        )
        try:
            read, _ = read_table([path], configured)
        except FedmemError as error:
            message = str(error)
            assert 1 <= len(message.splitlines()) <= 2, message
            assert str(path) in message
            assert not is_plain(table), message
            return
    users, items = as_text(read.user_ids)[read.users], as_text(read.item_ids)[read.items]
    pairs = zip(users, items, strict=True)
    found: list[tuple[Any, ...]] = [(user.strip(), item.strip()) for user, item in pairs]
    if read.timestamps is not None:
        found = [(*row, int(t)) for row, t in zip(found, read.timestamps, strict=True)]
    assert found == expected(table)


def is_plain(table: Written) -> bool:
    """Whether nothing about the table is a reason to refuse it."""
    cells = [str(cell) for row in table.rows for cell in row]
    kept = "[a-zA-Z0-9 -]+" if table.header else "[a-zA-Z0-9-]+"  # spaces may separate, too
    simple = all(re.fullmatch(kept, cell) for cell in cells)
    clean = table.encoding in ("utf-8", "utf-8-sig") or table.form not in ("jsonl", "json")
    words = any(is_missing(cell, True) for row in table.rows for cell in row[:3])
    return simple and clean and not words


ANY = settings(deadline=None, suppress_health_check=list(HealthCheck))


@settings(ANY, max_examples=60)
@given(tables())
def test_any_table(table: Written) -> None:
    check(table)


@pytest.mark.slow
@settings(ANY, max_examples=2000)
@given(tables())
def test_any_table_at_length(table: Written) -> None:
    check(table)
