"""Interactions in parts, in splits, and in lists; what looks wrong with them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from fedmem.core.data.sources import find_files
from tests.helpers.tables import (
    ROWS,
    error_of,
    expected,
    histories,
    load,
    settings_for,
    table,
    write,
)


def test_parts_are_read_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    lines = [f"{user},{item}" for user, item, _ in ROWS]
    files = [tmp_path / f"part-{number}.csv" for number in range(12)]
    for number, file in enumerate(files):  # the header only in the first, as `split` leaves it
        write(file, ["user,item"] * (number == 0) + lines[4 * number : 4 * number + 4])
    for path in (tmp_path, files):
        loaded = load(settings_for(path))
        assert loaded.paths == files
        assert histories(loaded) == expected()
    write(files[1], ["item,user", "1,2"])
    assert histories(load(settings_for(tmp_path)))["2"][0] == "1"  # by name, whatever the order
    write(files[1], ["buyer,thing,x", "1,2,3"])
    assert "parts must be alike" in error_of(settings_for(files))
    write(tmp_path / "other.csv", lines)
    assert "data.path=[A,B]" in error_of(settings_for(tmp_path))


def split_files(folder: Path, rows: Sequence[tuple[int, int, int]] = ROWS) -> list[Path]:
    """A user's last row to test, the one before it to validation."""
    files = [folder / f"shop.{part}.inter" for part in ("train", "valid", "test")]
    for number, file in enumerate(files):
        own = [r for r in rows if max(r[2] - 1_500_000_003, 0) == number]
        write(file, ["user_id:token\titem_id:token\ttimestamp:float", *table("\t", own)])
    return files


def test_a_split_is_taken_as_it_is_or_refused(tmp_path: Path) -> None:
    files = split_files(tmp_path)
    assert find_files(settings_for(tmp_path)) == files
    assert histories(load(settings_for(tmp_path))) == expected()
    files[1].unlink()
    rows = [row for row in ROWS if row[2] != 1_500_000_004]
    assert histories(load(settings_for(tmp_path))) == expected(rows)  # the last of train validates
    train, test = files[0].read_text().splitlines(), files[2].read_text().splitlines()
    write(files[0], train[:-1])
    write(files[2], [*test, train[-1]])
    message = error_of(settings_for([files[2], files[0]], min_interactions=3))
    assert f"{files[2]}: 1 of 8 users are not split as fedmem splits them" in message
    assert "user 8 has 2 to test" in message


@pytest.mark.parametrize("form", ["inter", "jsonl", "parquet"])
def test_lists_of_items_are_histories(form: str, tmp_path: Path) -> None:
    rows = []
    for user in range(1, 9):
        items = [item for u, item, _ in ROWS if u == user]
        rows += [(user, items[:end], items[end]) for end in (3, 5)]  # both begin alike
    path = tmp_path / f"shop.{form}"
    if form == "inter":
        lines = [f"{user}\t{' '.join(map(str, some))}\t{item}" for user, some, item in rows]
        write(path, ["user_id:token\titem_id_list:token_seq\titem_id:token", *lines])
    elif form == "jsonl":
        keyed = [{"user": u, "item_id_list": some, "item": item} for u, some, item in rows]
        write(path, [json.dumps(row) for row in keyed])
    else:
        users, lists, items = map(list, zip(*rows, strict=True))
        pq.write_table(pa.table({"user": users, "items": lists, "item": items}), path)
    assert histories(load(settings_for(path))) == expected()


def test_lists_that_do_not_begin_alike_are_refused(tmp_path: Path) -> None:
    records = [{"user": 1, "items": [1, 2, 3, 4, 5]}, {"user": 1, "items": [2, 3, 4]}]
    path = write(tmp_path / "log.jsonl", [json.dumps(record) for record in records])
    assert "lists of items of user 1 do not begin alike" in error_of(settings_for(path))


def doubts_of(path: Path, lines: Sequence[str]) -> str:
    columns = ["user,item,time", *lines]
    return " ".join(load(settings_for(write(path, columns), min_interactions=3)).doubts)


def test_what_looks_wrong_is_said_with_a_figure(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    assert doubts_of(path, table()) == ""
    assert "48 of 48 interactions have an item of their own" in doubts_of(
        tmp_path / "a", [f"{u},{n},{t}" for n, (u, _, t) in enumerate(ROWS)]
    )
    many = [f"{10 + n % 12},{100 + n % 7},{n}" for n in range(72)]
    assert "user 99 has 24 of 96 interactions (25%)" in doubts_of(
        tmp_path / "b", [*many, *[f"99,{100 + n % 7},{n}" for n in range(24)]]
    )
    days = [f"{u},{i},2017-07-{15 + t % 2}" for u, i, t in ROWS]
    assert "times are whole days, 2 of them: 67% of the interactions" in doubts_of(
        tmp_path / "c", days
    )
    dates = [f"{u},2017-07-{10 + i % 11},{t}" for u, i, t in ROWS]
    assert "11 of 11 item ids look like dates, as '2017-07-10' does" in doubts_of(
        tmp_path / "d", dates
    )
    mixed = [f"{u},{i},{t * (1000 if i == 103 else 1)}" for u, i, t in ROWS]
    assert "5 of 48 times are far from the others, as 1500000000000 is from 1500000003" in (
        doubts_of(tmp_path / "f", mixed)
    )
    none = [*table(), *[f"{9 + n},{100 + n},{n}" for n in range(9)], *[f"-1,{n},{n}" for n in "12"]]
    none += [f"-1,{100 + n},1500000000" for n in range(9)]
    assert "user -1 has 11 of 68 interactions (16%)" in doubts_of(tmp_path / "g", none)
    rounded = [f"{u},{9.78e9 + i:.1E},{t}" for u, i, t in ROWS]
    assert "1 of 1 item ids are written as 9.8E+09 is" in doubts_of(tmp_path / "h", rounded)
    same = [f"{u},{i},7" for u, i, t in ROWS]
    assert "all times are 7: 83% of the interactions" in doubts_of(tmp_path / "e", same)


def test_times_that_no_column_is_known_to_hold_are_spoken_of(tmp_path: Path) -> None:
    names = "user,item,clickTime,updated_at,category,daytona"
    path = write(tmp_path / "log.csv", [names, *[f"{u},{i},{t},1,2,3" for u, i, t in ROWS]])
    (said,) = load(settings_for(path)).doubts
    assert "so the order of the file counts; 2 of 6 may be one: clickTime, updated_at." in said


MANY = [(u, (13 * u + 7 * s * s) % 40, 10**6 * u + s) for u in range(80) for s in range(6)]
"""Eighty users with six interactions each, one user after the other, and forty items."""


@pytest.mark.parametrize("timed", [True, False])
def test_users_in_the_place_of_items_are_spoken_of(timed: bool, tmp_path: Path) -> None:
    rows = sorted(MANY, key=lambda row: (row[0] // 2, row[2] % 6))  # two at a time
    for swapped in (False, True):
        pairs = [(i, u) if swapped else (u, i) for u, i, _ in rows]
        more = [(5, t) if timed else () for _, _, t in rows]
        lines = table(rows=[(*pair, *rest) for pair, rest in zip(pairs, more, strict=True)])
        path = write(tmp_path / "log", lines)
        said = load(settings_for(path, min_interactions=3)).doubts
        assert ["an item's interactions follow each other" in each for each in said] == (
            [True] if swapped else []
        )


def test_users_with_few_interactions_and_no_such_items_are_spoken_of(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    items = np.concatenate([np.arange(30)] * 8)  # eight each
    users = np.concatenate([np.arange(100), random.integers(0, 30, 140)])
    lines = [f"{u},{i}" for u, i in random.permuted(np.stack([users, items], 1), axis=0)]
    loaded = load(settings_for(write(tmp_path / "log", lines), min_interactions=3))
    assert "users have under 5 interactions, and no item has" in " ".join(loaded.doubts)
