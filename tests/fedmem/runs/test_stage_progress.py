"""When a stage stops, for good or ill, and what it says then."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from fedmem.core.settings import Settings
from fedmem.core.stages import STAGES
from fedmem.runs.records import RoundRecord
from fedmem.runs.stage_progress import StageProgress, StageRules

MakeSettings = Callable[..., Settings]


def begun(settings: Settings, stage: str = "pretrain_sasrec") -> tuple[StageRules, StageProgress]:
    rules = StageRules(settings, STAGES[stage])
    return rules, rules.begin({"w": torch.zeros(1)}, threshold=None)


def trained(rules: StageRules, progress: StageProgress, *losses: float | None) -> StageProgress:
    for place, loss in enumerate(losses):
        progress = rules.trained(progress, RoundRecord("pretrain_sasrec", place + 1, loss=loss))
    return progress


def validated(
    rules: StageRules, progress: StageProgress, *scores: float, first: int = 1
) -> tuple[StageProgress, list[bool]]:
    best = []
    for number, score in enumerate(scores, start=first):
        record = RoundRecord("pretrain_sasrec", number, validation={"sampled/HR@10": score})
        parameters = {"w": torch.tensor([float(number)])}
        progress = replace(progress, round=number, parameters=parameters)
        progress = rules.validated(progress, record)
        best.append(progress.is_best)
    return progress, best


def test_a_stage_with_a_predecessor_begins_by_validating_it(settings: Settings) -> None:
    for stage, before in (("pretrain_sasrec", 0), ("align_projectors", -1)):
        _, progress = begun(settings, stage)
        assert (progress.round, progress.over, progress.is_best) == (before, False, False)
    assert replace(progress, round=progress.schedule.last).over


def test_the_best_round_is_kept_and_patience_runs_out(make_settings: MakeSettings) -> None:
    rules, one = begun(make_settings("strategy.patience=2", "federation.rounds=20"))
    one, best = validated(rules, one, 0.4, 0.6, 0.6)
    assert best == [True, True, False]  # the third is no better
    assert (one.schedule.cut_after, one.schedule.last) == (None, 20)
    one, best = validated(rules, one, 0.5, first=4)
    assert best == [False]
    assert (one.schedule.cut_after, one.schedule.last) == (4, 10)  # 0.3 of 20 rounds to cool down
    one, best = validated(rules, one, 0.5, 0.5, first=5)
    assert best == [False, False]
    assert one.schedule.last == 10  # once
    assert one.trouble is None
    assert one.best is not None
    assert (one.best_round, one.best["w"].tolist()) == (2, [2.0])


@pytest.mark.parametrize(("losses", "stops"), [((7, 6, 17.9), False), ((7, 6, 18.1), True)])
def test_a_loss_that_explodes_stops_the_stage_with_a_hint(
    losses: tuple[float, ...], stops: bool, settings: Settings
) -> None:
    one = trained(*begun(settings), *losses)
    assert one.over is stops
    if stops:
        assert one.trouble is not None
        assert "round 3: the loss is 18.1 after 6" in one.trouble
        assert "strategy.learning_rate=0.0075" in one.trouble
        assert len(one.trouble.splitlines()) == 2


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_the_stage(
    loss: float, make_settings: MakeSettings
) -> None:
    one = trained(*begun(make_settings("strategy.loss_limit=null")), loss)
    assert one.trouble is not None


def test_a_validation_that_collapses_stops_the_stage(settings: Settings) -> None:
    rules, one = begun(settings, "align_projectors")
    one, _ = validated(rules, one, 0.6, 0.31)
    assert one.trouble is None
    one, _ = validated(rules, one, 0.29)
    assert one.trouble is not None
    assert "validation HR@10 is 0.290 after 0.600 in round 1" in one.trouble
    assert "item features" in one.trouble
    assert "pretrain_sasrec was trained" in one.trouble
    assert one.best_round == 1


def test_both_can_be_switched_off(make_settings: MakeSettings) -> None:
    rules, one = begun(make_settings("strategy.loss_limit=null", "strategy.collapse=null"))
    one, _ = validated(rules, trained(rules, one, 5.0, 5000.0), 0.6, 0.01)
    assert one.trouble is None


def test_no_usable_reply_names_some_of_the_refused(settings: Settings) -> None:
    rules, one = begun(settings)
    refused = [f"node {n}: odd" for n in range(9)]
    one = rules.trained(one, RoundRecord("pretrain_sasrec", 4, refused=refused))
    assert one.trouble is not None
    assert "no usable reply: node 0: odd; node 1: odd; node 2: odd and 6 more." in one.trouble
