"""Losses against values computed by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, tensor
from torch.nn import functional as F

from fedmem.core.training import losses


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


def test_cross_entropy_over_items_wants_no_gradient() -> None:
    hidden, item_emb = torch.randn(2, 3, requires_grad=True), torch.randn(8, 3, requires_grad=True)
    assert not losses.cross_entropy_over_items(hidden, item_emb, tensor([1, 7])).requires_grad


SHAPE, ITEMS, DIM = (3, 4), 9, 5
TARGETS = tensor([[1, 9, 4, 4], [2, 0, 0, 0], [9, 3, 0, 0]])


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.double) -> Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def plain_sum(hidden: Tensor, item_emb: Tensor, targets: Tensor) -> Tensor:
    scores = hidden[targets > 0] @ item_emb[1:].T
    return F.cross_entropy(scores, targets[targets > 0] - 1, reduction="sum")


@pytest.fixture(params=[1, 2 * ITEMS, 1 << 20], ids=["alone", "in twos", "at once"])
def _in_chunks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(losses.SCORES_AT_ONCE, "cpu", request.param)
    monkeypatch.setattr(losses, "SAMPLES_AT_LEAST", 1)


@pytest.mark.usefixtures("_in_chunks")
@pytest.mark.parametrize("dtype", [torch.double, torch.float])
@pytest.mark.parametrize("slope", [1.0, -2.5])
def test_the_summed_cross_entropy_and_its_gradients_are_those_of_the_formula(
    dtype: torch.dtype, slope: float
) -> None:
    inputs = [draw(*SHAPE, DIM, dtype=dtype), draw(ITEMS + 1, DIM, seed=1, dtype=dtype) * 3]
    hidden, item_emb = (x.requires_grad_() for x in inputs)
    found = losses.summed_cross_entropy_over_items(hidden, item_emb, TARGETS)
    expected = plain_sum(hidden, item_emb, TARGETS)
    torch.testing.assert_close(found, expected)
    (of_found, of_expected) = (
        torch.autograd.grad(slope * loss, [hidden, item_emb]) for loss in (found, expected)
    )
    torch.testing.assert_close(of_found, of_expected, rtol=1e-5, atol=1e-5)
    assert not of_found[0][TARGETS == 0].any()
    assert not of_found[1][0].any()
    places = TARGETS.flatten().nonzero().squeeze(1)
    assert losses.summed_cross_entropy_over_items(hidden, item_emb, TARGETS, places) == found


def test_the_summed_cross_entropy_with_frozen_items() -> None:
    hidden, item_emb = draw(*SHAPE, DIM).requires_grad_(), draw(ITEMS + 1, DIM, seed=1)
    (found,) = torch.autograd.grad(
        losses.summed_cross_entropy_over_items(hidden, item_emb, TARGETS), hidden
    )
    (expected,) = torch.autograd.grad(plain_sum(hidden, item_emb, TARGETS), hidden)
    torch.testing.assert_close(found, expected)
    assert item_emb.grad is None


def test_the_summed_cross_entropy_of_no_targets_is_0() -> None:
    hidden, item_emb = draw(2, 3, DIM).requires_grad_(), draw(ITEMS + 1, DIM).requires_grad_()
    none = torch.zeros(2, 3, dtype=torch.long)
    loss = losses.summed_cross_entropy_over_items(hidden, item_emb, none)
    loss.backward()
    assert float(loss.detach()) == 0
    for gradient in (hidden.grad, item_emb.grad):
        assert gradient is not None
        assert not gradient.any()


def test_the_summed_cross_entropy_stands_large_scores() -> None:
    hidden = tensor([[1000.0, 0.0]], requires_grad=True)
    item_emb = tensor([[0.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])
    loss = losses.summed_cross_entropy_over_items(hidden, item_emb, tensor([2]))
    loss.backward()
    assert float(loss.detach()) == 2000
    assert hidden.grad is not None
    assert hidden.grad.tolist() == [[2.0, 0.0]]


@pytest.mark.parametrize("shared_items", [True, False])
def test_the_summed_cross_entropy_of_a_stack_is_that_of_its_members(shared_items: bool) -> None:
    """As in `train_stacked`: vmap inside, ordinary gradients outside."""
    hidden = draw(2, *SHAPE, DIM).requires_grad_()
    item_emb = draw(*[] if shared_items else [2], ITEMS + 1, DIM, seed=1).requires_grad_()
    targets = torch.stack([TARGETS, TARGETS.flip(0)])
    dims = (0, None if shared_items else 0, 0)
    found = torch.vmap(losses.summed_cross_entropy_over_items, dims)(hidden, item_emb, targets)
    expected = torch.stack(
        [
            plain_sum(hidden[i], item_emb if shared_items else item_emb[i], targets[i])
            for i in range(2)
        ]
    )
    torch.testing.assert_close(found, expected)
    slope = tensor([1.0, -0.5], dtype=torch.double)
    torch.testing.assert_close(
        torch.autograd.grad(found, [hidden, item_emb], slope),
        torch.autograd.grad(expected, [hidden, item_emb], slope),
    )


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


@pytest.mark.parametrize("size", [1.0, 1000.0])
def test_gradients_of_cross_entropy_over_candidates_are_those_of_torch(size: float) -> None:
    torch.manual_seed(0)
    scores = [size * torch.randn(3, 4, count, dtype=torch.double) for count in (1, 9)]
    for score in scores:
        score.requires_grad_()
    found = losses.cross_entropy_over_candidates(*scores)
    everything = torch.cat(scores, dim=2).flatten(0, 1)
    expected = F.cross_entropy(
        everything, torch.zeros(12, dtype=torch.long), reduction="none"
    ).view(3, 4)
    torch.testing.assert_close(found, expected)
    slopes = torch.randn_like(found)
    for one, other in zip(
        torch.autograd.grad(found, scores, slopes),
        torch.autograd.grad(expected, scores, slopes),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def misalignment(content: Tensor, item_emb: Tensor) -> Tensor:
    products = ((a * b).sum(-1) for a, b in ((content,) * 2, (content, item_emb), (item_emb,) * 2))
    return losses.misalignment(*products)


def test_misalignment_is_one_minus_the_softened_cosine() -> None:
    content = tensor([[3.0, 4.0], [3.0, 4.0], [0.0, 2.0]])
    item_emb = tensor([[3.0, 4.0], [-3.0, -4.0], [5.0, 0.0]])
    found = misalignment(content, item_emb)
    cosine = 25 / (math.sqrt(25 + losses.ALIGNMENT_SOFTNESS) * 5)
    assert cosine == pytest.approx(1.0, abs=1e-3)
    assert found.tolist() == pytest.approx([1 - cosine, 1 + cosine, 1.0], abs=1e-6)


def test_misalignment_of_nothing_is_1_and_has_a_finite_gradient() -> None:
    content = torch.zeros(2, 3, requires_grad=True)
    item_emb = tensor([[1.0, 2.0, 2.0], [0.0, 0.0, 0.0]])
    found = misalignment(content, item_emb)
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


def test_misalignment_of_an_item_that_is_nothing_has_a_finite_gradient() -> None:
    z, e = torch.ones(3, requires_grad=True), torch.zeros(3, requires_grad=True)
    losses.misalignment(z @ z, z @ e, e @ e).backward()  # type: ignore[no-untyped-call]
    assert z.grad is not None
    assert e.grad is not None
    assert z.grad.isfinite().all()
    assert e.grad.isfinite().all()
