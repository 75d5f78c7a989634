"""The backbone is causal, and padding on the right is never seen."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from fedmem.core.model.backbone import Block, SASRec
from fedmem.core.model.dropout import NO_DROPOUT, Dropout
from fedmem.core.model.packing import Packing
from fedmem.core.training.losses import summed_cross_entropy_over_items
from fedmem.runs.configuration import compose_settings
from tests.helpers.small_world import SMALL

MODEL = compose_settings(SMALL).model
ROWS = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6], [2, 7, 1, 8, 2, 8, 1, 8]])


@pytest.fixture
def sasrec() -> SASRec:
    """Random weights, large enough that every one of them matters."""
    torch.manual_seed(0)
    model = SASRec(MODEL, 20)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
        model.item_emb.weight[0].zero_()
    return model


def hidden(model: SASRec, rows: Tensor) -> Tensor:
    with torch.no_grad():
        return model(rows, NO_DROPOUT)  # type: ignore[no-any-return]


@pytest.mark.parametrize("changed", range(1, 8))
def test_a_changed_item_leaves_all_earlier_states_bit_identical(
    sasrec: SASRec, changed: int
) -> None:
    other = ROWS.clone()
    other[:, changed] = 13
    before, after = hidden(sasrec, ROWS), hidden(sasrec, other)
    assert torch.equal(before[:, :changed], after[:, :changed])
    assert not torch.isclose(before[:, changed:], after[:, changed:]).all(-1).any()


def test_padding_on_the_right_leaves_the_states_before_it_bit_identical(sasrec: SASRec) -> None:
    padded = ROWS.clone()
    padded[:, 5:] = 0
    assert torch.equal(hidden(sasrec, ROWS)[:, :5], hidden(sasrec, padded)[:, :5])


@pytest.mark.parametrize("length", [1, 3, 5])
def test_a_padded_row_has_the_states_of_the_row_alone(sasrec: SASRec, length: int) -> None:
    padded = ROWS.clone()
    padded[:, length:] = 0
    alone = hidden(sasrec, ROWS[:, :length])
    assert torch.allclose(hidden(sasrec, padded)[:, :length], alone, atol=1e-6)


@pytest.mark.parametrize("lengths", [[8, 5], [8, 8, 3, 3, 1], [4], [2, 6, 2]])
def test_packed_rows_have_the_states_and_gradients_of_padded_ones(
    sasrec: SASRec, lengths: list[int]
) -> None:
    real = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    rows = torch.randint(1, 21, real.shape) * real
    packing = Packing(lengths, real.flatten().nonzero().squeeze(1))
    noise = [
        torch.randint(256, (len(packing.places), width), dtype=torch.uint8)
        for width in sasrec.dropout_widths
    ]
    weights = torch.randn(*rows.shape, MODEL.dim) * real[:, :, None]
    found = []
    for own, given in ((packing, noise), (None, [packing.spread(each) for each in noise])):
        states = sasrec(rows, Dropout(0.3, given), own)
        sasrec.zero_grad()
        (states * weights).sum().backward()
        gradients = [p.grad for p in sasrec.parameters() if p.grad is not None]
        found.append([states[real], *gradients])
    assert len(found[0]) == len(found[1]) == 1 + len(list(sasrec.parameters()))
    for packed, padded in zip(*found, strict=True):
        assert torch.allclose(packed, padded, rtol=1e-4, atol=1e-5)
    assert not sasrec(rows, Dropout(0.3, noise), packing)[~real].any()


@pytest.mark.parametrize("ends", [[7, 7], [0, 4], [6, 2]])
def test_at_one_position_of_each_row_it_is_the_state_there(sasrec: SASRec, ends: list[int]) -> None:
    padded = ROWS * (torch.arange(8) <= torch.tensor(ends)[:, None])
    with torch.no_grad():
        found = sasrec.at(padded, torch.tensor(ends))
    torch.testing.assert_close(found, hidden(sasrec, ROWS)[torch.arange(2), ends])


def test_a_row_does_not_depend_on_the_other_rows(sasrec: SASRec) -> None:
    together = hidden(sasrec, ROWS)
    assert torch.allclose(together[1:], hidden(sasrec, ROWS[1:]), atol=1e-6)


def test_the_order_of_the_past_matters(sasrec: SASRec) -> None:
    swapped = ROWS[:, [1, 0, *range(2, 8)]]
    assert not torch.allclose(hidden(sasrec, ROWS)[:, -1], hidden(sasrec, swapped)[:, -1])


def test_the_row_of_the_padding_starts_at_zero_and_gets_no_gradient() -> None:
    model = SASRec(MODEL, 20)
    assert not model.item_emb.weight[0].any()
    states = model(torch.tensor([[3, 1, 0, 0]]), NO_DROPOUT)
    targets = torch.tensor([[1, 2, 3, 4]])
    summed_cross_entropy_over_items(states, model.item_emb.weight, targets).backward()
    assert model.item_emb.weight.grad is not None
    assert not model.item_emb.weight.grad[0].any()
    assert model.item_emb.weight.grad[1:].any(1).all()


def test_a_block_is_pre_norm_attention_and_feedforward_with_residuals() -> None:
    torch.manual_seed(0)
    block = Block(MODEL).double()
    x = torch.randn(1, 5, MODEL.dim, dtype=torch.double)
    q, k, v = block.qkv(block.attention_norm(x))[0].chunk(3, dim=-1)
    mixed = torch.zeros(5, MODEL.dim, dtype=torch.double)
    size = MODEL.dim // MODEL.heads
    for head in range(MODEL.heads):
        part = slice(head * size, (head + 1) * size)
        for t in range(5):
            logits = k[: t + 1, part] @ q[t, part] / size**0.5
            mixed[t, part] = torch.softmax(logits, 0) @ v[: t + 1, part]
    y = x[0] + block.out(mixed)
    expected = y + block.contract(F.relu(block.expand(block.feedforward_norm(y))))
    assert torch.allclose(block(x, NO_DROPOUT)[0], expected, atol=1e-12)


def test_the_last_layer_is_a_normalisation(sasrec: SASRec) -> None:
    with torch.no_grad():
        sasrec.norm.weight.fill_(1.0)
        sasrec.norm.bias.zero_()
    states = hidden(sasrec, ROWS)
    assert torch.allclose(states.mean(-1), torch.zeros(2, 8), atol=1e-5)
    assert torch.allclose(states.var(-1, unbiased=False), torch.ones(2, 8), atol=1e-2)


def test_dropout_is_asked_for_the_widths_that_are_announced(sasrec: SASRec) -> None:
    widths = []

    def note(x: Tensor) -> Tensor:
        widths.append(x.shape[2])
        return x

    sasrec(ROWS, note)  # type: ignore[arg-type]
    assert widths == sasrec.dropout_widths
