"""Sampled candidates: the loss that they estimate, the rows that they change, and no others."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from fedmem.core.settings import Settings
from fedmem.core.stages import PRETRAIN_SASREC
from fedmem.core.training.batches import RoundKey
from fedmem.core.training.losses import (
    summed_cross_entropy_over_drawn,
    summed_cross_entropy_over_items,
)
from fedmem.core.training.touched_items import TABLE
from fedmem.core.updates.cohort import train_cohort
from fedmem.core.updates.update import Update
from tests.helpers.small_world import NUM_ITEMS, ready_node

MakeSettings = Callable[..., Settings]
KEY = RoundKey(0, PRETRAIN_SASREC.name, 3)
ASKED = ("stage=pretrain_sasrec", "client.candidates=6", "model.dropout=0.2")


def trained(settings: Settings, users: list[int]) -> Update:
    node = ready_node(settings, PRETRAIN_SASREC)
    return train_cohort(node.trainer(PRETRAIN_SASREC), np.array(users), KEY)


def test_candidates_are_drawn_for_a_round_each_once() -> None:
    drawn = KEY.candidates(1000, 50)
    assert len(set(drawn.tolist())) == 50
    assert 1 <= drawn.min() < drawn.max() <= 1000
    assert (np.diff(drawn) > 0).all()
    assert np.array_equal(KEY.candidates(1000, 50), drawn)
    assert not np.array_equal(RoundKey(0, PRETRAIN_SASREC.name, 4).candidates(1000, 50), drawn)
    assert np.array_equal(KEY.candidates(7, 50), np.arange(1, 8))


def test_where_all_items_are_drawn_it_is_the_loss_over_all() -> None:
    torch.manual_seed(0)
    table = torch.randn(12, 4)
    hidden, targets = torch.randn(2, 3, 4), torch.tensor([[1, 5, 0], [11, 0, 0]])
    drawn = summed_cross_entropy_over_drawn(hidden, table, targets, torch.arange(1, 12), 11)
    torch.testing.assert_close(drawn, summed_cross_entropy_over_items(hidden, table, targets))


def test_the_softmax_denominator_is_estimated_without_bias() -> None:
    torch.manual_seed(0)
    table = 0.3 * torch.randn(41, 4)
    hidden, target = torch.randn(1, 4), torch.tensor([7])
    odds = (hidden @ table[1:].T).exp()[0]
    found = []
    for number in range(1, 3000):
        drawn = torch.from_numpy(RoundKey(0, "s", number).candidates(40, 5)).long()
        loss = summed_cross_entropy_over_drawn(hidden, table, target, drawn, 40)
        found.append(float(loss.exp() * odds[6]))
    assert np.mean(found) == pytest.approx(float(odds.sum()), rel=0.01)


def test_all_items_as_candidates_change_what_the_loss_over_all_does(
    make_settings: MakeSettings,
) -> None:
    every = trained(
        make_settings("stage=pretrain_sasrec", f"client.candidates={NUM_ITEMS}"), [1, 2]
    )
    whole = trained(make_settings("stage=pretrain_sasrec"), [1, 2])
    assert every.loss == pytest.approx(whole.loss, rel=1e-5)
    for name, value in whole.change.items():
        torch.testing.assert_close(every.change[name], value, atol=1e-6, rtol=1e-4)


def test_rows_of_candidates_and_histories_change_and_no_others(
    make_settings: MakeSettings,
) -> None:
    settings = make_settings(*ASKED)
    change = trained(settings, [4]).change[TABLE]
    node = ready_node(settings, PRETRAIN_SASREC)
    rows = np.flatnonzero(node.windows.user == 4)
    read = {*node.windows.inputs(rows).ravel(), *node.windows.targets(rows).ravel()}
    touched = read | set(KEY.candidates(NUM_ITEMS, 6).tolist())
    assert set(change.any(1).nonzero().squeeze(1).tolist()) == touched - {0}


@pytest.mark.parametrize("execution", ["loop", "stacked", "batched"])
def test_a_cohort_is_its_users(execution: str, make_settings: MakeSettings) -> None:
    settings = make_settings(*ASKED, f"client.execution={execution}")
    users = [0, 3, 5, 8]
    each = [trained(settings, [user]) for user in users]
    together = trained(settings, users)
    total = sum(update.weight for update in each)
    assert together.weight == total
    for name, value in together.change.items():
        mean = sum(update.weight * update.change[name] for update in each) / total
        torch.testing.assert_close(value, mean, atol=1e-5, rtol=1e-4)
