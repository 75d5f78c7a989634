"""Training windows, by hand and for every user of the tiny federation."""

from __future__ import annotations

import numpy as np
import pytest

from fedmem.core.data import Interactions, Windows, load_interactions
from fedmem.core.settings import Settings


def interactions_of(*histories: list[int]) -> Interactions:
    largest = max(max(history) for history in histories)
    return Interactions(
        offsets=np.cumsum([0, *map(len, histories)]),
        items=np.concatenate(histories).astype(np.int32),
        item_ids=np.arange(largest + 1),
        user_ids=np.arange(len(histories)),
    )


def cut(history: list[int], windows: int, length: int) -> Windows:
    return Windows.cut(interactions_of(history), np.array([0]), windows, length)


def all_inputs(windows: Windows) -> list[list[int]]:
    return windows.inputs(np.arange(len(windows))).tolist()


def all_targets(windows: Windows) -> list[list[int]]:
    return windows.targets(np.arange(len(windows))).tolist()


def test_windows_end_before_the_held_out_items_and_follow_each_other() -> None:
    # Training items are 1 to 8; 9 is for validation and 10 for test.
    found = cut([1, 2, 3, 4, 5, 6, 7, 8, 9, 10], windows=3, length=3)
    assert all_inputs(found) == [[5, 6, 7], [2, 3, 4], [1, 0, 0]]
    assert all_targets(found) == [[6, 7, 8], [3, 4, 5], [2, 0, 0]]
    assert found.start.tolist() == [5, 2, 1]
    assert found.number.tolist() == [0, 1, 2]
    assert found.lengths.tolist() == [3, 3, 1]
    assert found.offsets.tolist() == [0, 3, 6, 7]
    assert len(found) == 3


def test_only_the_latest_windows_are_cut() -> None:
    found = cut([1, 2, 3, 4, 5, 6, 7, 8, 9, 10], windows=1, length=3)
    assert all_targets(found) == [[6, 7, 8]]


def test_a_history_shorter_than_a_window_is_one_short_window() -> None:
    found = cut([1, 2, 3, 4, 5], windows=2, length=4)
    assert all_inputs(found) == [[1, 2]]
    assert all_targets(found) == [[2, 3]]


def test_training_items_that_fill_whole_windows_leave_no_empty_one() -> None:
    found = cut([1, 2, 3, 4, 5, 6, 7], windows=9, length=2)
    assert all_targets(found) == [[4, 5], [2, 3]]


@pytest.mark.parametrize("history", [[1, 2, 3], [1, 2]])
def test_a_user_without_two_training_items_has_no_window(history: list[int]) -> None:
    found = cut(history, windows=2, length=4)
    assert len(found) == 0
    assert found.inputs(np.arange(0)).shape == (0, 0)
    assert found.lengths.tolist() == []
    assert found.offsets.tolist() == [0]


def test_users_keep_their_order_and_their_rows() -> None:
    found = Windows.cut(
        interactions_of([1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 6], [1, 2, 3]), np.array([1, 2, 0]), 2, 2
    )
    assert found.user.tolist() == [1, 1, 0]
    assert all_targets(found) == [[3, 2], [4, 0], [2, 3]]


@pytest.mark.parametrize(("windows", "length"), [(1, 8), (2, 3), (50, 1), (50, 4)])
def test_targets_are_training_items_each_at_most_once(
    settings: Settings, windows: int, length: int
) -> None:
    interactions = load_interactions(settings.data)
    found = Windows.cut(interactions, np.arange(interactions.num_users), windows, length)
    for user in range(interactions.num_users):
        positions = [
            int(found.start[row]) + k
            for row in np.flatnonzero(found.user == user)
            for k in range(found.lengths[row])
        ]
        held_out = len(interactions.history(user)) - 2
        first = max(1, held_out - windows * length)  # position 0 has nothing before it
        assert sorted(positions) == list(range(first, held_out))


def test_start_is_the_position_of_the_first_target(settings: Settings) -> None:
    interactions = load_interactions(settings.data)
    found = Windows.cut(interactions, np.arange(interactions.num_users), 3, 4)
    for row, (user, start, n) in enumerate(
        zip(found.user, found.start, found.lengths, strict=True)
    ):
        history = interactions.history(int(user))
        rows = np.array([row])
        assert found.targets(rows).tolist() == [history[start : start + n].tolist()]
        assert found.inputs(rows).tolist() == [history[start - 1 : start + n - 1].tolist()]


def test_rows_are_padded_on_the_right_to_the_longest_of_them() -> None:
    found = Windows.cut(
        interactions_of([1, 2, 3, 4, 5, 6, 7, 8], [5, 6, 7, 8]), np.array([0, 1]), 2, 4
    )
    assert found.lengths.tolist() == [4, 1, 1]
    assert found.targets(np.array([2])).tolist() == [[6]]
    assert found.targets(np.array([2, 1])).tolist() == [[6], [2]]
    # Four steps from the last window's start lead beyond the end of all histories.
    assert found.targets(np.array([2, 0])).tolist() == [[6, 0, 0, 0], [3, 4, 5, 6]]
    assert found.inputs(np.array([2, 0, 2])).tolist() == [
        [5, 0, 0, 0],
        [2, 3, 4, 5],
        [5, 0, 0, 0],
    ]
