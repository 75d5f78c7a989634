"""A user whose update is implausible is left out, in every way of training a cohort."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from fedmem.core.settings import Settings
from fedmem.core.stages import STAGES, Stage
from fedmem.core.training import trainer as training
from fedmem.core.training.batches import RoundKey
from fedmem.core.training.trainer import LocalTrainer, train_stacked
from fedmem.core.updates.cohort import train_cohort
from fedmem.core.updates.filters import make_filters
from fedmem.core.updates.update import Update
from tests.helpers.small_world import ready_node

MakeSettings = Callable[..., Settings]
USERS, POISONED = np.arange(0, 24, 2), (4, 14)
STAGE = STAGES["pretrain_sasrec"]
KEY = RoundKey(0, STAGE.name, 1)


@pytest.fixture
def make_settings(make_settings: MakeSettings) -> MakeSettings:
    """On a CPU: a GPU has users side by side where they would be in a loop."""
    return functools.partial(make_settings, "simulation.device=cpu")


class Poisoned(LocalTrainer):
    """The gradient of some users is multiplied by a factor."""

    factor = 1.0

    def accumulate_gradient(self, rows: np.ndarray, key: RoundKey, step: int) -> float:
        bad = np.isin(self.windows.user[rows], POISONED)
        total, sums = 0.0, {n: torch.zeros_like(p) for n, p in self.scope.items()}
        for part, factor in ((rows[~bad], 1.0), (rows[bad], self.factor)):
            if len(part):
                total += super().accumulate_gradient(part, key, step)
                for name, p in self.scope.items():
                    if p.grad is not None:
                        sums[name] += factor * p.grad
        for name, p in self.scope.items():
            p.grad = sums[name]
        return total


def train(settings: Settings, factor: float, users: np.ndarray, limit: float = math.inf) -> Update:
    trainer = ready_node(settings, STAGE).trainer(STAGE)
    trainer.__class__ = Poisoned
    trainer.factor = factor  # type: ignore[attr-defined]
    return train_cohort(trainer, users, KEY, make_filters(settings, {"norm": limit}))


def assert_same(one: Update, other: Update) -> None:
    assert one.weight == other.weight
    assert one.users == other.users
    assert one.loss == pytest.approx(other.loss, rel=1e-5)
    for name, value in one.change.items():
        torch.testing.assert_close(value, other.change[name], rtol=0, atol=1e-6)


@pytest.mark.parametrize("factor", [math.nan, math.inf, 1e6])
@pytest.mark.parametrize("execution", ["loop", "batched"])
def test_the_poisoned_are_left_out_and_counted(
    execution: str, factor: float, make_settings: MakeSettings
) -> None:
    settings = make_settings(f"client.execution={execution}")
    honest = np.setdiff1d(USERS, POISONED)
    # batched sees a sum: it needs to be told what is usual, or a sum that is not finite
    limit = 10 * train(settings, 1.0, honest).norm if execution == "batched" else math.inf
    update = train(settings, factor, USERS, limit)
    assert update.left_out == len(POISONED)
    assert_same(update, train(settings, 1.0, honest))


@pytest.mark.parametrize("execution", ["loop", "stacked"])
def test_the_reversed_are_left_out_where_that_is_asked_for(
    execution: str, make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_settings(f"client.execution={execution}", "strategy.guard_direction=true")
    honest = np.setdiff1d(USERS, POISONED)
    expected = train(settings, 1.0, honest)
    assert expected.left_out == 0

    def reversing(*arguments: Any) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        change, losses = train_stacked(*arguments)
        for place, own in enumerate(arguments[2]):
            if np.isin(windows.user[own[0]], POISONED):
                for each in change.values():
                    each[place] *= -1
        return change, losses

    windows = ready_node(settings, STAGE).trainer(STAGE).windows
    monkeypatch.setattr(training, "train_stacked", reversing)
    update = train(settings, -1.0, USERS)
    assert update.left_out == len(POISONED)
    assert_same(update, expected)
    blind = make_settings(f"client.execution={execution}")
    assert train(blind, -1.0, USERS).left_out == 0


def test_one_batch_without_a_limit_sees_only_what_is_not_finite(
    make_settings: MakeSettings,
) -> None:
    settings = make_settings("client.execution=batched")
    assert train(settings, 1e6, USERS).left_out == 0
    assert train(settings, math.nan, USERS).left_out == 2


@pytest.mark.parametrize("execution", ["loop", "batched"])
def test_without_the_guard_nobody_is_left_out(execution: str, make_settings: MakeSettings) -> None:
    settings = make_settings(f"client.execution={execution}", "strategy.guard_ratio=null")
    update = train(settings, math.nan, USERS)
    assert update.left_out == 0
    assert not math.isfinite(update.norm)


@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
@pytest.mark.parametrize("factor", [math.nan, 1e6])
def test_users_side_by_side_are_told_apart(
    stage: Stage, factor: float, make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_settings("client.execution=stacked")
    trainer = ready_node(settings, stage).trainer(stage)
    honest = train_cohort(trainer, np.setdiff1d(USERS, POISONED), KEY)

    def spoilt(*arguments: Any) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        change, losses = train_stacked(*arguments)
        users = [int(trainer.windows.user[own[0]]) for own in arguments[2]]
        for place in np.flatnonzero(np.isin(users, POISONED)):
            for each in change.values():
                each[place] *= factor
        return change, losses

    monkeypatch.setattr(training, "train_stacked", spoilt)
    update = train_cohort(trainer, USERS, KEY, make_filters(settings))
    assert update.left_out == len(POISONED)
    assert_same(update, honest)
