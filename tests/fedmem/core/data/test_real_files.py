"""Files as people have them: read as what they are, or refused with what they would have meant."""

from __future__ import annotations

import bz2
import json
import lzma
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from tests.helpers.tables import (
    CUSTOM,
    ROWS,
    error_of,
    expected,
    histories,
    load,
    settings_for,
    table,
    write,
)


@pytest.mark.parametrize("kind", ["", ":token"])
def test_tabs_know_no_quotes(kind: str, tmp_path: Path) -> None:
    header = "\t".join(name + kind for name in ("user", "title", "item", "time"))
    lines = [f'{user}\t"Heroes\t{item}\t{time}' for user, item, time in ROWS]
    path = write(tmp_path / "log.tsv", [header, *lines])
    assert histories(load(settings_for(path))) == expected()


def test_a_header_in_quotes_says_that_tabs_have_them(tmp_path: Path) -> None:
    lines = [f'"{user}"\t"{item}"' for user, item, _ in ROWS]
    path = write(tmp_path / "log.tsv", ['"user"\t"item"', *lines])
    assert histories(load(settings_for(path))) == expected()


def test_a_line_end_in_quotes_is_refused_by_its_line(tmp_path: Path) -> None:
    lines = [f"{user},{item},fine" for user, item, _ in ROWS]
    lines[3], lines[9] = '1,107,"Heroes', '2,108,"Heroes'  # one cell, were the end a part of it
    path = write(tmp_path / "log.csv", ["user,item,title", *lines])
    assert error_of(settings_for(path)).startswith(f"{path}, line 5: a quoted cell holds the end")


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([f"{u},2017-07-15T04:22:{t % 60}Z,{i},0" for u, i, t in ROWS], "is a time"),
        ([f"{i},{u},5,{t}" for u, i, t in ROWS], "as if the columns were the other way round"),
        ([f"{i},{u}" for u, i, t in ROWS], "as if the columns were the other way round"),
        ([f"{u},{i},{t},5" for u, i, t in ROWS], "its rating '1500000000' is too large"),
        ([f"{u},{i},{n},{t % 5}" for n, (u, i, t) in enumerate(ROWS)], "48 different ratings"),
        ([f"{u},{i},buy,{t}" for u, i, t in ROWS], "its rating 'buy' is no number"),
        ([f"{u},{n},5,{t}" for n, (u, _, t) in enumerate(ROWS)], "have an item of their own"),
        ([f"{n},{i},5,{t}" for n, (_, i, t) in enumerate(ROWS)], "have a user of their own"),
        ([f"{n + 1_500_000_000},{i}" for n, (_, i, t) in enumerate(ROWS)], "looks like a time"),
        ([f"{u},{i % 5}.5" for u, i, t in ROWS], "looks like a rating"),
        ([f"B0{i:08},A{u:013},5,{t}" for u, i, t in ROWS], "[item,user,rating,timestamp]"),
        ([f"{u}\t7/15/2017 4:22 AM\tN1 N2\tN3 N4\t{i}" for u, i, t in ROWS[::6]], "holds the time"),
    ],
)
def test_what_columns_without_names_cannot_mean(
    lines: list[str], said: str, tmp_path: Path
) -> None:
    message = error_of(settings_for(write(tmp_path / "log.dat", lines)))
    assert said in message
    assert "data.columns.order=[" in message


def test_columns_without_a_header_are_named_in_their_order(tmp_path: Path) -> None:
    lines = [f"2017-07-15T04:22:{t % 60:02}Z;{i};x;{u}" for u, i, t in ROWS]
    path = write(tmp_path / "clicks.dat", lines)
    loaded = load(settings_for(path, "timestamp item other user"))
    assert histories(loaded) == expected()
    assert str(loaded.layout) == "csv (user, item, timestamp by semicolons)"
    assert "names 2" in error_of(settings_for(path, "user item"))
    assert "no item column" in error_of(settings_for(path, "timestamp other other2 user"))
    named = write(tmp_path / "named.csv", ["user,item", *[f"{u},{i}" for u, i, _ in ROWS]])
    assert "names its columns itself" in error_of(settings_for(named, "item user"))


def test_the_order_that_is_advised_has_the_times_where_they_are(tmp_path: Path) -> None:
    for lines, order in (
        ([f"{u},{i},7,pv,{t + n}" for n, (u, i, t) in enumerate(ROWS)], "user,item,other,other,ti"),
        ([f"{u}\t2010-10-19T23:55:{t % 60}Z\t30.2\t{i}\t1" for u, i, t in ROWS], "user,timesta"),
        ([f"{u},{i},{t}" for u, i, t in ROWS], "user,item,timestamp]"),
    ):
        assert f"order=[{order}" in error_of(settings_for(write(tmp_path / "log.dat", lines)))
    uneven = [f"{u},{','.join('123456'[: 3 + u])}" for u in range(1, 4)]
    assert "with spaces between" in error_of(settings_for(write(tmp_path / "uneven", uneven)))


def test_ids_come_before_names(tmp_path: Path) -> None:
    lines = [f"Ann,Soap,{user},{item}" for user, item, _ in ROWS]
    path = write(tmp_path / "log.csv", ["user,item,user_id,item_id", *lines])
    assert histories(load(settings_for(path))) == expected()


def test_lines_that_are_dicts_of_python(tmp_path: Path) -> None:
    records = [{"user": u, "item": i, "note": 'it\'s "good"'} for u, i, _ in ROWS]
    lines = [str(record | ({"time": 1} if n == 40 else {})) for n, record in enumerate(records)]
    path = write(tmp_path / "log.json", lines)
    assert "timestamp missing in 47." in error_of(settings_for(path))
    write(path, [str(record) for record in records])
    assert histories(load(settings_for(path))) == expected()
    for wrong in ("{'user': print(1)}", "{'user': " + "[" * 9999, "{'user': 1} + 1"):
        write(path, [*lines[:9], wrong])
        assert f"{path}, line 10 is no JSON" in error_of(settings_for(path))


WORDS = ["nan", "NULL", "NA", "None", "", "n/a", "(null)", "?", "-", "1.#QNAN"]


def with_missing(form: str, word: str | None, path: Path) -> Path:
    """The rows, and a last one whose user is missing."""
    rows = [*[(str(u), str(i), t) for u, i, t in ROWS], (word, "100", 1)]
    if form == "parquet":
        columns = dict(
            zip(("user", "item", "time"), map(list, zip(*rows, strict=True)), strict=True)
        )
        pq.write_table(pa.table(columns), path)
        return path
    if form == "jsonl":
        keyed = [{"user": u, "item": i, "time": t} for u, i, t in rows]
        return write(path, [json.dumps(row) for row in keyed])
    return write(path, ["user,item,time", *[f"{u or ''},{i},{t}" for u, i, t in rows]])


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("word", [*WORDS, None])
def test_words_for_missing_are_counted_and_dropped_or_kept(
    form: str, word: str | None, tmp_path: Path
) -> None:
    path = with_missing(form, word, tmp_path / "log")
    message = error_of(settings_for(path))
    assert "the user is missing" in message
    assert "of 49 interactions: user missing in 1.\nSet data.missing=drop" in message
    assert ("data.missing=keep" in message) is bool(word)
    loaded = load(settings_for(path, missing="drop"))
    assert histories(loaded) == expected()
    assert loaded.read.interactions == 49
    assert [(d.reason, d.size.interactions) for d in loaded.dropped] == [("user missing in 1", 1)]
    if word:
        kept = load(settings_for(path, missing="keep", min_interactions=3))
        assert kept.read.users == 9


@pytest.mark.parametrize("lacking", [0, 20])
def test_every_record_may_lack_a_time(lacking: int, tmp_path: Path) -> None:
    records = [{"user": u, "item": i, "time": t} for u, i, t in ROWS]
    del records[lacking]["time"]
    path = write(tmp_path / "log.jsonl", [json.dumps(record) for record in records])
    message = error_of(settings_for(path))
    assert f"line {lacking + 1}: the timestamp is missing; of 48" in message
    rows = [row for number, row in enumerate(ROWS) if number != lacking]
    loaded = load(settings_for(path, missing="drop"))
    assert histories(loaded) == expected(rows)


def test_a_time_far_down_is_seen(tmp_path: Path) -> None:
    first = [json.dumps({"user": 1, "item": 2, "text": "x" * 99})] * 1000  # more than is looked at
    later = json.dumps({"user": 1, "item": 2, "nested": {"date": 3}, "time": 4})
    path = write(tmp_path / "log.jsonl", [*first, later])
    assert "timestamp missing in 1,000." in error_of(settings_for(path))


def test_values_of_several_types_are_one_column(tmp_path: Path) -> None:
    records: list[dict[str, object]] = [
        {"user": u if t % 2 else str(u), "item": i, "time": t + 0.5 * (u % 2)} for u, i, t in ROWS
    ]
    path = write(tmp_path / "log.jsonl", [json.dumps(record) for record in records])
    assert histories(load(settings_for(path))) == expected()


def test_ratings_are_read_where_they_are_used(tmp_path: Path) -> None:
    lines = [f"{u},{i},*,{t}" for u, i, t in ROWS]
    path = write(tmp_path / "log.csv", ["user,item,rating,time", *lines])
    assert histories(load(settings_for(path))) == expected()
    assert "line 2: the rating '*' is no number" in error_of(settings_for(path, min_rating=1.0))


@pytest.mark.parametrize(
    "form",
    [
        "Sat Jul 15 04:22:{:02} +0000 2017",
        "7/15/2017 4:22:{:02} AM",
        "15/7/2017 4:22:{:02}",
        "2017/07/15 04:22:{:02}",
        "15-Jul-2017 04:22:{:02}",
        "2017-07-15T04:22:{:02}Z",
        "15/Jul/2017:04:22:{:02} +0200",
        "7/15/2017 4:{:02} PM",
        "15-Jul-17 04:22:{:02}",
        "7/15/17 04:{:02}",
    ],
)
def test_dates_in_the_forms_that_pandas_knows(form: str, tmp_path: Path) -> None:
    lines = [f'{u},{i},"{form.format(59 - t % 60)}"' for u, i, t in ROWS]
    path = write(tmp_path / "log.csv", ["user,item,when", *lines])
    columns = replace(CUSTOM.columns, timestamp="when")
    backwards = [(user, item, -time) for user, item, time in ROWS]
    assert histories(load(replace(settings_for(path), columns=columns))) == expected(backwards)


def test_a_time_of_day_is_no_time(tmp_path: Path) -> None:
    lines = [f"{u},{i},04:22:{t % 60:02}" for u, i, t in ROWS]
    path = write(tmp_path / "log.csv", ["user,item,time", *lines])
    assert "is a time of day without its day" in error_of(settings_for(path))


def test_a_date_that_may_be_of_two_days_is_refused(tmp_path: Path) -> None:
    lines = [f"{u},{i},{1 + t % 6}/2/2017" for u, i, t in ROWS]
    path = write(tmp_path / "log.csv", ["user,item,date", *lines])
    assert "may have the day or the month first" in error_of(settings_for(path))
    lines[7] = "2,3,28/2/2017"
    write(path, ["user,item,date", *lines])
    assert load(settings_for(path)).in_time


def zipped(content: bytes, path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("folder/", "")
        archive.writestr("folder/log.csv", content)


@pytest.mark.parametrize(
    "pack",
    [
        lambda content, path: path.write_bytes(bz2.compress(content)),
        lambda content, path: path.write_bytes(lzma.compress(content)),
        zipped,
    ],
    ids=["bz2", "xz", "zip"],
)
def test_packed_files(pack: Callable[[bytes, Path], None], tmp_path: Path) -> None:
    path = tmp_path / "log"
    pack("\n".join(["user,item,time", *table()]).encode(), path)
    assert histories(load(settings_for(path))) == expected()


@pytest.mark.parametrize("comments", [["# made by export 1.2"], ["% bip weighted", "% 8 6 11"]])
@pytest.mark.parametrize("header", ["user,item,time", ""])
def test_comments_at_the_beginning(comments: list[str], header: str, tmp_path: Path) -> None:
    lines = table() if header else [f"{u} {i} 1 {t}" for u, i, t in ROWS]
    path = write(tmp_path / "log", [*comments, *[header] * bool(header), *lines])
    assert histories(load(settings_for(path))) == expected()


def test_ids_that_begin_like_comments(tmp_path: Path) -> None:
    lines = [f"#guest,{item},{time}" for _, item, time in ROWS[:6]] + table()
    path = write(tmp_path / "log", ["#user,item,time", *lines])
    assert "#guest" in histories(load(settings_for(path)))
    lines[:2] = ["#guest,1,2", "1,a::b,2"]
    path = write(tmp_path / "log 1", lines)
    assert load(settings_for(path, "user item time")).read.interactions == len(lines)
    lines[0] = "# guest,1,2"
    path = write(tmp_path / "log 2", lines)
    assert "may be a comment or an interaction" in error_of(settings_for(path, "user item time"))


def test_records_in_an_array_quoted_pairs_and_feather(tmp_path: Path) -> None:
    array = tmp_path / "a.json"
    array.write_text(json.dumps([{"user": u, "item": i, "time": t} for u, i, t in ROWS], indent=1))
    pairs = write(tmp_path / "p.csv", [f'"{user}","{item}"' for user, item, _ in ROWS])
    columns = dict(zip(("user", "item", "time"), map(list, zip(*ROWS, strict=True)), strict=True))
    pa.feather.write_feather(pa.table(columns), tmp_path / "f")
    for path in (array, pairs, tmp_path / "f"):
        assert histories(load(settings_for(path))) == expected()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"(\xb5/\xfd\0\0", "packed by zstd"),
        (b"<!DOCTYPE html>", "a page of HTML"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
        (b"\x80\x04\x95", "a pickled object"),
        (b"PK\x03\x04", "damaged zip"),
        (bytes(257) + b"ustar", "a tar archive"),
        (b'[{"user": 1', "no JSON array"),
        (b"[[1, 2]]", "record 1 is no JSON object"),
    ],
)
def test_what_a_file_is_that_cannot_be_read(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "ratings.dat"
    path.write_bytes(content)
    message = error_of(settings_for(path))
    assert str(path) in message
    assert said in message


def test_a_zip_of_several_files_names_them(tmp_path: Path) -> None:
    path = tmp_path / "ml.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("ratings.csv", "")
        archive.writestr("movies.csv", "")
    assert "is a zip archive of ratings.csv, movies.csv: unpack it" in error_of(settings_for(path))
