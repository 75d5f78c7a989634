"""Integer noise: its law, what a node's share of it is, and that the ledger charges enough."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest

from fedmem.core.errors import FedmemError
from fedmem.core.privacy import discrete
from fedmem.core.privacy.accounting import Release, epsilon
from fedmem.core.privacy.discrete import (
    NARROW,
    NoiseShare,
    discrete_gaussian,
    factors,
    honest_of,
    width,
)
from fedmem.core.privacy.secret import SecretStreams, Words
from fedmem.core.secure_sum.codes import encode

STREAMS = SecretStreams("5e" * 32)
Pmf = npt.NDArray[np.float64]


def pmf(deviation: float, reach: int) -> Pmf:
    """DG(σ) on −reach … reach, from its definition."""
    weights = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * deviation**2))
    return np.asarray(weights / weights.sum())


def test_the_table_has_the_probabilities_of_the_definition() -> None:
    bounds, high, before = discrete._table()
    inner = np.array([float(after - own) for own, after in pairwise(bounds)]) * 2.0**-128
    np.testing.assert_allclose(inner, pmf(NARROW, discrete.FARTHEST)[1:-1], rtol=1e-9, atol=1e-37)
    assert before[0] == 0
    assert before[-1] == len(high) == 2 * discrete.FARTHEST


def test_noise_has_the_moments_of_its_width_and_is_the_same_again() -> None:
    count = 200_000
    for deviation in (1.0, 130.0, 5e4, 1e6):
        drawn = discrete_gaussian(STREAMS, f"of {deviation}", deviation, count)
        own = width(deviation)
        assert abs(drawn.mean()) < 5 * own / math.sqrt(count)
        assert drawn.var() == pytest.approx(own**2, rel=5 * math.sqrt(2 / count))
        assert np.mean((drawn / own) ** 4) == pytest.approx(3.0, rel=0.05)
        np.testing.assert_array_equal(
            drawn, discrete_gaussian(STREAMS, f"of {deviation}", deviation, count)
        )


def test_narrow_noise_is_as_frequent_as_the_definition_says() -> None:
    count = 300_000
    drawn = discrete_gaussian(STREAMS, "narrow", 1.0, count)
    expected = pmf(NARROW, discrete.FARTHEST)[discrete.FARTHEST :] * count
    for value in (0, 1, 50, 128, 300):
        found = np.count_nonzero(drawn == value)
        assert abs(found - expected[value]) < 5 * math.sqrt(expected[value])


@pytest.mark.parametrize("deviation", [1.0, 129.0, 200.0, 8194.0, 3e5, 1e7, 1e9])
def test_wide_noise_is_put_together_of_narrow_within_the_rule(deviation: float) -> None:
    found = factors(deviation)
    so_far = float(NARROW)
    for factor in found[1:]:
        smooth = so_far * NARROW / math.hypot(so_far, factor * NARROW)
        assert smooth >= 1.99
        so_far = math.hypot(so_far, factor * NARROW)
    assert width(deviation) == pytest.approx(so_far)
    assert so_far >= deviation
    if deviation > 2e4:
        assert so_far <= 1.002 * deviation


def test_a_word_that_does_not_decide_is_decided_by_a_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bounds, high, _ = discrete._table()
    at = discrete.FARTHEST  # P(k ≤ 0)
    low = bounds[at] & (2**64 - 1)
    asked: list[str] = []

    def words(_: SecretStreams, name: str, count: int) -> Words:
        asked.append(name)
        if name.endswith("/low"):
            return np.array([low - 1, low], np.uint64)[:count]
        return np.array([high[at], high[at]], np.uint64)[:count]

    monkeypatch.setattr(SecretStreams, "words", words)
    assert discrete._narrow(STREAMS, "noise", 2).tolist() == [0, 1]
    assert asked == ["noise", "noise/low"]


def beyond(mine: Pmf, theirs: Pmf, eps: float) -> float:
    """The δ of one output against another: Σ max(0, P − e^ε Q)."""
    return float(np.maximum(mine - math.exp(eps) * theirs, 0.0).sum())


def shifted(law: Pmf, by: int) -> Pmf:
    return np.concatenate([np.zeros(by), law[: len(law) - by]])


@pytest.mark.parametrize("rate", [1.0, 0.2])
@pytest.mark.parametrize("noise", [0.7, 1.5])
def test_the_ledger_charges_what_the_sum_of_shares_costs(noise: float, rate: float) -> None:
    share = NoiseShare(noise, scale=20.0, size=1, honest=2)
    one = pmf(share.deviation, 600)
    both, longest = np.convolve(one, one), math.floor(share.longest)
    assert longest == 21
    moved = shifted(both, longest) * rate + both * (1 - rate)
    eps = epsilon([Release("x", noise, rate=rate)], 1e-5)
    found = max(beyond(moved, both, eps), beyond(both, moved, eps))
    assert 0.5e-5 < found <= 1e-5
    # With one share in the place of both it would cost more than is charged.
    lone = shifted(one, longest) * rate + one * (1 - rate)
    assert beyond(lone, one, eps) > 1e-5


@pytest.mark.parametrize(
    ("size", "times", "by"),
    [(1, 2, (9, 9)), (2, 1, (6, 7))],  # of lengths 9 a round, and 9.2
)
def test_rounds_and_vectors_cost_no_more_than_is_charged(
    size: int, times: int, by: tuple[int, int]
) -> None:
    share = NoiseShare(1.2, scale=8.0, size=size, honest=1)
    assert math.hypot(*by) <= share.longest * math.sqrt(times)
    one = pmf(share.deviation, 120)
    still, moved = (np.outer(*(shifted(one, x) for x in each)) for each in ((0, 0), by))
    eps = epsilon([Release("x", 1.2, times=times)], 1e-3)
    assert 0.5e-3 < beyond(still, moved, eps) <= 1e-3
    assert beyond(moved, still, eps) <= 1e-3


def test_one_user_changes_the_integers_by_no_more_than_is_accounted_for() -> None:
    generator, size, scale = np.random.default_rng(3), 400, 60.0
    share = NoiseShare(1.0, scale, size, honest=2)
    assert share.coarseness == pytest.approx(20 / 60, rel=1e-3)
    longest = 0.0
    for seed in range(200):
        others, own = 3 * generator.normal(size=size), generator.normal(size=size)
        own /= np.linalg.norm(own)
        with_own, without = (
            encode(x, scale, 32, 3, np.random.default_rng(seed))[0].astype(np.int64)
            for x in (others + own, others)
        )
        change = (with_own - without + 2**31) % 2**32 - 2**31
        longest = max(longest, float(np.linalg.norm(change)))
    assert scale < longest <= share.longest


def test_the_shares_of_the_honest_are_enough_for_the_whole_noise() -> None:
    share = NoiseShare(3.0, scale=1e5, size=10_000, honest=honest_of(7))
    assert share.honest == 6
    assert share.longest == pytest.approx(1e5 + 100, rel=1e-5)
    assert share.deviation == pytest.approx(3.0 * 100_100 / math.sqrt(6), rel=1e-5)
    drawn = sum(share.draw(STREAMS, f"node {n}") for n in range(6))
    assert isinstance(drawn, np.ndarray)
    assert drawn.std() == pytest.approx(3.0 * 100_100, rel=5 * math.sqrt(1 / 20_000))


def test_the_finest_scale_wraps_nothing_around_and_one_too_coarse_is_refused() -> None:
    found = NoiseShare.finest(3.0, 200_000, honest=6, bits=32, parties=10, users=604)
    whole = 10 * (604 * found.scale + 1) + 12 * math.sqrt(10) * found.deviation
    assert 0.999 < whole / 2**31 < 1.001
    assert found.coarseness < 0.01
    with pytest.raises(FedmemError) as error:
        NoiseShare.finest(3.0, 200_000, honest=6, bits=16, parties=10, users=604)
    first, second = str(error.value).split("\n")
    assert "modulus_bits=16 is too coarse for a noised sum of 200,000 numbers" in first
    assert "10 nodes of up to 604 users: 26 bits are needed" in first
    assert second == "Set privacy.secure_sum.modulus_bits=32."
    with pytest.raises(FedmemError, match="too coarse"):
        NoiseShare.finest(3.0, 10**9, honest=6, bits=32, parties=1000, users=10**6)
