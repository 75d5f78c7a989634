"""Every format gives the same dataset, and is recognised and named as what it is."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fedmem.core.data import Interactions, load_interactions
from fedmem.core.data.formats import recognise
from fedmem.core.errors import FedmemError
from fedmem.core.settings import ColumnSettings, DataSettings
from fedmem.runs.configuration import compose_settings

ML_100K = Path(__file__).parents[4] / "data" / "ml-100k" / "ml-100k.inter"
CUSTOM = compose_settings(["data=custom"]).data
Row = tuple[int, int, int, int]


@pytest.fixture(scope="module")
def sample() -> list[Row]:
    """The interactions of 40 users of MovieLens-100K, shuffled as its file has them."""
    if not ML_100K.is_file():
        pytest.skip("no data/ml-100k: make data")
    rows = [tuple(map(int, line.split("\t"))) for line in ML_100K.read_text().splitlines()[1:]]
    return [row for row in rows if row[0] <= 40]


def in_time_order(sample: list[Row]) -> list[Row]:
    """Over all users; what happened at the same time stays in the order of the file."""
    return sorted(sample, key=lambda row: row[3])


def text(separator: str, header: str = "") -> Callable[[Path, list[Row]], None]:
    def write(path: Path, rows: list[Row]) -> None:
        lines = [separator.join(map(str, row)) for row in rows]
        path.write_text("\n".join([header, *lines] if header else lines) + "\n")

    return write


def write_pairs(path: Path, rows: list[Row]) -> None:
    path.write_text("".join(f"{row[0]} {row[1]}\n" for row in in_time_order(rows)))


def write_sequences(path: Path, rows: list[Row]) -> None:
    histories: dict[int, list[int]] = {}
    for row in in_time_order(rows):
        histories.setdefault(row[0], []).append(row[1])
    lines = [" ".join(map(str, (user, *items))) for user, items in histories.items()]
    path.write_text("\n".join(lines) + "\n")


def write_json_lines(path: Path, rows: list[Row]) -> None:
    names = ("userId", "asin", "overall", "unixReviewTime")
    lines = [json.dumps({"text": "a, b\n", **dict(zip(names, row, strict=True))}) for row in rows]
    path.write_text("\n".join(lines) + "\n")


def write_parquet(path: Path, rows: list[Row]) -> None:
    names = ("user_id", "item_id", "rating", "timestamp")
    table = pa.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))
    table = table.set_column(3, "timestamp", table["timestamp"].cast(pa.timestamp("s")))
    pq.write_table(table, path)


def write_quoted(path: Path, rows: list[Row]) -> None:
    lines = [f'"{user}",{rating}.0,"{item}","x, ""y""",{time}' for user, item, rating, time in rows]
    path.write_text("\n".join(["user,stars,product_id,text,ts", *lines]) + "\r\n")


INTER = "user_id:token\titem_id:token\trating:float\ttimestamp:float"
FORMATS: dict[str, tuple[str, Callable[[Path, list[Row]], None], str]] = {
    "movielens 1m": ("ratings.dat", text("::"), "ratings (user, item, rating, timestamp by ::)"),
    "movielens 100k": ("u.data", text("\t"), "ratings (user, item, rating, timestamp by tabs)"),
    "movielens csv": (
        "ratings.csv",
        text(",", "userId,movieId,rating,timestamp"),
        "csv (userId, movieId, rating, timestamp by commas)",
    ),
    "spaces": ("subset.dat", text(" "), "ratings (user, item, rating, timestamp by spaces)"),
    "commas": ("amazon.csv", text(","), "ratings (user, item, rating, timestamp by commas)"),
    "pairs": ("interactions.txt", write_pairs, "pairs (user, item by spaces)"),
    "sequences": ("beauty.txt", write_sequences, "sequences (one user a line)"),
    "recbole": (
        "ml.inter",
        text("\t", INTER),
        f"recbole ({INTER.replace(chr(9), ', ')} by tabs)",
    ),
    "csv": ("quoted.csv", write_quoted, "csv (user, product_id, stars, ts by commas)"),
    "semicolons": (
        "semi.csv",
        text(";", "User-ID;ISBN;Score;Date"),
        "csv (User-ID, ISBN, Score, Date by semicolons)",
    ),
    "tsv": (
        "t.tsv",
        text("\t", "uid\titem\trating\ttime"),
        "tsv (uid, item, rating, time by tabs)",
    ),
    "jsonl": ("r.jsonl", write_json_lines, "jsonl (userId, asin, overall, unixReviewTime)"),
    "parquet": ("r.parquet", write_parquet, "parquet (user_id, item_id, rating, timestamp)"),
}


def settings_for(path: Path, **changes: object) -> DataSettings:
    return replace(CUSTOM, path=str(path), **changes)  # type: ignore[arg-type]


def assert_same(found: Interactions, expected: Interactions) -> None:
    for name in ("offsets", "items", "item_ids", "user_ids"):
        ours, theirs = getattr(found, name), getattr(expected, name)
        assert ours.dtype == theirs.dtype
        assert np.array_equal(ours, theirs)
    assert found.fingerprint == expected.fingerprint


@pytest.mark.parametrize("zipped", [False, True], ids=["", "gzip"])
@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_dataset_bit_for_bit(
    name: str, zipped: bool, sample: list[Row], tmp_path: Path
) -> None:
    reference = tmp_path / "reference.dat"
    text(" ")(reference, sample)
    file, write, described = FORMATS[name]
    path = tmp_path / file
    write(path, sample)
    if zipped:
        content = path.read_bytes()
        path = path.with_name(file + ".gz")
        path.write_bytes(gzip.compress(content))
    settings = settings_for(path)
    assert str(recognise(path, settings)) == described
    found = load_interactions(settings)
    assert len(found.items) == len(sample) > 3000
    assert_same(found, load_interactions(settings_for(reference)))


def test_a_format_that_is_asked_for_is_taken_where_two_are_possible(tmp_path: Path) -> None:
    path = tmp_path / "three items each"
    path.write_text("1 10 20 30\n2 20 30 10\n3 30 20 10\n")
    assert recognise(path, settings_for(path)).format == "ratings"
    found = load_interactions(settings_for(path, format="sequences", min_interactions=3))
    assert found.item_ids[found.history(2)].tolist() == [30, 20, 10]


def test_lines_of_several_lengths_are_users_only_where_none_has_two(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("1 10 20 30 40 50\n2 10 20\n3 10\n")
    assert recognise(path, settings_for(path)).format == "sequences"
    path.write_text("1 10 20 30 40 50\n1 10 20\n")
    with pytest.raises(FedmemError, match="line 1 has 6 columns and line 2 has 3"):
        recognise(path, settings_for(path))


def test_columns_are_taken_by_name(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    rows = [f"{step},a,{step % 2},x{step}" for step in range(6)]
    path.write_text("\n".join(["when,buyer,user,thing", *rows]) + "\n")
    columns = ColumnSettings(user="buyer", item="thing", rating=None, timestamp="when", order=None)
    found = load_interactions(settings_for(path, columns=columns))
    assert found.user_ids.tolist() == ["a"]
    assert found.num_items == 6


@pytest.mark.parametrize("file", ["log.csv", "log.jsonl", "log.parquet"])
def test_columns_of_unknown_names_are_listed(file: str, tmp_path: Path) -> None:
    path = tmp_path / file
    if file == "log.csv":
        path.write_text("buyer,thing,stars,when\n1,2,3,4\n1,3,3,4\n")
    elif file == "log.jsonl":
        path.write_text('{"buyer": 1, "thing": 2}\n')
    else:
        pq.write_table(pa.table({"buyer": [1], "thing": [2]}), path)
    with pytest.raises(FedmemError, match=r"buyer, thing(.|\n)*data\.columns\.user"):
        load_interactions(settings_for(path))


def test_a_column_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_text("user,item,when\n1,2,3\n")
    columns = ColumnSettings(user=None, item=None, rating=None, timestamp="time", order=None)
    with pytest.raises(FedmemError, match="no column 'time'; its columns are user, item, when"):
        load_interactions(settings_for(path, columns=columns))


@pytest.mark.parametrize("wanted", ["pairs", "csv", "recbole", "jsonl", "parquet", "sequences"])
def test_a_format_that_the_file_is_not_of_is_refused_by_name(wanted: str, tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl" if wanted != "jsonl" else tmp_path / "r.dat"
    path.write_text('{"user": 1, "item": 2}\n' if wanted != "jsonl" else "1 2 3 4\n")
    with pytest.raises(FedmemError, match=str(path)) as caught:
        load_interactions(settings_for(path, format=wanted))
    assert wanted in str(caught.value) or "Parquet" in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 2
