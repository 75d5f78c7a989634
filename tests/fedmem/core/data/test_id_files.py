"""What a run writes of who its users and items are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from fedmem.core.data import load_histories, load_interactions, write_id_files
from fedmem.core.data.id_files import COLD, TEST, read_item_ids, read_users, require_same_data
from fedmem.core.errors import FedmemError
from fedmem.core.settings import Settings
from fedmem.runs.configuration import compose_settings

HISTORIES = {"7": "b40 b20 b50", "2": "b90 b20 b40 b50", "11": "b20 b40 b90"}


def settings_of(folder: Path, histories: dict[str, str], *overrides: str) -> Settings:
    folder.mkdir(exist_ok=True)
    lines = [f"{user} {item}" for user, items in histories.items() for item in items.split()]
    (folder / "pairs.txt").write_text("\n".join(lines) + "\n")
    own = ["data=custom", f"data.dir={folder}", "data.path=pairs.txt", "data.min_interactions=3"]
    return compose_settings([*own, *overrides])


def test_the_data_s_own_ids_of_each_index_are_kept(tmp_path: Path) -> None:
    write_id_files(tmp_path, settings_of(tmp_path, HISTORIES))
    assert pq.read_table(tmp_path / "items.parquet").to_pydict() == {
        "index": [1, 2, 3, 4],
        "id": ["b20", "b40", "b50", "b90"],
    }
    users = pq.read_table(tmp_path / "users.parquet")
    assert users.select(["index", "id"]).to_pydict() == {"index": [0, 1, 2], "id": [2, 7, 11]}
    assert not list(tmp_path.glob("*.partial"))
    found, items = read_users(tmp_path), read_item_ids(tmp_path)
    assert found is not None
    assert items is not None
    assert (found.ids.tolist(), items.tolist()) == ([2, 7, 11], ["b20", "b40", "b50", "b90"])


def test_check_values_are_alike_where_user_and_test_item_are(tmp_path: Path) -> None:
    grown = {**HISTORIES, "2": HISTORIES["2"] + " b20", "1": "b40 b40 b50"}
    found = []
    for name, histories in (("one", HISTORIES), ("grown", grown)):
        write_id_files(tmp_path / name, settings_of(tmp_path / name, histories))
        users = read_users(tmp_path / name)
        assert users is not None
        found.append(dict(zip(users.ids.tolist(), users.tested_on[TEST].tolist(), strict=True)))
        assert not users.tested_on[COLD].any()
    one, other = found
    assert {user: one[user] == other[user] for user in one} == {2: False, 7: True, 11: True}
    assert one[2] != one[7]  # of another user, though both end with b50


def test_cold_items_are_checked_too(tmp_path: Path) -> None:
    cold = ["evaluation.cold_items=0.4", "seed=1"]
    histories = {str(user): " ".join(f"{(user + k) % 9}" for k in range(9)) for user in range(4)}
    settings = settings_of(tmp_path, histories, *cold)
    write_id_files(tmp_path, settings)
    users, (known, _) = read_users(tmp_path), load_histories(settings).latest_cold(np.arange(4))
    assert users is not None
    assert np.flatnonzero(users.tested_on[COLD]).tolist() == known.tolist()
    assert users.data == load_interactions(settings.data).histories_hash


def test_data_have_one_hash_wherever_they_lie(tmp_path: Path) -> None:
    def hash_of(name: str, histories: dict[str, str]) -> str:
        return load_interactions(settings_of(tmp_path / name, histories).data).histories_hash

    expected = hash_of("here", HISTORIES)
    assert hash_of("there", dict(sorted(HISTORIES.items()))) == expected
    swapped = {**HISTORIES, "7": HISTORIES["11"], "11": HISTORIES["7"]}
    renamed = {("3" if user == "2" else user): own for user, own in HISTORIES.items()}
    assert len({expected, hash_of("swapped", swapped), hash_of("renamed", renamed)}) == 3


def test_data_are_those_of_a_run_where_the_hash_is_or_the_ids_are(tmp_path: Path) -> None:
    mine = settings_of(tmp_path / "mine", HISTORIES)
    grown = settings_of(tmp_path / "grown", {**HISTORIES, "7": "b40 b20 b50 b20"})
    others = settings_of(tmp_path / "others", {"8": "b40 b20 b50", "9": "b90 b20 b40"})
    require_same_data(tmp_path, others)  # nothing is known of the run
    write_id_files(tmp_path, mine)
    require_same_data(tmp_path, settings_of(tmp_path / "moved", HISTORIES))
    for settings in (grown, others):
        with pytest.raises(FedmemError, match=rf"{settings.data.dir} are others than the run in"):
            require_same_data(tmp_path, settings)
    path = tmp_path / "users.parquet"
    pq.write_table(pq.read_table(path).replace_schema_metadata(None), path)  # as of earlier ones
    require_same_data(tmp_path, grown)
    with pytest.raises(FedmemError, match="are others"):
        require_same_data(tmp_path, others)


def test_files_of_earlier_versions_and_damaged_ones(tmp_path: Path) -> None:
    assert read_users(tmp_path) is None
    assert read_item_ids(tmp_path) is None
    write_id_files(tmp_path, settings_of(tmp_path, HISTORIES))
    path = tmp_path / "users.parquet"
    earlier = pq.read_table(path).select(["index", "id"]).replace_schema_metadata(None)
    pq.write_table(earlier, path)
    users = read_users(tmp_path)
    assert users is not None
    assert (users.data, users.tested_on) == (None, {})
    pq.write_table(earlier.select(["index"]), path)
    with pytest.raises(FedmemError, match=r"users\.parquet has no column id"):
        read_users(tmp_path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(FedmemError, match=r"users\.parquet cannot be read"):
        read_users(tmp_path)
