"""Paired differences against values computed by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from fedmem.core.evaluation.protocol import Ranks
from fedmem.core.evaluation.statistics import Interval, compare, mean_and_deviation, paired_interval


def ranks_of(*sampled: int, users: list[int] | None = None) -> Ranks:
    indices = np.arange(len(sampled)) if users is None else np.array(users)
    return Ranks(indices.astype(np.int32), {"sampled": np.array(sampled, np.int32)})


def test_mean_and_deviation_are_of_a_sample() -> None:
    assert mean_and_deviation([1.0, 2.0, 4.0]) == pytest.approx((7 / 3, math.sqrt(7 / 3)))
    mean, deviation = mean_and_deviation([5.0])
    assert mean == 5.0
    assert math.isnan(deviation)


def test_an_interval_is_that_of_all_resamples_of_a_few_users() -> None:
    ours, theirs = np.array([1.0, 1.0, 0.0, 1.0]), np.array([0.0, 1.0, 0.0, 0.0])
    differences = [1.0, 0.0, 0.0, 1.0]
    every = [np.mean(draw) for draw in itertools.product(differences, repeat=4)]  # all 256
    low, high = np.quantile(every, [0.025, 0.975])
    assert paired_interval(ours, theirs) == Interval(0.5, low, high) == Interval(0.5, 0.0, 1.0)


def test_an_interval_narrows_with_users_as_the_normal_one_does() -> None:
    generator = np.random.default_rng(1)
    ours, theirs = generator.normal(0.1, 1.0, 4000), np.zeros(4000)
    found = paired_interval(ours, theirs)
    half = 1.96 * ours.std() / math.sqrt(4000)
    assert found.mean == pytest.approx(ours.mean())
    assert (found.low, found.high) == pytest.approx(
        (found.mean - half, found.mean + half), abs=4e-3
    )
    assert found.excludes_zero


def test_pairing_takes_out_what_users_differ_in() -> None:
    generator = np.random.default_rng(2)
    hardness = generator.normal(0, 10, 500)
    found = paired_interval(hardness + 0.1 + generator.normal(0, 0.1, 500), hardness)
    assert found.high - found.low < 0.03
    assert found.excludes_zero


def test_the_same_seed_gives_the_same_interval_and_no_difference_has_no_width() -> None:
    ours, theirs = np.arange(50) % 3 / 2, np.arange(50) % 2 / 1.0
    assert paired_interval(ours, theirs, 4) == paired_interval(ours, theirs, 4)
    assert paired_interval(ours, theirs, 4) != paired_interval(ours, theirs, 5)
    assert paired_interval(ours, ours) == Interval(0.0, 0.0, 0.0)


def test_arms_are_compared_user_by_user_and_seed_by_seed() -> None:
    ours = [ranks_of(0, 9, 50, 3), ranks_of(0, 10, 2, 3)]
    theirs = [ranks_of(0, 10, 50, 3), ranks_of(11, 10, 50, 3)]
    hits, gains = compare(ours, theirs, ["sampled/HR@10", "sampled/NDCG@10"])
    assert hits.by_seed == [0.25, 0.5]
    assert hits.over_users.mean == 0.375
    assert hits.over_seeds == pytest.approx((0.375, math.sqrt(0.03125)))
    assert hits.users == 4
    assert gains.by_seed == pytest.approx([1 / math.log2(11) / 4, (1 + 0.5) / 4])


def test_a_slice_looks_at_its_users_alone() -> None:
    ours, theirs = [ranks_of(0, 9, 50), ranks_of(0, 0, 50)], [ranks_of(0, 20, 50)] * 2
    among = [np.array([False, True, True]), np.array([False, True, False])]
    (found,) = compare(ours, theirs, ["sampled/HR@10"], among)
    assert found.users == 2
    assert found.by_seed == [0.5, 1.0]
    assert found.over_users.mean == 0.5  # user 1: 1 in both seeds; user 2: 0 in one
    assert compare(ours, theirs, ["sampled/HR@10"], [np.zeros(3, bool)] * 2) == []


def test_a_user_counts_in_the_seeds_that_have_them() -> None:
    ours = [ranks_of(0, 50, users=[3, 1]), ranks_of(0, 50, users=[0, 3])]
    theirs = [ranks_of(50, 50, users=[3, 1]), ranks_of(0, 50, users=[0, 3])]
    (found,) = compare(ours, theirs, ["sampled/HR@10"])
    assert (found.users, found.by_seed) == (3, [0.5, 0.0])
    assert found.over_users.mean == pytest.approx(0.5 / 3)  # user 3: 1 and 0; the others: 0


def test_ranks_of_other_users_or_seeds_are_a_mistake_of_the_caller() -> None:
    for others in ([ranks_of(1, 2, users=[2, 3])], [ranks_of(1, 2)] * 2, []):
        with pytest.raises(ValueError, match=r"same users|zip"):
            compare([ranks_of(1, 2)], others, ["sampled/HR@10"])
