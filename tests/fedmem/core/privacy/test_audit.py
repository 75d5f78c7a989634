"""The audit's statistics: scores by hand, and a bound that holds as often as it says."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, norm

from fedmem.core.privacy.accounting import Release, epsilon, profile
from fedmem.core.privacy.audit import EPSILONS, judge, likelihood_ratios, refutes

DELTA = 1e-5


def test_scores_are_logs_of_likelihood_ratios() -> None:
    seen, taken = np.array([[1.3, -0.2], [0.4, 2.0]]), np.array([[1.0, 0.0], [1.0, 1.0]])
    density = norm(scale=2.0).logpdf
    expected = (density(seen - taken) - density(seen)).sum(0)
    np.testing.assert_allclose(likelihood_ratios(seen, taken, 2.0, 1.0), expected)
    mixed = 0.3 * norm.pdf(seen - 1, scale=2.0) + 0.7 * norm.pdf(seen, scale=2.0)
    expected = (np.log(mixed) - density(seen)).sum(0)
    np.testing.assert_allclose(likelihood_ratios(seen, np.ones((2, 2)), 2.0, 0.3), expected)


@pytest.mark.parametrize("right", [50, 60, 75, 90])
def test_what_an_honest_mechanism_does_so_often_is_not_refuted(right: int) -> None:
    # Randomised response answers each coin rightly with a probability of e^ε / (1 + e^ε).
    eps, guessed = 0.5, 100
    deltas = np.maximum(np.exp(eps) - np.exp(EPSILONS), 0.0) / (1 + np.exp(eps))
    often = binom.sf(right - 1, guessed, 1 / (1 + np.exp(-eps)))
    assert not refutes(deltas, guessed, guessed, right, 0.99 * often)
    if often < 0.2:
        assert refutes(deltas, guessed, guessed, right, 4 * often)


def scores_of(
    mu: float, count: int, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Scores of canaries in a Gaussian release with noise 1 / μ, and which were in."""
    present = generator.integers(0, 2, count).astype(bool)
    seen = (present + generator.normal(size=count) / mu)[None]
    return likelihood_ratios(seen, np.ones((1, count)), 1 / mu, 1.0), present


def test_an_honest_release_is_refuted_no_more_often_than_said() -> None:
    generator, release = np.random.default_rng(0), [Release("a", 1.0)]
    found = [judge(*scores_of(1.0, 150, generator), release, DELTA) for _ in range(12)]
    assert sum(each.refutes for each in found) <= 1
    claimed = epsilon(release, DELTA)
    assert np.mean([each.estimate for each in found]) == pytest.approx(claimed, rel=0.1)
    assert np.mean([each.bound for each in found]) > 0.2 * claimed
    assert np.mean([each.auc for each in found]) == pytest.approx(norm.cdf(2**-0.5), abs=0.02)


def test_a_thousand_perfect_guesses_show_more_than_eight() -> None:
    noise = 0.6
    claimed = epsilon([Release("a", noise)], DELTA)
    assert 7.9 < claimed < 8.1
    present = np.arange(1000) % 2 == 0
    found = judge(np.where(present, 9.0, -9.0), present, [Release("a", noise)], DELTA)
    assert found.refutes
    assert found.telling
    assert found.estimate == np.inf
    few = judge(np.where(present, 9.0, -9.0)[:30], present[:30], [Release("a", noise)], DELTA)
    assert not few.telling
    assert few.bound < claimed


def test_a_profile_is_that_of_the_ledger() -> None:
    pytest.importorskip("dp_accounting")
    for release in (Release("a", 2.0, 9), Release("a", 2.0, 9, rate=0.5)):
        spent = epsilon([release], DELTA)
        assert profile([release], np.array([spent]))[0] == pytest.approx(DELTA, rel=0.02)
