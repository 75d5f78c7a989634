"""Local training: what a step is, and what must not matter to the result."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from fedmem.core.settings import Settings
from fedmem.core.stages import STAGES, Stage
from fedmem.core.training.batches import RoundKey
from fedmem.core.updates.cohort import train_cohort
from fedmem.core.updates.update import Update
from tests.helpers.small_world import ready_node

MakeSettings = Callable[..., Settings]
USERS = np.arange(24)
KEY = RoundKey(0, "pretrain_sasrec", 1)


def trained(settings: Settings, stage: Stage) -> Update:
    trainer = ready_node(settings, stage).trainer(stage)
    return train_cohort(trainer, USERS, RoundKey(0, stage.name, 1))


@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
def test_the_size_of_micro_batches_does_not_matter(
    stage: Stage, make_settings: MakeSettings
) -> None:
    updates = [
        trained(make_settings(f"client.micro_batch={size}"), stage) for size in (1, 24, 10_000)
    ]
    for other in updates[1:]:
        assert other.weight == updates[0].weight
        assert other.loss == pytest.approx(updates[0].loss, rel=1e-5)
        for name, value in updates[0].change.items():
            torch.testing.assert_close(other.change[name], value, rtol=0, atol=1e-6)


def test_one_step_goes_against_the_gradient_of_the_mean_loss(settings: Settings) -> None:
    stage, rate = STAGES["pretrain_sasrec"], settings.client.learning_rate
    trainer = ready_node(settings, stage).trainer(stage)
    key, norm = RoundKey(0, stage.name, 1), trainer.scope["sasrec.norm.bias"]
    update = trainer.train_user(2, key)
    losses = []
    for moved in (-1e-2, 2e-2):
        norm.data[3] += moved
        losses.append(trainer.train_user(2, key).loss)
    slope = (losses[1] - losses[0]) / 2e-2
    assert float(update.change["sasrec.norm.bias"][3]) == pytest.approx(-rate * slope, rel=1e-2)


def test_a_stage_trains_its_scope_and_no_more(settings: Settings) -> None:
    for stage in STAGES.values():
        trainer = ready_node(settings, stage).trainer(stage)
        for name, parameter in trainer.model.named_parameters():
            assert parameter.requires_grad == stage.in_scope(name) == (name in trainer.scope)


def test_the_loss_falls_when_the_step_is_taken(settings: Settings) -> None:
    stage = STAGES["pretrain_sasrec"]
    node = ready_node(settings, stage)
    trainer = node.trainer(stage)
    losses = []
    for _ in range(20):
        update = train_cohort(trainer, USERS, RoundKey(0, stage.name, 1))  # the same masks
        losses.append(update.loss)
        with torch.no_grad():
            for name, parameter in trainer.scope.items():
                parameter.add_(update.change[name])
    assert losses[-1] < losses[0] - 0.1


@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
@pytest.mark.parametrize("execution", ["batched", "stacked"])
def test_reduced_precision_changes_little(
    stage: Stage, execution: str, make_settings: MakeSettings
) -> None:
    full, reduced = (
        trained(
            make_settings(f"client.execution={execution}", f"client.precision={precision}"), stage
        )
        for precision in ("float32", "bfloat16")
    )
    assert reduced.loss == pytest.approx(full.loss, rel=1e-3)
    assert reduced.loss != full.loss
    for name, value in full.change.items():
        assert reduced.change[name].dtype == torch.float32
        assert (reduced.change[name] - value).norm() < 0.2 * value.norm(), name


def test_local_adam_moves_each_number_by_its_rate_in_the_first_step(
    make_settings: Callable[..., Settings],
) -> None:
    stage = STAGES["pretrain_sasrec"]
    own = ("client.optimizer=adam", "client.learning_rate=0.01")
    sgd = ready_node(make_settings(), stage).trainer(stage).train_user(3, KEY).change
    adam = ready_node(make_settings(*own), stage).trainer(stage).train_user(3, KEY).change
    for name, value in sgd.items():
        clear = value.abs() > 1e-5  # beside Adam's ε
        torch.testing.assert_close(adam[name][clear], 0.01 * value[clear].sign(), rtol=1e-2, atol=0)


def test_a_cohort_with_local_adam_is_the_mean_of_its_users(
    make_settings: Callable[..., Settings],
) -> None:
    stage = STAGES["pretrain_sasrec"]
    own = ("client.optimizer=adam", "client.learning_rate=0.01", "client.local_steps=2")
    # Adam shows gradients that are rounding alone, of which a GPU has others side by side.
    settings = make_settings(*own, "simulation.device=cpu")
    trainer = ready_node(settings, stage).trainer(stage)
    cohort = train_cohort(trainer, np.array([1, 2]), KEY)
    one, two = (trainer.train_user(user, KEY) for user in (1, 2))
    for name, value in cohort.change.items():
        mean = (one.weight * one.change[name] + two.weight * two.change[name]) / cohort.weight
        torch.testing.assert_close(value, mean)
