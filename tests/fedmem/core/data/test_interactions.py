"""Reading histories: all file forms, one result; what cannot be read is refused by its path."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fedmem.core.arrays import offsets_of
from fedmem.core.data import Interactions, absent_items, load_interactions
from fedmem.core.data.interactions import load
from fedmem.core.data.preparation import Dropped, Size
from fedmem.core.data.sources import find_files
from fedmem.core.errors import FedmemError
from fedmem.core.settings import DataSettings
from fedmem.runs.configuration import compose_settings

DATA = compose_settings(["data=ml-1m"]).data
HEADER = "user_id:token\titem_id:token\trating:float\ttimestamp:float"
ROWS = [
    # Of user 7: 50 before 20 by time, 90 and 40 at the same time in the order of the file.
    (7, 20, 5, 300),
    (7, 50, 4, 100),
    (7, 90, 3, 400),
    (7, 40, 3, 400),
    (2, 90, 1, 10),
    (2, 50, 1, 30),
    (2, 40, 1, 20),
    (9, 1000, 1, 1),  # too few
    (9, 20, 1, 2),
]


def lines(separator: str, rows: Sequence[tuple[object, ...]] = ROWS) -> str:
    return "\n".join(separator.join(map(str, row)) for row in rows) + "\n"


def write(folder: Path, text: str) -> DataSettings:
    (folder / DATA.path).write_text(text)
    return replace(DATA, dir=str(folder), min_interactions=3)


def error_of(settings: DataSettings) -> str:
    with pytest.raises(FedmemError) as caught:
        load_interactions(settings)
    return str(caught.value)


@pytest.mark.parametrize(
    "text",
    [lines("::"), f"{HEADER}\n{lines(chr(9))}", lines("\t"), lines(" ")],
    ids=["colons", "recbole", "tabs", "spaces"],
)
def test_every_form_of_file_gives_the_same_histories(tmp_path: Path, text: str) -> None:
    found = load_interactions(write(tmp_path, text))
    assert found.user_ids.tolist() == [2, 7]
    assert found.item_ids.tolist() == [0, 20, 40, 50, 90]
    assert found.offsets.tolist() == [0, 3, 7]
    assert found.lengths.tolist() == [3, 4]
    assert found.history(0).tolist() == [4, 2, 3]
    assert found.history(1).tolist() == [3, 1, 4, 2]


def test_ties_in_time_keep_the_order_of_the_file(tmp_path: Path) -> None:
    rows = [(1, item, 1, 0) for item in (5, 3, 9, 1, 7, 2, 8)]
    found = load_interactions(write(tmp_path, lines("::", rows)))
    assert found.item_ids[found.history(0)].tolist() == [5, 3, 9, 1, 7, 2, 8]


@pytest.mark.parametrize("separator", ["::", "\t", " "])
def test_two_columns_are_in_time_order_already(tmp_path: Path, separator: str) -> None:
    rows = [row[:2] for row in sorted(ROWS, key=lambda row: row[3])]  # users take turns
    with_times, without = tmp_path / "four", tmp_path / "two"
    with_times.mkdir()
    without.mkdir()
    expected = load_interactions(write(with_times, lines("::")))
    found = load_interactions(write(without, lines(separator, rows)))
    for name, array in vars(expected).items():
        assert np.array_equal(getattr(found, name), array)


def test_users_with_too_few_interactions_are_dropped_with_their_items(tmp_path: Path) -> None:
    found = load_interactions(write(tmp_path, lines("::")))
    assert 9 not in found.user_ids
    assert 1000 not in found.item_ids


def test_a_user_with_just_enough_interactions_stays(tmp_path: Path) -> None:
    settings = write(tmp_path, lines("::"))
    assert load_interactions(replace(settings, min_interactions=4)).user_ids.tolist() == [7]


def test_item_ids_are_dense_from_1(tmp_path: Path) -> None:
    found = load_interactions(write(tmp_path, lines("::")))
    assert np.unique(found.items).tolist() == list(range(1, found.num_items + 1))
    assert (found.num_users, found.num_items) == (2, 4)


def test_training_leaves_out_the_last_two_items(tmp_path: Path) -> None:
    found = load_interactions(write(tmp_path, lines("::")))
    assert found.training(1).tolist() == [3, 1]
    assert [items.tolist() for items in found.training_sets] == [[4], [1, 3]]


def test_leave_one_out_counts_positions_from_the_end_of_each_history() -> None:
    items = np.arange(1, 9, dtype=np.int32)  # histories 1 2 3 4 5, then 6, then 7 8
    found = Interactions(offsets_of(np.array([5, 1, 2])), items, np.arange(9), np.arange(3))
    assert found.training_lengths.tolist() == [3, 0, 0]
    assert found.targets.tolist() == [2, 0, 0]  # the first item is only an input
    assert found.held_out_positions("validation").tolist() == [3, -1, 0]
    assert found.held_out_positions("test").tolist() == [4, 0, 1]
    assert found.held_out("validation", np.array([2, 0])).tolist() == [7, 4]
    assert found.held_out("test", np.array([2, 0])).tolist() == [8, 5]
    before = found.histories_before("test", np.array([0, 1, 2]))
    assert [history.tolist() for history in before] == [[1, 2, 3, 4], [], [7]]
    assert found.training_places(np.array([2, 0])).tolist() == [0, 1, 2]
    assert found.starts_at(np.array([4, 5, 7])).tolist() == [0, 5, 6]
    assert found.users.tolist() == [0, 0, 0, 0, 0, 1, 2, 2]


def test_the_fingerprint_is_of_the_catalogue_and_not_of_the_users(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in "abc"]
    for folder in folders:
        folder.mkdir()
    other_users = [(user + 1, item, rating, time) for user, item, rating, time in ROWS]
    other_items = [(user, item + 1, rating, time) for user, item, rating, time in ROWS]
    same, users, items = (
        load_interactions(write(folder, lines("::", rows))).fingerprint
        for folder, rows in zip(folders, (ROWS, other_users, other_items), strict=True)
    )
    assert same == users != items


def test_a_missing_folder_is_refused_by_the_path_looked_at(tmp_path: Path) -> None:
    message = error_of(replace(DATA, dir=str(tmp_path / "nowhere")))
    assert str(tmp_path / "nowhere" / "ratings.dat") in message
    assert "data.dir" in message


def test_missing_data_that_can_be_fetched_come_with_the_command(tmp_path: Path) -> None:
    message = error_of(replace(DATA, name="ml-100k", dir=str(tmp_path)))
    assert f"python -m fedmem.download {tmp_path}" in message


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello\n",
        "\x00\x01\x02\n\x03",
        "1,2,3,4\n",
        "1::2::3\n",
        "1 2 3 4 5\n1 6 7 8 9\n",
        f"{HEADER}\n",
        "1::2::3::4\n1::2::3::4::5\n",
        "1 2\n1 3 4\n",
        "1 2\n1 many\n",
        "1 2\n1\n",
    ],
    ids=[
        "empty",
        "word",
        "bytes",
        "commas",
        "three",
        "five",
        "header",
        "uneven",
        "two then three",
        "text",
        "cut short",
    ],
)
def test_a_file_of_another_form_is_refused_by_its_path(tmp_path: Path, text: str) -> None:
    assert str(tmp_path / "ratings.dat") in error_of(write(tmp_path, text))


@pytest.mark.parametrize("separator", ["::", "\t", " ", ","])
@pytest.mark.parametrize("column", [2, 3])
def test_text_in_a_column_of_numbers_is_refused_by_its_line(
    tmp_path: Path, separator: str, column: int
) -> None:
    bad = ["8", "8", "8", "8"]
    bad[column] = "many"
    settings = write(tmp_path, lines(separator) + separator.join(bad) + "\n")
    name = ("rating", "timestamp")[column - 2]
    assert error_of(replace(settings, min_rating=1.0)) == (
        f"{tmp_path / 'ratings.dat'}, line {len(ROWS) + 1}: the {name} 'many' is no number."
    )
    if name == "rating":  # which is read where it is used
        assert load(settings).read.interactions == len(ROWS) + 1


@pytest.mark.parametrize("separator", ["::", "\t", " "])
def test_a_line_that_is_cut_short_is_refused(tmp_path: Path, separator: str) -> None:
    settings = write(tmp_path, lines(separator) + separator.join(["7", "50"]) + "\n")
    assert f"{tmp_path / 'ratings.dat'}, line 10 has 2 columns" in error_of(settings)


def test_rows_wider_than_the_header_are_refused(tmp_path: Path) -> None:
    rows = [(*row, 7) for row in ROWS]  # users 300, 100, … would come out, none with 3 items
    message = error_of(write(tmp_path, f"{HEADER}\n{lines(chr(9), rows)}"))
    assert "line 2 has 5 columns where 4 are expected" in message


def test_timestamps_in_nanoseconds_keep_their_order(tmp_path: Path) -> None:
    rows = [
        (1, item, 1, 1_700_000_000_000_000_000 + late) for item, late in ((5, 2), (6, 1), (7, 0))
    ]
    found = load_interactions(write(tmp_path, lines("::", rows)))
    assert found.item_ids[found.history(0)].tolist() == [7, 6, 5]


def test_data_that_leave_no_user_are_refused_with_the_filter(tmp_path: Path) -> None:
    settings = replace(write(tmp_path, lines("::")), min_interactions=50)
    message = error_of(settings)
    assert str(tmp_path / "ratings.dat") in message
    assert "users with under 50 interactions" in message


def test_a_user_with_one_item_is_dropped_and_reported(tmp_path: Path) -> None:
    found = load(write(tmp_path, lines("::", [*ROWS[:7], (3, 77, 1, 1)])))
    assert found.interactions.user_ids.tolist() == [2, 7]
    assert found.read == Size(3, 5, 8)
    assert found.dropped == [Dropped("users with under 3 interactions", Size(1, 1, 1))]
    assert found.kept == Size(2, 4, 7)


def test_ids_that_are_text_are_dense_in_the_order_of_text(tmp_path: Path) -> None:
    rows = [(user, f"b{item}", rating, time) for user, item, rating, time in ROWS]
    found = load_interactions(write(tmp_path, lines("::", rows)))
    assert found.user_ids.tolist() == [2, 7]
    assert found.item_ids.tolist() == ["", "b20", "b40", "b50", "b90"]
    assert found.history(1).tolist() == [3, 1, 4, 2]


def test_one_id_that_is_text_makes_all_text(tmp_path: Path) -> None:
    found = load_interactions(write(tmp_path, lines("::", [*ROWS, (7, "many", 1, 500)])))
    assert found.item_ids.tolist() == ["", "20", "40", "50", "90", "many"]


def test_negative_and_huge_ids_are_ids(tmp_path: Path) -> None:
    rows = [(-1, item, 1, time) for time, item in enumerate((2**62, -5, 0, 7))]
    found = load_interactions(write(tmp_path, lines("::", rows)))
    assert found.user_ids.tolist() == [-1]
    assert found.item_ids[1:].tolist() == [-5, 0, 7, 2**62]
    assert found.history(0).tolist() == [4, 1, 2, 3]
    beyond = [(1, 10**30 + time, 1, time) for time in range(3)]
    found = load_interactions(replace(write(tmp_path, lines(" ", beyond)), max_history=3))
    assert found.item_ids[1:].tolist() == [str(10**30 + time) for time in range(3)]


def test_a_folder_holds_interactions_under_a_usual_name(tmp_path: Path) -> None:
    write(tmp_path, lines("::"))
    (tmp_path / "movies.dat").write_text("1::Toy Story (1995)::Animation\n")
    expected = load_interactions(replace(DATA, dir=str(tmp_path), min_interactions=3))
    folder = replace(DATA, dir=str(tmp_path), path=".", min_interactions=3)
    assert find_files(folder) == [tmp_path / "ratings.dat"]
    assert np.array_equal(load_interactions(folder).items, expected.items)
    (tmp_path / "ratings.dat").unlink()
    for name in ("a.csv", "b.csv.gz"):
        (tmp_path / name).touch()
    with pytest.raises(FedmemError, match=r"a\.csv, b\.csv\.gz: say which with data\.path"):
        find_files(folder)


def test_a_folder_without_interactions_says_what_was_looked_for(tmp_path: Path) -> None:
    message = error_of(replace(DATA, dir=str(tmp_path), path="."))
    assert f"looked in {tmp_path} for ratings.dat, u.data" in message


def test_a_file_where_the_folder_is_meant_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ratings.dat").write_text(lines("::"))
    message = error_of(replace(DATA, dir=str(tmp_path / "ratings.dat")))
    assert f"looked for {tmp_path / 'ratings.dat' / 'ratings.dat'}" in message


@pytest.mark.parametrize("present", [[], [1, 2, 3], [2, 5, 6, 9], [10], list(range(1, 11))])
def test_absent_items_are_those_at_places_of_the_list_of_all_the_others(present: list[int]) -> None:
    others = np.setdiff1d(np.arange(1, 11), present)
    places = np.random.default_rng(0).permutation(np.repeat(np.arange(len(others)), 2))
    found = absent_items(np.array(present, dtype=np.int32), places)
    assert found.tolist() == others[places].tolist()
