"""What each filter keeps, worked out by hand, and what is reported of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fedmem.core.data.interactions import Loaded, load
from fedmem.core.data.preparation import Dropped, Size
from fedmem.core.errors import FedmemError
from fedmem.core.settings import DataSettings
from fedmem.runs.configuration import compose_settings

CUSTOM = replace(compose_settings(["data=custom"]).data, min_interactions=3)
ROWS = [
    # user, item, rating; the line is the time
    (1, 10, 5),
    (1, 20, 1),
    (1, 30, 5),
    (1, 10, 4),
    (1, 40, 4),
    (2, 10, 3),
    (2, 20, 3),
    (2, 30, 4),
    (3, 10, 5),
    (3, 30, 5),
    (3, 50, 5),
    (3, 60, 5),
    (4, 70, 5),
]


def settings_for(folder: Path, **changes: object) -> DataSettings:
    path = folder / "r.dat"
    path.write_text("".join(f"{u} {i} {r} {time}\n" for time, (u, i, r) in enumerate(ROWS)))
    return replace(CUSTOM, path=str(path), **changes)  # type: ignore[arg-type]


def histories(loaded: Loaded) -> dict[int, list[int]]:
    found = loaded.interactions
    return {
        int(user): found.item_ids[found.history(row)].tolist()
        for row, user in enumerate(found.user_ids)
    }


def test_by_default_all_but_the_short_histories_is_kept(tmp_path: Path) -> None:
    found = load(settings_for(tmp_path))
    assert histories(found) == {
        1: [10, 20, 30, 10, 40],
        2: [10, 20, 30],
        3: [10, 30, 50, 60],
    }
    assert found.read == Size(4, 7, 13)
    assert found.dropped == [Dropped("users with under 3 interactions", Size(1, 1, 1))]


def test_the_minimum_rating_comes_before_all_else(tmp_path: Path) -> None:
    found = load(settings_for(tmp_path, min_rating=4))
    assert histories(found) == {1: [10, 30, 10, 40], 3: [10, 30, 50, 60]}
    assert found.dropped == [
        Dropped("rating under 4", Size(0, 1, 3)),
        Dropped("users with under 3 interactions", Size(2, 1, 2)),
    ]


@pytest.mark.parametrize(
    ("which", "expected"), [("first", [10, 20, 30, 40]), ("last", [20, 30, 10, 40])]
)
def test_of_repeated_interactions_the_first_or_the_last_stays(
    which: str, expected: list[int], tmp_path: Path
) -> None:
    found = load(settings_for(tmp_path, duplicates=which))
    assert histories(found)[1] == expected
    assert found.dropped[0] == Dropped(f"repeated, {which} kept", Size(0, 0, 1))


def test_a_k_core_goes_on_until_none_has_fewer(tmp_path: Path) -> None:
    # Items 40 to 70 have one interaction; without 50 and 60 user 3 has two, and without user 3 the
    # items 10 and 30 still have two and more.
    found = load(settings_for(tmp_path, k_core=2))
    assert histories(found) == {1: [10, 20, 30, 10], 2: [10, 20, 30]}
    reason = "users with under 3 interactions, items with under 2"
    assert found.dropped == [Dropped(reason, Size(2, 4, 6))]


def test_the_most_active_users_stay_and_the_lower_id_comes_first(tmp_path: Path) -> None:
    assert list(histories(load(settings_for(tmp_path, most_active_users=2)))) == [1, 3]
    tied = settings_for(tmp_path, duplicates="first", most_active_users=1)
    assert list(histories(load(tied))) == [1]  # 1 and 3 have four each


def test_of_a_long_history_the_latest_stays(tmp_path: Path) -> None:
    found = load(settings_for(tmp_path, max_history=3))
    assert histories(found) == {1: [30, 10, 40], 2: [10, 20, 30], 3: [30, 50, 60]}
    assert found.dropped[1] == Dropped("before a user's latest 3", Size(0, 0, 3))


def test_what_is_read_less_what_is_dropped_is_what_is_kept(tmp_path: Path) -> None:
    found = load(
        settings_for(
            tmp_path,
            min_rating=2,
            duplicates="last",
            k_core=1,
            most_active_users=2,
            max_history=3,
        )
    )
    left = found.read
    for dropped in found.dropped:
        left = left - dropped.size
    assert left == found.kept
    assert len(found.dropped) == 5


def test_a_minimum_rating_without_ratings_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "pairs.txt"
    path.write_text("1 2\n1 3\n1 4\n")
    with pytest.raises(FedmemError, match=r"has no ratings, and data\.min_rating=4"):
        load(replace(CUSTOM, path=str(path), min_rating=4.0))
