"""What users changed, side by side, and their mean, against values computed by hand."""

from __future__ import annotations

import math

import numpy as np
import torch

from fedmem.core.updates.update import Update, UserUpdates, mean

SCOPE = {"w": torch.zeros(2), "b": torch.tensor(0.0)}


def updates(users: list[int], w: list[list[float]], weights: list[int]) -> UserUpdates:
    change = {"w": torch.tensor(w), "b": torch.tensor([float(user) for user in users])}
    losses = np.array([float(user) for user in users])
    return UserUpdates(np.array(users), change, np.array(weights), losses)


def test_the_mean_weighs_by_targets_over_all_groups() -> None:
    groups = [updates([1, 2], [[1.0, 0.0], [0.0, 4.0]], [2, 6]), updates([7], [[-2.0, 1.0]], [12])]
    found = mean(groups, SCOPE)
    torch.testing.assert_close(found.change["w"], torch.tensor([-22 / 20, 36 / 20]))
    torch.testing.assert_close(found.change["b"], torch.tensor((2 + 12 + 84) / 20))
    assert (found.weight, found.users, found.left_out) == (20, 3, 0)
    assert found.loss == (2 * 1 + 6 * 2 + 12 * 7) / 20


def test_the_mean_of_nobody_changes_nothing() -> None:
    found = mean([], SCOPE)
    assert (found.weight, found.users, found.loss) == (0, 0, 0.0)
    assert not any(value.any() for value in found.change.values())


def test_norms_go_over_all_parameters_of_a_user() -> None:
    found = updates([0, 12], [[3.0, 4.0], [3.0, 4.0]], [1, 1])
    assert found.norms.tolist() == [5.0, 13.0]
    assert Update({"w": torch.tensor([3.0, 4.0])}, 1, 0.0, 1).norm == 5.0
    assert math.isnan(Update({"w": torch.tensor([3.0, math.nan])}, 1, 0.0, 1).norm)


def test_users_can_be_taken_out() -> None:
    whole = updates([1, 2, 3], [[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]], [4, 5, 6])
    kept = whole.where(np.array([True, False, True]))
    assert kept.users.tolist() == [1, 3]
    assert kept.change["w"].tolist() == [[1.0, 1.0], [3.0, 3.0]]
    assert (kept.weights.tolist(), kept.losses.tolist()) == ([4, 6], [1.0, 3.0])
    assert whole.where(np.array([True] * 3)) is whole
