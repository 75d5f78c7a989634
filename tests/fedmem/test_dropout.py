"""Dropout: masks belong to the row; the rate and the expectation are as asked."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fedmem.dropout import NO_DROPOUT, Dropout


def dropout(rate: float, rows: list[int], lengths: list[int]) -> Dropout:
    return Dropout(rate, [np.random.default_rng(row) for row in rows], lengths)


def test_a_mask_does_not_depend_on_the_other_rows() -> None:
    alone = dropout(0.5, [7], [4])(torch.ones(1, 4, 3))
    together = dropout(0.5, [1, 7, 2], [6, 4, 2])(torch.ones(3, 6, 3))
    assert torch.equal(together[1, :4], alone[0])


def test_a_mask_does_not_depend_on_the_padding_in_later_calls_either() -> None:
    short, wide = dropout(0.5, [7], [4]), dropout(0.5, [7], [4])
    for _ in range(3):
        assert torch.equal(wide(torch.ones(1, 9, 5))[:, :4], short(torch.ones(1, 4, 5)))


def test_rows_and_calls_have_masks_of_their_own() -> None:
    drop = dropout(0.5, [1, 2], [50, 50])
    first, second = drop(torch.ones(2, 50, 4)), drop(torch.ones(2, 50, 4))
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first, second)


@pytest.mark.parametrize("rate", [0.1, 0.25, 0.5, 0.9])
def test_the_share_of_zeros_is_the_rate(rate: float) -> None:
    dropped = dropout(rate, [3], [1000])(torch.ones(1, 1000, 100))
    # 100,000 elements: five standard deviations are below 0.008; rounding to 1/256 adds 0.002.
    assert float((dropped == 0).float().mean()) == pytest.approx(rate, abs=0.01)


def test_elements_that_stay_are_scaled_by_the_share_that_stays() -> None:
    dropped = dropout(0.25, [3], [50])(torch.full((1, 50, 4), 3.0))
    assert dropped.unique().tolist() == [0.0, 4.0]


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.5])
def test_the_expectation_is_preserved(rate: float) -> None:
    dropped = dropout(rate, [3], [1000])(torch.ones(1, 1000, 100))
    assert float(dropped.mean()) == pytest.approx(1.0, abs=0.02)


def test_gradients_pass_where_elements_stay_and_nowhere_else() -> None:
    x = torch.ones(1, 20, 4, requires_grad=True)
    dropped = dropout(0.5, [3], [20])(x)
    dropped.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, dropped.detach())


def test_no_dropout_gives_the_very_tensor_back() -> None:
    x = torch.randn(2, 3, 4)
    assert NO_DROPOUT(x) is x
    assert dropout(0.0, [1, 2], [3, 3])(x) is x
