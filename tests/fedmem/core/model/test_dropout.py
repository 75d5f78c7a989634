"""Dropout: masks belong to the row; the rate and the expectation are as asked."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.func import vmap

from fedmem.core.model.dropout import NO_DROPOUT, Dropout
from fedmem.core.training.random_streams import Streams


def noise_of(rows: list[int], lengths: list[int], widths: list[int]) -> list[Tensor]:
    entropy = np.array(rows, np.uint32)[:, None]
    return Streams(entropy).noise(np.array(lengths), widths)


def dropout(rate: float, rows: list[int], lengths: list[int], widths: list[int]) -> Dropout:
    return Dropout(rate, noise_of(rows, lengths, widths))


def test_a_mask_does_not_depend_on_the_other_rows() -> None:
    alone, together = dropout(0.5, [7], [4], [3, 5]), dropout(0.5, [1, 7, 2], [6, 4, 2], [3, 5])
    for width in (3, 5):
        assert torch.equal(together(torch.ones(12, width))[6:10], alone(torch.ones(4, width)))


def test_bytes_below_the_rate_are_dropped() -> None:
    noise = torch.tensor([[[0, 63, 64, 255]]], dtype=torch.uint8)
    assert Dropout(0.25, [noise])(torch.full((1, 1, 4), 3.0)).tolist() == [[[0.0, 0.0, 4.0, 4.0]]]


def test_rows_and_calls_have_masks_of_their_own() -> None:
    drop = dropout(0.5, [1, 2], [50, 50], [4, 4])
    first, second = drop(torch.ones(100, 4)), drop(torch.ones(100, 4))
    assert not torch.equal(first[:50], first[50:])
    assert not torch.equal(first, second)


@pytest.mark.parametrize("rate", [0.1, 0.25, 0.5, 0.9])
def test_the_share_of_zeros_is_the_rate(rate: float) -> None:
    dropped = dropout(rate, [3], [1000], [100])(torch.ones(1, 1000, 100))
    # 100,000 elements: five standard deviations are below 0.008; rounding to 1/256 adds 0.002.
    assert float((dropped == 0).float().mean()) == pytest.approx(rate, abs=0.01)


def test_elements_that_stay_are_scaled_by_the_share_that_stays() -> None:
    dropped = dropout(0.25, [3], [50], [4])(torch.full((1, 50, 4), 3.0))
    assert dropped.unique().tolist() == [0.0, 4.0]


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.5])
def test_the_expectation_is_preserved(rate: float) -> None:
    dropped = dropout(rate, [3], [1000], [100])(torch.ones(1, 1000, 100))
    assert float(dropped.mean()) == pytest.approx(1.0, abs=0.02)


def test_gradients_pass_where_elements_stay_and_nowhere_else() -> None:
    x = torch.ones(1, 20, 4, requires_grad=True)
    dropped = dropout(0.5, [3], [20], [4])(x)
    dropped.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, dropped.detach())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_compiled_pass_and_the_plain_one_are_the_same(dtype: torch.dtype) -> None:
    x = torch.randn(6, 2, 9).to(dtype).transpose(0, 1).requires_grad_()
    noise = noise_of([1, 2], [6, 6], [9])[0].view(2, 6, 9)
    dropped = Dropout(0.25, [noise])(x)
    dropped.square().sum().backward()
    factors = (noise >= 64) * (256 / 192)
    assert torch.equal(dropped, x * factors)
    assert x.grad is not None
    assert torch.equal(x.grad, (2 * dropped * factors).to(dtype))


def test_members_of_a_stack_have_masks_of_their_own() -> None:
    x, noise = torch.randn(3, 2, 5, 4), torch.randint(256, (2, 3, 5, 4), dtype=torch.uint8)
    stacked = vmap(lambda x, noise: Dropout(0.5, [noise])(x), in_dims=(1, 0))(x, noise)
    one_by_one = [Dropout(0.5, [noise[k]])(x[:, k]) for k in range(2)]
    assert torch.equal(stacked, torch.stack(one_by_one))
    shared = vmap(lambda x: Dropout(0.5, [noise[0]])(x), in_dims=1)(x)
    assert torch.equal(shared[1], Dropout(0.5, [noise[0]])(x[:, 1]))


def test_no_dropout_gives_the_very_tensor_back() -> None:
    x = torch.randn(2, 3, 4)
    assert NO_DROPOUT(x) is x
    assert dropout(0.0, [1, 2], [3, 3], [4])(x) is x


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
def test_a_gpu_drops_the_same_to_the_bit() -> None:
    noise, x = noise_of([1, 2], [50, 9], [16]), torch.randn(59, 16)
    there = Dropout(0.3, [each.cuda() for each in noise])(x.cuda())
    assert torch.equal(there.cpu(), Dropout(0.3, noise)(x))
