"""Nodes that have each seen some of the items count all of them alike, and their users apart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fedmem.core.data import load_histories, load_interactions
from fedmem.core.errors import FedmemError
from fedmem.core.settings import DataSettings, Settings
from fedmem.runs.configuration import compose_settings

SEEN = [("u", 30), ("u", 10), ("u", 40), ("v", 10), ("v", 40), ("v", 30)]


def settings_of(folder: Path, catalogue: str, prefix: str = "") -> DataSettings:
    lines = [f"{user} {prefix}{item}" for user, item in SEEN]
    (folder / "interactions.txt").write_text("\n".join(lines) + "\n")
    (folder / "items.txt").write_text(catalogue)
    asked = ["data=custom", f"data.dir={folder}", "data.path=interactions.txt"]
    asked += ["data.catalogue_file=items.txt", "data.first_index=2", "data.min_interactions=3"]
    return compose_settings(asked).data


def test_items_are_counted_in_the_catalogue_and_users_from_the_first_index(tmp_path: Path) -> None:
    found = load_interactions(settings_of(tmp_path, "40\n10\n\n20\n30\n"))
    assert found.item_ids.tolist() == [0, 10, 20, 30, 40]
    assert found.offsets.tolist() == [0, 0, 0, 3, 6]
    assert found.user_ids.tolist() == ["", "", "u", "v"]
    assert found.history(2).tolist() == [3, 1, 4]
    assert found.history(3).tolist() == [1, 4, 3]


def test_a_line_that_names_the_column_is_no_item(tmp_path: Path) -> None:
    found = load_interactions(settings_of(tmp_path, "item_id\n40\n10\n20\n30\n"))
    assert found.item_ids.tolist() == [0, 10, 20, 30, 40]


def test_text_and_whole_numbers_are_compared_as_text(tmp_path: Path) -> None:
    found = load_interactions(settings_of(tmp_path, "9\n10\n40\nx\n30\n"))
    assert found.item_ids.tolist() == ["", "10", "30", "40", "9", "x"]
    assert found.history(2).tolist() == [2, 1, 3]
    other = tmp_path / "other"
    other.mkdir()
    found = load_interactions(settings_of(other, "i40\ni9\ni10\ni30\n", prefix="i"))
    assert found.item_ids.tolist() == ["", "i10", "i30", "i40", "i9"]


def test_parting_cold_items_keeps_what_lives_elsewhere(tmp_path: Path) -> None:
    data = settings_of(tmp_path, "10\n20\n30\n40\n50\n")
    data = replace(data, min_interactions=3)
    settings: Settings = replace(compose_settings(), data=data)
    warm = load_histories(settings).warm
    assert warm.item_ids.tolist() == [0, 10, 20, 30, 40, 50]
    assert warm.lengths.tolist() == [0, 0, 3, 3]
    assert warm.history(2).tolist() == [3, 1, 4]


@pytest.mark.parametrize(
    ("catalogue", "wrong"),
    [("10\n20\n30\n", "lacks item 40"), ("\n", "is empty"), ("PAR1", "is no text")],
)
def test_a_catalogue_that_does_not_serve(catalogue: str, wrong: str, tmp_path: Path) -> None:
    with pytest.raises(FedmemError, match=rf"items\.txt {wrong}"):
        load_interactions(settings_of(tmp_path, catalogue))


def test_a_catalogue_that_is_not_there(tmp_path: Path) -> None:
    settings = replace(settings_of(tmp_path, ""), catalogue_file="none.txt")
    with pytest.raises(FedmemError, match=r"none\.txt cannot be read: No such file"):
        load_interactions(settings)
