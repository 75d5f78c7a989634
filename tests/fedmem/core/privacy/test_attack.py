"""The attack's scores and figures, by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import norm

from fedmem.core.privacy.attack import (
    auc,
    best_auc,
    matched,
    precision,
    row_lengths,
    template_of,
)

CHANGE = torch.tensor([[9.0, 9.0], [3.0, 4.0], [0.0, 1.0], [0.0, 0.0], [-6.0, 8.0]])


def test_rows_are_scored_without_the_padding() -> None:
    assert row_lengths(CHANGE).tolist() == [5.0, 1.0, 0.0, 10.0]
    assert matched(CHANGE, torch.tensor([1.0, 0.0])).tolist() == [3.0, 0.0, 0.0, -6.0]


def test_the_template_is_the_mean_direction_of_known_items() -> None:
    found = template_of([CHANGE, CHANGE], [np.array([1, 1]), np.array([2])])
    torch.testing.assert_close(found, torch.tensor([3.0, 5.0]) / 34**0.5)


@pytest.mark.parametrize(
    ("scores", "members", "expected"),
    [
        ([4.0, 3.0, 2.0, 1.0], [1, 2], 1.0),
        ([1.0, 2.0, 3.0, 4.0], [1, 2], 0.0),
        ([4.0, 1.0, 2.0, 3.0], [1, 2], 0.5),
        ([1.0, 1.0, 1.0, 1.0], [3], 0.5),  # a tie is a guess
        ([4.0, 3.0, 2.0, 1.0], [1, 1, 3], 0.75),  # an item counts once
    ],
)
def test_auc_is_the_share_of_pairs_in_order(
    scores: list[float], members: list[int], expected: float
) -> None:
    assert auc(np.array(scores), np.array(members)) == expected


def test_precision_is_of_as_many_items_as_there_are_members() -> None:
    assert precision(np.array([4.0, 3.0, 2.0, 1.0]), np.array([1, 3])) == 0.5


def test_the_best_attack_sees_a_row_through_the_noise_of_all_rounds() -> None:
    found = best_auc(CHANGE, np.array([1, 4]), noise=20.0, times=4.0)
    assert found == pytest.approx(np.mean(norm.cdf(np.array([0.5, 1.0]) / np.sqrt(2))))
