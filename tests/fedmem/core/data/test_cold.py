"""Cold items: drawn by seed and id alone; what is left is as if they had never been in the file."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fedmem.core.data import Interactions, load_histories, load_interactions
from fedmem.core.data.cold import drawn_cold, part
from fedmem.core.errors import FedmemError
from fedmem.core.settings import Settings

MakeSettings = Callable[..., Settings]


def interactions_of(*histories: list[int]) -> Interactions:
    items, dense = np.unique(np.concatenate(histories), return_inverse=True)
    return Interactions(
        offsets=np.cumsum([0, *map(len, histories)]),
        items=(dense + 1).astype(np.int32),
        item_ids=np.concatenate([[0], items]),
        user_ids=np.arange(len(histories)) + 100,
    )


def test_by_hand() -> None:
    interactions = interactions_of([7, 2, 9, 5, 4], [2, 5, 8, 7], [9, 2])
    is_cold = np.isin(interactions.item_ids, [2, 9])
    found = part(interactions, is_cold, min_interactions=3)
    assert found.warm.user_ids.tolist() == found.cold.user_ids.tolist() == [100, 101]
    assert found.warm.item_ids.tolist() == [0, 4, 5, 7, 8]
    assert [found.warm.item_ids[found.warm.history(u)].tolist() for u in (0, 1)] == [
        [7, 5, 4],
        [5, 8, 7],
    ]
    assert found.cold.item_ids.tolist() == [0, 2, 9]
    assert [found.cold.item_ids[found.cold.history(u)].tolist() for u in (0, 1)] == [[2, 9], [2]]
    assert found.before.tolist() == [1, 1, 0]
    users, places = found.latest_cold(np.array([0, 1]))
    assert users.tolist() == [0]  # nothing warm comes before the other one's only cold item
    assert places.tolist() == [1]


@pytest.mark.parametrize("seed", [0, 1])
def test_what_is_left_is_what_a_file_without_the_cold_lines_gives(
    seed: int, make_settings: MakeSettings, data_dir: Path, tmp_path: Path
) -> None:
    found = load_histories(make_settings("evaluation.cold_items=0.3", f"seed={seed}"))
    cold = set(found.cold.item_ids[1:].tolist())
    assert 0 < len(cold) < 30
    other = tmp_path / "without"
    shutil.copytree(data_dir, other)
    lines = (data_dir / "ratings.dat").read_text().splitlines()
    kept = [line for line in lines if int(line.split()[1]) not in cold]
    (other / "ratings.dat").write_text("\n".join(kept) + "\n")
    expected = load_interactions(make_settings(f"data.dir={other}").data)
    for name, value in vars(expected).items():
        assert np.array_equal(vars(found.warm)[name], value), name
    assert found.warm.fingerprint == expected.fingerprint
    assert len(kept) < len(lines)


def test_with_no_share_nothing_is_cold(settings: Settings) -> None:
    found, everything = load_histories(settings), load_interactions(settings.data)
    assert np.array_equal(found.warm.items, everything.items)
    assert found.warm.fingerprint == everything.fingerprint
    assert found.cold.num_items == len(found.cold.items) == 0


def test_an_item_is_drawn_by_the_seed_and_its_own_id_alone() -> None:
    numbers = np.arange(2001)
    drawn = drawn_cold(numbers, 0.1, seed=3)
    assert 150 < drawn.sum() < 250
    backwards = np.concatenate([[0], numbers[:0:-1]])
    assert np.array_equal(drawn_cold(backwards, 0.1, seed=3)[1:], drawn[:0:-1])
    texts = np.array(["", *map(str, numbers[1:])], dtype=object)
    assert np.array_equal(drawn_cold(texts, 0.1, seed=3), drawn)
    assert not np.array_equal(drawn_cold(numbers, 0.1, seed=4), drawn)
    assert drawn_cold(numbers, 0.3, seed=3)[drawn].all()  # a larger share holds the smaller one
    assert not drawn[0]


@pytest.mark.parametrize(
    ("share", "words"), [(1e-9, "takes out none of the 40 items"), (0.99, "leaves no user")]
)
def test_a_share_that_leaves_nothing_to_do_is_refused(
    share: float, words: str, make_settings: MakeSettings
) -> None:
    with pytest.raises(FedmemError, match=words):
        load_histories(make_settings(f"evaluation.cold_items={share}"))


@pytest.mark.parametrize("share", ["-0.1", "1"])
def test_a_share_out_of_range_is_refused(share: str, make_settings: MakeSettings) -> None:
    with pytest.raises(FedmemError, match=r"evaluation\.cold_items=.*in \[0, 1\)"):
        make_settings(f"evaluation.cold_items={share}")
