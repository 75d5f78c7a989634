"""ε against dp-accounting, against closed forms, and against published noise multipliers."""

from __future__ import annotations

import math

import pytest
from scipy.stats import norm

from fedmem.core.errors import FedmemError
from fedmem.core.privacy.accounting import Release, epsilon, noise_for

DELTA = 1e-5


def test_one_gaussian_has_the_delta_of_its_closed_form() -> None:
    found = epsilon([Release("a", noise=2.0)], DELTA)
    mu = 0.5
    delta = norm.cdf(mu / 2 - found / mu) - math.exp(found) * norm.cdf(-mu / 2 - found / mu)
    assert delta == pytest.approx(DELTA, rel=1e-6)


def test_gaussians_compose_by_their_squares() -> None:
    three_and_four = [Release("a", 2.0, times=3), Release("b", 1.0, times=4)]
    together = Release("c", (3 / 4 + 4) ** -0.5)
    assert epsilon(three_and_four, DELTA) == pytest.approx(epsilon([together], DELTA))


@pytest.mark.parametrize(("times", "every", "counted"), [(9, 3, 3), (10, 3, 4), (2, 5, 1)])
def test_in_a_public_order_a_user_pays_for_the_rounds_of_its_own_block(
    times: int, every: int, counted: int
) -> None:
    ordered = Release("a", 3.0, times, every=every)
    assert epsilon([ordered], DELTA) == epsilon([Release("a", 3.0, counted)], DELTA)


def test_nothing_released_costs_nothing_and_no_noise_everything() -> None:
    assert epsilon([], DELTA) == 0.0
    assert epsilon([Release("a", 1.0, times=0)], DELTA) == 0.0
    assert epsilon([Release("a", 0.0)], DELTA) == math.inf


@pytest.mark.parametrize("rate", [0.02, 0.1, 0.5])
@pytest.mark.parametrize("noise", [0.8, 1.5, 4.0, 10.0])
@pytest.mark.parametrize("times", [1, 30, 300])
def test_sampled_rounds_cost_what_dp_accounting_says(rate: float, noise: float, times: int) -> None:
    dp = pytest.importorskip("dp_accounting")
    accountant = dp.pld.PLDAccountant(value_discretization_interval=5e-4)
    event = dp.PoissonSampledDpEvent(rate, dp.GaussianDpEvent(noise))
    expected = accountant.compose(event, times).get_epsilon(DELTA)
    found = epsilon([Release("a", noise, times, rate)], DELTA)
    assert found == pytest.approx(expected, rel=0.01, abs=2e-3)


@pytest.mark.parametrize("noise", [0.7, 2.0, 9.0, 40.0])
@pytest.mark.parametrize("times", [1, 10, 100])
@pytest.mark.parametrize("delta", [1e-5, 1e-7])
def test_rounds_of_everybody_cost_what_dp_accounting_says(
    noise: float, times: int, delta: float
) -> None:
    dp = pytest.importorskip("dp_accounting")
    accountant = dp.pld.PLDAccountant(value_discretization_interval=1e-3)
    expected = accountant.compose(dp.GaussianDpEvent(noise), times).get_epsilon(delta)
    found = epsilon([Release("a", noise, times)], delta)
    assert found == pytest.approx(expected, rel=0.01, abs=2e-3)


def test_kinds_of_releases_add_up_as_in_dp_accounting() -> None:
    dp = pytest.importorskip("dp_accounting")
    accountant = dp.pld.PLDAccountant(value_discretization_interval=1e-3)
    accountant.compose(dp.PoissonSampledDpEvent(0.2, dp.GaussianDpEvent(1.7)), 20)
    accountant.compose(dp.GaussianDpEvent(9.0), 4)
    found = epsilon([Release("a", 1.7, 20, 0.2), Release("b", 9.0, 4)], DELTA)
    assert found == pytest.approx(accountant.get_epsilon(DELTA), rel=0.01)


@pytest.mark.parametrize("planned", [Release("a", 1.0, 60), Release("a", 1.0, 150, 0.2)])
def test_the_noise_that_is_found_keeps_to_the_budget_and_wastes_little(planned: Release) -> None:
    earlier = [Release("b", 20.0, 2)]
    noise = noise_for(8.0, DELTA, [planned], earlier)
    spent = epsilon([Release("a", noise, planned.times, planned.rate), *earlier], DELTA)
    assert 7.98 < spent <= 8.0


def test_noise_that_any_budget_would_allow_is_not_searched_for_ever() -> None:
    assert noise_for(1e4, DELTA, [Release("a", 1.0)]) < 0.5


def test_a_budget_that_is_spent_buys_nothing() -> None:
    with pytest.raises(FedmemError, match=r"privacy\.epsilon=1 is spent"):
        noise_for(1.0, DELTA, [Release("a", 1.0)], [Release("b", 1.0, 10)])
