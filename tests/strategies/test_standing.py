"""When a stage stops, for good or ill, and what it says then."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord

from fedmem.core.settings import Settings
from fedmem.core.stages import STAGES
from fedmem.runs.records import RoundRecord
from strategies.standing import Standing

MakeSettings = Callable[..., Settings]


def standing(settings: Settings, stage: str = "pretrain_sasrec") -> Standing:
    return Standing(settings, STAGES[stage])


def arrays(value: float) -> ArrayRecord:
    return ArrayRecord({"w": Array(np.array([value], np.float32))})


def trained(one: Standing, *losses: float | None) -> Standing:
    for place, loss in enumerate(losses):
        one.trained(RoundRecord("pretrain_sasrec", place + 1, loss=loss))
    return one


def validated(one: Standing, *scores: float, first: int = 1) -> list[bool]:
    return [
        one.validated(
            RoundRecord("pretrain_sasrec", r, validation={"sampled/HR@10": score}), arrays(r)
        )
        for r, score in enumerate(scores, start=first)
    ]


def test_the_best_round_is_kept_and_patience_runs_out(make_settings: MakeSettings) -> None:
    one = standing(make_settings("strategy.patience=2", "federation.rounds=20"))
    assert validated(one, 0.4, 0.6, 0.6) == [True, True, False]  # the third is no better
    assert (one.schedule.cut_after, one.schedule.last) == (None, 20)
    assert validated(one, 0.5, first=4) == [False]
    assert (one.schedule.cut_after, one.schedule.last) == (4, 10)  # 0.3 of 20 rounds to cool down
    assert validated(one, 0.5, 0.5, first=5) == [False, False]
    assert one.schedule.last == 10  # once
    assert one.trouble is None
    assert one.best is not None
    assert (one.best_round, one.best["w"].numpy().tolist()) == (2, [2.0])


@pytest.mark.parametrize(("losses", "stops"), [((7, 6, 17.9), False), ((7, 6, 18.1), True)])
def test_a_loss_that_explodes_stops_the_stage_with_a_hint(
    losses: tuple[float, ...], stops: bool, settings: Settings
) -> None:
    one = trained(standing(settings), *losses)
    assert (one.trouble is not None) is stops
    if one.trouble is not None:
        assert "round 3: the loss is 18.1 after 6" in one.trouble
        assert "strategy.learning_rate=0.0075" in one.trouble
        assert len(one.trouble.splitlines()) == 2


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_the_stage(
    loss: float, make_settings: MakeSettings
) -> None:
    one = trained(standing(make_settings("strategy.loss_limit=null")), loss)
    assert one.trouble is not None


def test_a_validation_that_collapses_stops_the_stage(settings: Settings) -> None:
    one = standing(settings, "align_projectors")
    validated(one, 0.6, 0.31)
    assert one.trouble is None
    validated(one, 0.29)
    assert one.trouble is not None
    assert "validation HR@10 is 0.290 after 0.600 in round 1" in one.trouble
    assert "item features" in one.trouble
    assert "pretrain_sasrec was trained" in one.trouble
    assert one.best_round == 1


def test_both_can_be_switched_off(make_settings: MakeSettings) -> None:
    one = standing(make_settings("strategy.loss_limit=null", "strategy.collapse=null"))
    trained(one, 5.0, 5000.0)
    validated(one, 0.6, 0.01)
    assert one.trouble is None


def test_no_usable_reply_names_some_of_the_refused(settings: Settings) -> None:
    one = standing(settings)
    one.trained(RoundRecord("pretrain_sasrec", 4, refused=[f"node {n}: odd" for n in range(9)]))
    assert one.trouble is not None
    assert "no usable reply: node 0: odd; node 1: odd; node 2: odd and 6 more." in one.trouble
