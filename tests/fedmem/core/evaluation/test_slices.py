"""Slices of users, by hand."""

from __future__ import annotations

import numpy as np

from fedmem.core.data import Interactions
from fedmem.core.evaluation.slices import popularity_thirds, slices_of

HISTORIES = [  # the last two of each are held out
    [1, 1, 1, 2, 5, 1],
    [1, 1, 1, 2, 3, 4, 5, 2],
    [1, 2, 4, 1, 2, 3, 6, 1, 6],
]
"""Trained on: item 1 eight times, item 2 four, 3 and 4 twice, 6 once."""


def interactions() -> Interactions:
    return Interactions(
        offsets=np.cumsum([0, *map(len, HISTORIES)]),
        items=np.concatenate(HISTORIES).astype(np.int32),
        item_ids=np.arange(7),
        user_ids=np.arange(3),
    )


def test_items_are_parted_where_thirds_of_the_training_interactions_are_reached() -> None:
    thirds = popularity_thirds(interactions(), np.arange(3))
    # 17 interactions: item 1 starts at 0, item 2 at 8, 3 at 12, 4 at 14, 6 at 16
    assert thirds[1:].tolist() == [0, 1, 2, 2, 2, 2]
    assert popularity_thirds(interactions(), np.array([0]))[1:3].tolist() == [0, 2]


def test_users_are_parted_by_item_length_and_picture() -> None:
    has_picture = np.array([False, True, False, True, True, True, True])
    found = slices_of(interactions(), np.arange(3), has_picture)
    assert {name: rows.tolist() for name, rows in found.items()} == {
        "item: head": [True, False, False],
        "item: middle": [False, True, False],
        "item: tail": [False, False, True],
        "history: short": [True, False, False],
        "history: medium": [False, True, False],
        "history: long": [False, False, True],
        "item with a picture": [True, False, True],
        "item without a picture": [False, True, False],
    }


def test_a_slice_of_nobody_is_left_out() -> None:
    assert list(slices_of(interactions(), np.array([0]))) == ["item: head", "history: short"]
