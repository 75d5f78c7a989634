"""The server's pace, round by round."""

from __future__ import annotations

import pytest

from strategies.pace import COOLED, pace_of


def test_the_pace_is_the_stages_own_until_it_cools() -> None:
    assert [pace_of(r, 10, 0.4, 0.3) for r in (1, 5, 7)] == [0.4] * 3


def test_it_falls_linearly_to_what_is_left() -> None:
    # the last three of ten rounds: a third, two thirds and all of the way from 1 to 0.05
    found = [pace_of(r, 10, 2.0, 0.3) for r in (8, 9, 10)]
    expected = [2 * (1 - 0.95 / 3), 2 * (1 - 0.95 * 2 / 3), 2 * COOLED]
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("rounds", [1, 3, 100])
def test_without_a_cooldown_it_never_changes(rounds: int) -> None:
    assert {pace_of(r, rounds, 1.0, 0.0) for r in range(1, rounds + 1)} == {1.0}


@pytest.mark.parametrize("rounds", [1, 2, 7, 100])
@pytest.mark.parametrize("cooldown", [0.01, 0.5, 1.0])
def test_it_never_rises_and_never_stops(rounds: int, cooldown: float) -> None:
    paces = [pace_of(r, rounds, 1.0, cooldown) for r in range(1, rounds + 1)]
    assert paces == sorted(paces, reverse=True)
    assert all(0 < pace <= 1 for pace in paces)
