"""Whichever way a cohort trains, it is the weighted mean of what its users change."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from fedmem.core.settings import ClientSettings, Settings
from fedmem.core.stages import FROZEN_SASREC, STAGES, Stage
from fedmem.core.training import trainer as training
from fedmem.core.training.batches import RoundKey
from fedmem.core.training.local_optimizer import AdamSteps
from fedmem.core.training.trainer import LocalTrainer
from fedmem.core.updates.cohort import train_cohort
from fedmem.core.updates.update import Update
from tests.helpers.small_world import ready_node

MakeSettings = Callable[..., Settings]
ALL_STAGES = pytest.mark.parametrize(
    "stage", [*STAGES.values(), FROZEN_SASREC], ids=lambda stage: stage.name
)
USERS = np.array([0, 3, 4, 11, 17, 24, 25])


@pytest.fixture(autouse=True)
def _short_histories(data_dir: Path) -> None:
    """Users 24 and 25 have a single target, and none: they have two and one training items."""
    lines = [f"25 {item} 1 {item}" for item in (1, 2, 3, 4)]
    lines += [f"26 {item} 1 {item}" for item in (1, 2, 3)]
    with (data_dir / "ratings.dat").open("a") as file:
        file.write("\n".join(lines) + "\n")


def trainer_of(
    make_settings: MakeSettings, stage: Stage, execution: str, steps: int, *overrides: str
) -> LocalTrainer:
    settings = make_settings(
        f"stage={'all' if stage.name in STAGES else stage.name}",
        "data.min_interactions=3",
        f"client.execution={execution}",
        f"client.local_steps={steps}",
        "client.learning_rate=0.3",
        *overrides,
    )
    trainer = ready_node(settings, stage).trainer(stage)
    lengths = [int(trainer.windows.lengths[trainer.windows.user == user].sum()) for user in USERS]
    assert min(lengths) == 0
    assert 1 in lengths
    assert len(set(lengths)) > 3
    return trainer


def users_one_by_one(trainer: LocalTrainer, key: RoundKey) -> Update:
    updates = [trainer.train_user(int(user), key) for user in USERS]
    weight = sum(update.weight for update in updates)
    change = {
        name: sum((u.change[name] * (u.weight / weight) for u in updates), torch.zeros(()))
        for name in trainer.scope
    }
    return Update(change, weight, sum(u.loss * u.weight for u in updates) / weight, len(USERS))


def check(found: Update, expected: Update) -> None:
    assert (found.weight, found.users) == (expected.weight, expected.users)
    assert found.loss == pytest.approx(expected.loss, rel=1e-5)
    assert set(found.change) == set(expected.change)
    for name, value in expected.change.items():
        torch.testing.assert_close(found.change[name], value, rtol=0, atol=1e-5, msg=name)
        assert value.any(), name


@ALL_STAGES
@pytest.mark.parametrize(
    ("execution", "steps"),
    [("auto", 1), ("batched", 1), ("stacked", 1), ("loop", 1), ("stacked", 3), ("loop", 3)],
)
def test_a_cohort_is_the_weighted_mean_of_its_users(
    stage: Stage, execution: str, steps: int, make_settings: MakeSettings
) -> None:
    trainer, key = trainer_of(make_settings, stage, execution, steps), RoundKey(0, stage.name, 5)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    check(train_cohort(trainer, USERS, key), users_one_by_one(trainer, key))
    after = trainer.model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


@ALL_STAGES
@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("execution", ["auto", "stacked"])
def test_users_have_adam_to_themselves(
    stage: Stage,
    execution: str,
    steps: int,
    make_settings: MakeSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A bias of the keys has no gradient but rounding, of which a small epsilon makes a step.
    def adam(_: ClientSettings) -> AdamSteps:
        return AdamSteps(0.01, eps=1e-2)

    monkeypatch.setattr(training, "make_local_optimizer", adam)
    trainer = trainer_of(make_settings, stage, execution, steps, "client.optimizer=adam")
    key = RoundKey(0, stage.name, 5)
    check(train_cohort(trainer, USERS, key), users_one_by_one(trainer, key))


@ALL_STAGES
@pytest.mark.parametrize("at_once", [1, 2, 4])
def test_how_many_users_stand_side_by_side_does_not_matter(
    stage: Stage, at_once: int, make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer, key = trainer_of(make_settings, stage, "stacked", 2), RoundKey(0, stage.name, 5)
    expected = train_cohort(trainer, USERS, key)
    groups = []
    train_stacked = training.train_stacked

    def note(objective, scope, rows, *rest):  # type: ignore[no-untyped-def]
        groups.append(len(rows))
        return train_stacked(objective, scope, rows, *rest)

    model_bytes = sum(p.numel() * p.element_size() for p in trainer.scope.values())
    monkeypatch.setattr(training, "train_stacked", note)
    held = at_once * model_bytes * training.COPIES
    monkeypatch.setattr(training, "stack_bytes", lambda _: held)
    check(train_cohort(trainer, USERS, key), expected)
    assert groups == {1: [1] * 6, 2: [2, 2, 2], 4: [4, 2]}[at_once]


def test_a_stack_keeps_the_row_of_the_padding_at_zero(make_settings: MakeSettings) -> None:
    stage = STAGES["pretrain_sasrec"]
    trainer = trainer_of(make_settings, stage, "stacked", 3)
    update = train_cohort(trainer, USERS, RoundKey(0, stage.name, 5))
    assert not update.change["sasrec.item_emb.weight"][0].any()


@ALL_STAGES
@pytest.mark.parametrize("execution", ["batched", "stacked", "loop"])
def test_users_without_targets_change_nothing(
    stage: Stage, execution: str, make_settings: MakeSettings
) -> None:
    trainer = trainer_of(make_settings, stage, execution, 1)
    update = train_cohort(trainer, np.array([25]), RoundKey(0, stage.name, 5))
    assert (update.weight, update.loss, update.users) == (0, 0.0, 1)
    assert set(update.change) == set(trainer.scope)
    assert not any(value.any() for value in update.change.values())
