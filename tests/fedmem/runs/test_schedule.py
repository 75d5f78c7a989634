"""How long a stage trains, and the server's pace, round by round."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fedmem.core.settings import Settings
from fedmem.core.stages import STAGES
from fedmem.runs.schedule import COOLED, Schedule


def paces(schedule: Schedule) -> list[float]:
    return [schedule.pace(r) for r in range(1, schedule.last + 1)]


def test_the_pace_is_the_stages_own_until_it_cools() -> None:
    assert paces(Schedule(10, 0.4, 0.3))[:7] == [0.4] * 7


def test_it_falls_linearly_to_what_is_left() -> None:
    # the last three of ten rounds: a third, two thirds and all of the way from 1 to 0.05
    expected = [2 * (1 - 0.95 / 3), 2 * (1 - 0.95 * 2 / 3), 2 * COOLED]
    assert paces(Schedule(10, 2.0, 0.3))[7:] == pytest.approx(expected)


@pytest.mark.parametrize("rounds", [1, 3, 100])
def test_without_a_cooldown_it_never_changes(rounds: int) -> None:
    assert paces(Schedule(rounds, 1.0, 0.0)) == [1.0] * rounds


@pytest.mark.parametrize("rounds", [1, 2, 7, 100])
@pytest.mark.parametrize("cooldown", [0.0, 0.01, 0.5, 1.0])
def test_wherever_it_is_cut_it_never_rises_and_never_stops(rounds: int, cooldown: float) -> None:
    whole = Schedule(rounds, 1.0, cooldown)
    for cut in (whole, *(whole.cut(r) for r in range(1, rounds + 1))):
        assert paces(cut) == sorted(paces(cut), reverse=True)
        assert all(0 < pace <= 1 for pace in paces(cut))
        assert cut.last <= rounds


def test_cut_it_cools_down_over_as_many_rounds_as_it_would_have() -> None:
    cut = Schedule(10, 2.0, 0.3).cut(4)
    assert cut.last == 7
    assert paces(cut)[:4] == [2.0] * 4
    assert paces(cut)[4:] == pytest.approx(paces(Schedule(10, 2.0, 0.3))[7:])


@pytest.mark.parametrize("server_round", [7, 9, 10])
def test_one_that_cools_down_already_is_not_cut(server_round: int) -> None:
    schedule = Schedule(10, 2.0, 0.3)
    assert schedule.cut(server_round) is schedule
    assert schedule.cut(2).cut(3) == schedule.cut(2)


def test_without_a_cooldown_a_cut_is_the_end() -> None:
    assert Schedule(10, 1.0, 0.0).cut(4).last == 4


@pytest.mark.parametrize(("asked", "rounds"), [("null", 60), ("7", 7)])
def test_a_stage_has_its_own_rounds_unless_others_are_set(
    asked: str, rounds: int, make_settings: Callable[..., Settings]
) -> None:
    stage = STAGES["align_projectors"]
    settings = make_settings(f"federation.rounds={asked}", "strategy.cooldown=0.2")
    assert Schedule.of(settings, stage) == Schedule(rounds, 0.4, 0.2)
