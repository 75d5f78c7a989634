"""Bad files of interactions: each ends in one or two lines that name the file and the place."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fedmem.core.data import load_interactions
from fedmem.core.errors import FedmemError
from fedmem.core.settings import DataSettings
from fedmem.runs.configuration import compose_settings

CUSTOM = compose_settings(["data=custom"]).data
NAMES = ("user", "item", "rating", "timestamp")
ROWS = [(user, item, 5, 10 * item) for user in range(1, 8) for item in range(1, 8)]
SEPARATORS = {"colons": "::", "tabs": "\t", "commas": ",", "spaces": " ", "csv": ",", "tsv": "\t"}


def settings_for(path: Path, **changes: object) -> DataSettings:
    return replace(CUSTOM, path=str(path), **changes)  # type: ignore[arg-type]


def error_of(path: Path, **changes: object) -> str:
    before = sorted(path.parent.iterdir())
    with pytest.raises(FedmemError) as caught:
        load_interactions(settings_for(path, **changes))
    message = str(caught.value)
    assert str(path) in message
    assert len(message.splitlines()) <= 2
    assert sorted(path.parent.iterdir()) == before  # nothing half-written
    return message.replace(str(path), "FILE")


def write(folder: Path, form: str, rows: Sequence[Sequence[object]]) -> Path:
    path = folder / f"data.{form}"
    if form == "jsonl":
        lines = [json.dumps(dict(zip(NAMES, row, strict=True))) for row in rows]
    else:
        separator = SEPARATORS[form]
        lines = [separator.join(map(str, row)) for row in rows]
        lines = [separator.join(NAMES)] * (form in ("csv", "tsv")) + lines
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize(
    "content", [b"", b"\n\n \n", gzip.compress(b"")], ids=["empty", "blank", "gzip"]
)
def test_an_empty_file(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "ratings.dat"
    path.write_bytes(content)
    assert error_of(path) in ("FILE is empty.", "FILE has no line but blank ones.")


def test_a_header_without_rows(tmp_path: Path) -> None:
    path = tmp_path / "ratings.csv"
    path.write_text("userId,movieId,rating,timestamp\n")
    assert error_of(path) == "FILE has no interactions."


@pytest.mark.parametrize("name", ["a.dat", "a.csv", "a.txt"])
def test_one_column(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text("item\n1\n2\n3\n")
    assert "line 1 has 1 column" in error_of(path)


@pytest.mark.parametrize("form", [*SEPARATORS, "jsonl"])
@pytest.mark.parametrize("column", ["rating", "timestamp"])
def test_text_in_a_number_column_at_line_70001(form: str, column: str, tmp_path: Path) -> None:
    rows: list[tuple[object, ...]] = [(i // 100, i % 100, 3, i) for i in range(80_000)]
    bad = 70_000 - (form in ("csv", "tsv"))  # the header is a line
    rows[bad] = (7, 8, "many", 9) if column == "rating" else (7, 8, 9, "many")
    message = error_of(write(tmp_path, form, rows), min_rating=1.0)
    assert message.startswith("FILE, line 70001")
    assert column in message
    assert "many" in message


def test_blank_lines_count_as_lines(tmp_path: Path) -> None:
    path = tmp_path / "ratings.dat"
    path.write_text("1 2 3 4\n\n1 3 3 5\r\n\n\n1 2 many 4\n")
    assert error_of(path, min_rating=1.0) == "FILE, line 6: the rating 'many' is no number."


@pytest.mark.parametrize("form", [*SEPARATORS, "jsonl"])
@pytest.mark.parametrize("column", range(4))
def test_a_missing_value(form: str, column: int, tmp_path: Path) -> None:
    bad: list[object] = [1, 2, 3, 4]
    bad[column] = None if form == "jsonl" else ""
    place = f"line {len(ROWS) + 1 + (form in ('csv', 'tsv'))}"
    assert place in error_of(write(tmp_path, form, [*ROWS, bad, *ROWS]), min_rating=1.0)


@pytest.mark.parametrize("value", ["nan", "NaN", "1e", "5,0"])
def test_what_looks_like_a_number_and_is_none(value: str, tmp_path: Path) -> None:
    message = error_of(write(tmp_path, "tabs", [*ROWS, (1, 2, value, 4)]), min_rating=1.0)
    assert f"line {len(ROWS) + 1}: the rating" in message


@pytest.mark.parametrize("form", SEPARATORS)
def test_a_line_of_another_width_far_down(form: str, tmp_path: Path) -> None:
    rows: list[tuple[object, ...]] = [(i // 100, i % 100, 3, i) for i in range(20_000)]
    rows[15_000] = (1, 2, 3)
    place = f"line {15_001 + (form in ('csv', 'tsv'))} has 3 columns where 4 are expected"
    assert place in error_of(write(tmp_path, form, rows))


def test_single_colons_between_double_ones(tmp_path: Path) -> None:
    path = write(tmp_path, "colons", [(i // 100, i % 100, 3, i) for i in range(20_000)])
    with path.open("a") as file:
        file.write("1:x:2::3::4\n")
    assert "line 20001 has 3 columns where 4 are expected" in error_of(path)


@pytest.mark.parametrize("line", ["no json", "[1, 2]", '{"user": 1}', '{"user": [1], "item": 2}'])
def test_a_line_that_is_no_json_object_of_the_columns(line: str, tmp_path: Path) -> None:
    path = write(tmp_path, "jsonl", ROWS)
    with path.open("a") as file:
        file.write(line + "\n")
    assert f"line {len(ROWS) + 1}" in error_of(path)


def test_timestamps_that_run_backwards_are_sorted(tmp_path: Path) -> None:
    backwards = [(user, item, 5, 100 - time) for user, item, _, time in ROWS]
    found = load_interactions(settings_for(write(tmp_path, "tabs", backwards)))
    assert found.item_ids[found.history(0)].tolist() == [7, 6, 5, 4, 3, 2, 1]


@pytest.mark.parametrize(
    ("template", "bad"),
    [
        ("2024-05-{:02} 10:00:00", "2024-05-32 10:00:00"),
        ("2024-05-{:02}", "2024-13-01"),
        ("2024-05-{:02}T10:00:00.5Z", "later"),
    ],
)
def test_dates_are_times(template: str, bad: str, tmp_path: Path) -> None:
    rows: list[tuple[object, ...]] = [(u, i, r, template.format(20 - i)) for u, i, r, _ in ROWS]
    found = load_interactions(settings_for(write(tmp_path, "csv", rows)))
    assert found.item_ids[found.history(0)].tolist() == [7, 6, 5, 4, 3, 2, 1]
    path = write(tmp_path, "tsv", [*rows, (1, 2, 3, bad)])
    assert f"line {len(ROWS) + 2}: the timestamp '{bad}' is no date" in error_of(path)


@pytest.mark.parametrize("kept", [0.02, 0.5, 0.99])
@pytest.mark.parametrize("form", ["spaces", "csv", "jsonl"])
def test_a_truncated_gzip(form: str, kept: float, tmp_path: Path) -> None:
    numbers = np.random.default_rng(0).integers(1, 10**6, (20_000, 4)).tolist()
    content = gzip.compress(write(tmp_path, form, numbers).read_bytes())
    path = tmp_path / f"cut.{form}.gz"
    path.write_bytes(content[: int(len(content) * kept)])
    message = error_of(path)
    assert "FILE is cut short or damaged: its gzip data end after line " in message


def test_gzip_whose_checksum_differs(tmp_path: Path) -> None:
    numbers = np.random.default_rng(0).integers(1, 10**6, (20_000, 4)).tolist()
    content = bytearray(gzip.compress(write(tmp_path, "spaces", numbers).read_bytes()))
    content[-8] ^= 1  # the checksum
    path = tmp_path / "damaged.gz"
    path.write_bytes(content)
    assert "FILE is a damaged gzip file: CRC check failed" in error_of(path)


def test_a_parquet_file_that_is_cut_or_none(tmp_path: Path) -> None:
    path = tmp_path / "r.parquet"
    pq.write_table(
        pa.table(dict(zip(NAMES, map(list, zip(*ROWS, strict=True)), strict=True))), path
    )
    content = path.read_bytes()
    path.write_bytes(content[:-100])
    assert "cannot be read as Parquet" in error_of(path)
    path.write_bytes(b"PAR1 and no more")
    assert "cannot be read as Parquet" in error_of(path)


@pytest.mark.parametrize("column", NAMES)
def test_a_null_in_parquet(column: str, tmp_path: Path) -> None:
    path = tmp_path / "r.parquet"
    columns = {name: [row[i] for row in ROWS] for i, name in enumerate(NAMES)}
    columns[column][11] = None  # type: ignore[call-overload]
    pq.write_table(pa.table(columns), path)
    assert f"interaction 12: the {column} is missing" in error_of(path, min_rating=1.0)


@pytest.mark.parametrize("type_", [pa.list_(pa.int64()), pa.bool_(), pa.binary()])
def test_a_type_that_is_no_id_in_parquet(type_: pa.DataType, tmp_path: Path) -> None:
    path = tmp_path / "r.parquet"
    value = {"list": [1], "bool": True}.get(str(type_).split("<")[0], b"x")
    table = pa.table({"user": [1], "item": pa.array([value], type_)})
    pq.write_table(table, path)
    assert "the item is of type" in error_of(path)


def test_ids_as_floats_are_ids_where_they_are_whole(tmp_path: Path) -> None:
    path = tmp_path / "r.parquet"
    table = pa.table({"user": [1.0] * 6, "item": [float(i) for i in range(6)]})
    pq.write_table(table, path)
    assert load_interactions(settings_for(path)).item_ids[1:].tolist() == list(range(6))
    pq.write_table(pa.table({"user": [1.0] * 6, "item": [1.5] * 6}), tmp_path / "half.parquet")
    assert "interaction 1: the item 1.5 is no id" in error_of(tmp_path / "half.parquet")


def test_latin_1_is_named_by_its_line_and_read_where_it_is_said(tmp_path: Path) -> None:
    rows = [(user, f"caf\xe9{item}", 5, time) for user, item, _, time in ROWS]
    path = tmp_path / "ratings.csv"
    text = "\n".join(["user,item,rating,timestamp", *(",".join(map(str, r)) for r in rows)])
    path.write_bytes(text.encode("latin-1"))
    message = error_of(path)
    assert message.startswith("FILE, line 2 is not text in utf-8.")
    assert "data.encoding=latin-1" in message
    found = load_interactions(settings_for(path, encoding="latin-1"))
    assert found.item_ids[1] == "café1"


def test_another_encoding_far_down_is_named_by_its_line(tmp_path: Path) -> None:
    path = write(tmp_path, "spaces", [(i // 100, f"i{i % 100}", 3, i) for i in range(20_000)])
    with path.open("ab") as file:
        file.write("1 café 3 4\n".encode("latin-1"))
    assert "line 20001 is not text in utf-8" in error_of(path)


@pytest.mark.parametrize("form", ["spaces", "csv", "jsonl"])
def test_a_mark_at_the_beginning_of_utf_8_is_no_part_of_the_first_id(
    form: str, tmp_path: Path
) -> None:
    path = write(tmp_path, form, ROWS)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    found = load_interactions(settings_for(path))
    assert found.user_ids.tolist() == list(range(1, 8))


def test_utf_16_is_recognised_and_read_where_it_is_said(tmp_path: Path) -> None:
    path = write(tmp_path, "csv", ROWS)
    path.write_bytes(path.read_text().encode("utf-16"))
    assert "set data.encoding=utf-16" in error_of(path)
    assert load_interactions(settings_for(path, encoding="utf-16")).num_users == 7


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "ratings.dat"
    path.write_bytes(bytes(range(256)) * 100)
    assert error_of(path).startswith("FILE, line 3 is not text in utf-8.")
    path.write_bytes(b"\0\1\2\n\3\n")
    assert error_of(path) == "FILE is no text, and no Parquet either."


def test_a_folder_that_is_called_like_a_file(tmp_path: Path) -> None:
    (tmp_path / "ratings.dat").mkdir()
    with pytest.raises(FedmemError, match=r"looked in .*ratings\.dat for ratings\.dat, u\.data"):
        load_interactions(settings_for(tmp_path / "ratings.dat"))


LIMIT = 100 << 20
LOAD = f"""
import resource, sys
from fedmem.core.data import load_interactions
from fedmem.core.errors import readable_exit
from fedmem.core.settings import Settings
settings = Settings.from_json(sys.argv[1]).data
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + {LIMIT}, -1))
with readable_exit():
    load_interactions(settings)
"""


def test_a_line_of_200_mb_is_refused_without_taking_the_memory(tmp_path: Path) -> None:
    """In a process that may take 100 MB more than it has after its imports."""
    path = tmp_path / "ratings.dat"
    settings = compose_settings(["data=custom", f"data.path={path}"])
    with path.open("wb") as file:
        file.write(b"1 2 3 4\n" * 20_000)
        for _ in range(200):
            file.write(b"123456789 " * 100_000)
    done = subprocess.run(
        [sys.executable, "-c", LOAD, settings.to_json()],
        capture_output=True,
        text=True,
        check=False,
    )
    path.unlink()
    assert done.returncode == 2
    assert done.stderr.startswith(f"fedmem: {path}, line 20001 is longer than 1,048,576")
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("unit", ["1 ", "x", '{"user": 1}, ', "1\t"])
def test_a_first_line_without_end(unit: str, tmp_path: Path) -> None:
    path = tmp_path / "ratings.dat"
    path.write_text(unit * 2_000_000)
    assert "FILE, line 1 is longer than 1,048,576 characters" in error_of(path)
