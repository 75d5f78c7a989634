"""Local training: what is drawn, and what must not matter to the result."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from fedmem.node import Node
from fedmem.settings import Settings
from fedmem.stages import STAGES, Stage
from fedmem.training import RoundKey, Update, mean_update

MakeSettings = Callable[..., Settings]
USERS = np.arange(24)


def make_node(settings: Settings, stage: Stage) -> Node:
    node = Node(settings)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in node.model(stage).parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    if stage.memory:
        node.open_bank(0.8)
        node.ingest(stage, "validation")
    return node


@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
def test_the_size_of_micro_batches_does_not_matter(
    stage: Stage, make_settings: MakeSettings
) -> None:
    key = RoundKey(0, stage.name, 1)
    updates = [
        make_node(make_settings(f"client.micro_batch={size}"), stage)
        .trainer(stage)
        .train_cohort(USERS, key)
        for size in (1, 24, 10_000)
    ]
    for other in updates[1:]:
        assert other.weight == updates[0].weight
        assert other.loss == pytest.approx(updates[0].loss, rel=1e-5)
        for name, value in updates[0].change.items():
            torch.testing.assert_close(other.change[name], value, rtol=0, atol=1e-6)


def test_negatives_leave_out_the_training_items_and_nothing_else(settings: Settings) -> None:
    """Leaving out held-out items as well would tell, in the long run, which they are."""
    node = make_node(settings, STAGES["align_projectors"])
    trainer = node.trainer(STAGES["align_projectors"])
    interactions = node.interactions
    users = np.zeros(4000, dtype=np.int32)
    generators = [np.random.default_rng(i) for i in range(len(users))]
    drawn = trainer._sample_negatives(users, generators)
    counts = np.bincount(drawn.ravel(), minlength=interactions.num_items + 1)
    assert counts[0] == 0
    assert not counts[interactions.training(0)].any()
    open_items = np.setdiff1d(np.arange(1, interactions.num_items + 1), interactions.training(0))
    expected = drawn.size / len(open_items)
    held_out = interactions.history(0)[-2:]
    assert counts[held_out] == pytest.approx(expected, rel=0.2)
    assert counts[open_items] == pytest.approx(expected, rel=0.25)


def test_generators_differ_by_everything_that_names_a_window() -> None:
    key = RoundKey(0, "pretrain_sasrec", 1)
    others = [RoundKey(1, "pretrain_sasrec", 1), RoundKey(0, "finetune_moe", 1)]
    others.append(RoundKey(0, "pretrain_sasrec", 2))
    draws = [key.generator(3, 0, 0).bytes(8), key.generator(4, 0, 0).bytes(8)]
    draws += [key.generator(3, 1, 0).bytes(8), key.generator(3, 0, 1).bytes(8)]
    draws += [other.generator(3, 0, 0).bytes(8) for other in others]
    assert len(set(draws)) == len(draws)
    assert key.generator(3, 0, 0).bytes(8) == draws[0]


def test_updates_are_averaged_by_targets() -> None:
    one = Update({"w": torch.tensor([1.0, 0.0])}, weight=1, loss=2.0, users=1)
    two = Update({"w": torch.tensor([0.0, 4.0])}, weight=3, loss=6.0, users=2)
    mean = mean_update([one, two])
    assert mean.change["w"].tolist() == [0.25, 3.0]
    assert (mean.weight, mean.loss, mean.users) == (4, 5.0, 3)


def test_the_loss_falls_when_the_step_is_taken(settings: Settings) -> None:
    stage = STAGES["pretrain_sasrec"]
    node = make_node(settings, stage)
    trainer = node.trainer(stage)
    losses = []
    for _ in range(20):
        update = trainer.train_cohort(USERS, RoundKey(0, stage.name, 1))  # the same masks
        losses.append(update.loss)
        with torch.no_grad():
            for name, parameter in trainer.scope.items():
                parameter.add_(update.change[name])
    assert losses[-1] < losses[0] - 0.1
