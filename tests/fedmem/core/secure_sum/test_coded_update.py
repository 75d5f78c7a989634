"""Updates as integers: the mean of a few by hand, and what the common scale makes of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from fedmem.core.errors import FedmemError
from fedmem.core.secure_sum.coded_update import decode_update, encode_update, length
from fedmem.core.secure_sum.scale import HEADROOM, CommonScale
from fedmem.core.updates.update import Update

UPDATES = (
    Update({"b": torch.tensor(0.5), "a.w": torch.tensor([[1.0, -2.0]])}, 2, 3.0, users=1),
    Update({"b": torch.tensor(-1.0), "a.w": torch.tensor([[0.0, 4.0]])}, 6, 1.0, users=3),
    Update({"b": torch.tensor(0.0), "a.w": torch.tensor([[0.0, 0.0]])}, 0, 0.0, 0, left_out=2),
)
SHAPES = {"b": (), "a.w": (1, 2)}


def summed(bits: int, levels: float) -> tuple[Update, int]:
    generator = np.random.default_rng(0)
    coded = [encode_update(update, levels, bits, 3, generator) for update in UPDATES]
    assert {len(each) for each in coded} == {length(SHAPES, bits)}
    total = coded[0] + coded[1] + coded[2]
    return decode_update(total, levels, SHAPES)


@pytest.mark.parametrize(("bits", "levels"), [(16, 256.0), (32, 2.0**20)])
def test_a_sum_comes_back_as_the_weighted_mean(bits: int, levels: float) -> None:
    update, cut = summed(bits, levels)
    # These are whole at both scales: (2 · .5 − 6) / 8, (2 · 1) / 8, (6 · 4 − 2 · 2) / 8.
    assert float(update.change["b"]) == -0.625
    assert update.change["a.w"].tolist() == [[0.25, 2.5]]
    assert (update.weight, update.users, update.left_out, cut) == (8, 4, 2, 0)
    assert update.loss == (2 * 3 + 6 * 1) / 8


def test_without_targets_the_mean_change_is_zero() -> None:
    coded = encode_update(UPDATES[2], 256.0, 16, 3, np.random.default_rng(0))
    update, _ = decode_update(coded, 256.0, SHAPES)
    assert update.weight == 0
    assert not any(change.any() for change in update.change.values())


def test_what_is_cut_is_counted() -> None:
    update, cut = summed(16, 1000.0)
    assert cut == 1  # 24 · 1000 is beyond 32767 / 3
    assert float(update.change["a.w"][0, 1]) < 2.5


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_is_not_sent(loss: float) -> None:
    with pytest.raises(FedmemError, match="The loss is not finite; nothing was sent"):
        encode_update(replace(UPDATES[0], loss=loss), 1.0, 32, 3, np.random.default_rng(0))


@pytest.mark.parametrize("bits", [16, 32])
def test_the_scale_sends_whole_what_has_the_room_that_it_should(bits: int) -> None:
    scale = CommonScale(targets=100.0, change=0.01)
    levels = scale.levels(bits, parties=3, users=4)
    change = {"w": torch.tensor([0.99, -0.99, 1.01]) * 0.01 * HEADROOM[bits]}
    update = Update(change, weight=400, loss=1.0, users=4)
    coded = encode_update(update, levels, bits, 3, np.random.default_rng(0))
    back, cut = decode_update(coded, levels, {"w": (3,)})
    assert cut == 1
    assert torch.allclose(back.change["w"][:2], change["w"][:2], atol=2 / levels / 400)
    limit = scale.levels(bits, parties=3, users=4, limit=0.5)
    assert limit == pytest.approx(levels * 0.01 * HEADROOM[bits] / 0.5)
