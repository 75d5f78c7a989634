"""Losses against values computed by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import tensor

from fedmem import losses


def test_cross_entropy_over_items_leaves_out_the_padding() -> None:
    # Scores of items 1 to 3: 1, 2 and 0. Row 0 would win with 100.
    item_emb = tensor([[100.0, 0.0], [1.0, 0.0], [2.0, 5.0], [0.0, 7.0]])
    hidden = tensor([[1.0, 0.0], [1.0, 0.0]])
    found = losses.cross_entropy_over_items(hidden, item_emb, tensor([1, 2]))
    total = math.log(math.exp(1) + math.exp(2) + math.exp(0))
    assert found.tolist() == pytest.approx([total - 1, total - 2])


def test_cross_entropy_over_items_is_one_value_a_sample() -> None:
    hidden, item_emb = torch.randn(5, 3), torch.randn(8, 3)
    targets = tensor([1, 7, 3, 3, 2])
    together = losses.cross_entropy_over_items(hidden, item_emb, targets)
    for row in range(5):
        alone = losses.cross_entropy_over_items(
            hidden[row : row + 1], item_emb, targets[row : row + 1]
        )
        assert float(together[row]) == pytest.approx(float(alone), rel=1e-5)


def test_cross_entropy_over_candidates_is_the_positives_share_of_the_softmax() -> None:
    positive = tensor([[[1.0], [0.0]]])
    negatives = tensor([[[0.0, 2.0], [0.0, 0.0]]])
    found = losses.cross_entropy_over_candidates(positive, negatives)
    first = -math.log(math.exp(1) / (math.exp(1) + math.exp(0) + math.exp(2)))
    assert found.shape == (1, 2)
    assert found.flatten().tolist() == pytest.approx([first, math.log(3)])


def test_cross_entropy_over_candidates_stands_large_scores() -> None:
    found = losses.cross_entropy_over_candidates(tensor([[1000.0]]), tensor([[999.0]]))
    assert found.tolist() == pytest.approx([math.log(1 + math.exp(-1))], abs=1e-4)


def test_misalignment_is_one_minus_the_softened_cosine() -> None:
    content = tensor([[3.0, 4.0], [3.0, 4.0], [0.0, 2.0]])
    item_emb = tensor([[3.0, 4.0], [-3.0, -4.0], [5.0, 0.0]])
    found = losses.misalignment(content, item_emb)
    cosine = 25 / (math.sqrt(25 + losses.ALIGNMENT_SOFTNESS) * 5)
    assert cosine == pytest.approx(1.0, abs=1e-3)
    assert found.tolist() == pytest.approx([1 - cosine, 1 + cosine, 1.0], abs=1e-6)


def test_misalignment_of_nothing_is_1_and_has_a_finite_gradient() -> None:
    content = torch.zeros(2, 3, requires_grad=True)
    item_emb = tensor([[1.0, 2.0, 2.0], [0.0, 0.0, 0.0]])
    found = losses.misalignment(content, item_emb)
    found.sum().backward()
    assert found.tolist() == [1.0, 1.0]
    assert content.grad is not None
    # −e / (|e| √softness), with |e| = 3 and √0.01 = 0.1
    assert content.grad[0].tolist() == pytest.approx([-10 / 3, -20 / 3, -20 / 3])
    assert content.grad[1].isfinite().all()


def test_imbalance_is_the_squared_distance_from_even_use() -> None:
    usage = tensor([[0.5, 0.5], [1.0, 0.0], [0.75, 0.25]])
    assert losses.imbalance(usage).tolist() == pytest.approx([0.0, 0.5, 0.125])


def test_imbalance_of_three_experts() -> None:
    found = losses.imbalance(tensor([1.0, 0.0, 0.0]))
    assert float(found) == pytest.approx((2 / 3) ** 2 + 2 * (1 / 3) ** 2)
