"""Novelty and its vectors by hand; the threshold against a brute-force quantile."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import settings as check
from hypothesis import strategies as st

from fedmem.core.data import Interactions
from fedmem.core.memory import (
    Novelties,
    auto_threshold,
    item_vectors,
    novelty_histogram,
    written_share,
)
from fedmem.core.memory.kernel import BINS


def floats(*rows: list[float]) -> npt.NDArray[np.float32]:
    return np.array(rows, dtype=np.float32)


def test_a_vector_is_the_normed_concatenation_of_the_normed_parts() -> None:
    found = item_vectors(floats([0, 0], [3, 4]), floats([0], [2]))
    half = 1 / math.sqrt(2)
    assert found[1].tolist() == pytest.approx([0.6 * half, 0.8 * half, half])


def test_the_length_of_a_part_does_not_matter() -> None:
    one = item_vectors(floats([3, 4]), floats([1, 2, 2]))
    assert one[0].tolist() == pytest.approx(item_vectors(floats([30, 40]), floats([5, 10, 10]))[0])


def test_one_part_alone_is_a_unit_vector_and_none_is_zero() -> None:
    found = item_vectors(floats([0, 0], [3, 4], [0, 0]), floats([0], [0], [2]))
    assert found.tolist() == pytest.approx(floats([0, 0, 0], [0.6, 0.8, 0], [0, 0, 1]))


# Items 1 and 2 are at right angles, 3 between them (0.6 and 0.8), 4 opposite to 1, 5 without.
VECTORS = floats([0, 0], [1, 0], [0, 1], [0.6, 0.8], [-1, 0], [0, 0])


def novelties_of(histories: list[list[int]], capacity: int) -> Novelties:
    interactions = Interactions(
        offsets=np.cumsum([0, *map(len, histories)]),
        items=np.concatenate(histories).astype(np.int32),
        item_ids=np.arange(len(VECTORS)),
        user_ids=np.arange(len(histories)),
    )
    return Novelties(interactions, VECTORS, capacity)


def novelty(history: list[int], capacity: int) -> npt.NDArray[np.float32]:
    return novelties_of([history], capacity).at(np.arange(len(history)))


def test_novelty_is_one_minus_the_largest_cosine_to_what_came_before() -> None:
    found = novelty([1, 2, 3, 1, 4], capacity=50)
    assert found.tolist() == pytest.approx([1.0, 1.0, 0.2, 0.0, 1.0])


def test_novelty_looks_back_no_further_than_the_capacity() -> None:
    assert novelty([1, 2, 1], capacity=1).tolist() == pytest.approx([1, 1, 1])
    assert novelty([1, 2, 1], capacity=2).tolist() == pytest.approx([1, 1, 0])


def test_the_novelty_of_an_opposite_item_is_above_1() -> None:
    assert novelty([1, 4], capacity=1).tolist() == pytest.approx([1.0, 2.0])


def test_an_item_without_content_has_no_novelty_and_takes_none() -> None:
    found = novelty([5, 1, 5, 3], capacity=2)
    assert np.isnan(found).tolist() == [True, False, True, False]
    assert found[[1, 3]].tolist() == pytest.approx([1.0, 0.4])


def test_every_item_needs_a_vector() -> None:
    with pytest.raises(ValueError, match="2 vectors for 5 items"):
        Novelties(novelties_of([[1]], 1).interactions, VECTORS[:2], capacity=1)


def test_novelty_does_not_look_into_another_history() -> None:
    found = novelties_of([[1, 2], [1, 3, 5], [2, 1]], capacity=50).at(np.arange(7))
    assert found.tolist() == pytest.approx([1, 1, 1, 0.4, math.nan, 1, 1], nan_ok=True)


@pytest.mark.parametrize("capacity", [1, 3, 7])
def test_novelties_of_many_histories_agree_with_their_definition(capacity: int) -> None:
    generator = np.random.default_rng(capacity)
    items = 90  # several groups of items that are compared together
    vectors = generator.normal(size=(items + 1, 21)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[::6] = 0
    offsets = np.cumsum([0, *generator.integers(0, 60, size=20)])
    history = generator.integers(1, items + 1, size=offsets[-1]).astype(np.int32)
    expected = np.full(len(history), np.nan)
    for first, end in pairwise(offsets):
        for place in range(first, end):
            before = history[max(first, place - capacity) : place]
            before = before[before % 6 > 0]
            if history[place] % 6:
                cosines = vectors[before] @ vectors[history[place]]
                expected[place] = 1 - (cosines.max() if len(cosines) else 0)
    interactions = Interactions(offsets, history, np.arange(items + 1), np.arange(20))
    found = Novelties(interactions, vectors, capacity).at(np.arange(len(history)))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    # The bits do not hang on what else is asked, nor when.
    in_parts = Novelties(interactions, vectors, capacity)
    for places in np.array_split(generator.permutation(len(history)), 9):
        in_parts.at(places)
        assert np.array_equal(in_parts.at(places), found[places], equal_nan=True)


def test_the_histogram_counts_every_known_novelty_once() -> None:
    found = novelty_histogram(floats([0.0, 0.001, 1.0, 2.0, np.nan])[0])
    assert found.shape == (BINS,)
    assert found[[0, BINS // 2, BINS - 1]].tolist() == [2, 1, 1]
    assert found.sum() == 4


def test_the_histogram_takes_rounding_beyond_the_ends_into_the_last_bins() -> None:
    found = novelty_histogram(floats([-1e-6, 2.000001])[0])
    assert (found[0], found[-1]) == (1, 1)


def test_histograms_of_nodes_add_up_to_the_histogram_of_all() -> None:
    values = np.random.default_rng(0).uniform(0, 2, size=500).astype(np.float32)
    parts = [novelty_histogram(part) for part in np.split(values, [3, 100, 101])]
    assert np.array_equal(sum(parts), novelty_histogram(values))


@given(
    st.lists(st.integers(0, BINS - 1), min_size=1, max_size=200),
    st.sampled_from([0.01, 0.1, 0.25, 0.5, 0.9]),
)
@check(max_examples=100, deadline=None, derandomize=True)
def test_the_threshold_lets_no_more_than_the_ratio_through_and_at_least_half_of_it(
    bins: list[int], write_ratio: float
) -> None:
    values = (np.array(bins) + 0.5) * 2 / BINS  # in the middle of their bins
    edges = np.arange(BINS + 1) * 2 / BINS
    through = np.array([(values >= edge).mean() for edge in edges])
    lowest = np.flatnonzero(through <= write_ratio)[0]
    histogram = novelty_histogram(values.astype(np.float32))
    found = auto_threshold(histogram, write_ratio)
    share = written_share(histogram, found)
    assert write_ratio / 2 - 1e-9 <= share <= write_ratio + 1e-9
    if through[lowest] >= write_ratio / 2:
        assert found == pytest.approx(edges[lowest])
        assert share == pytest.approx(through[lowest])
    else:
        assert edges[lowest - 1] < found < edges[lowest]


def test_a_tenth_of_evenly_spread_novelties_is_above_the_threshold() -> None:
    assert auto_threshold(np.full(BINS, 7), 0.1) == pytest.approx(1.8)


def test_no_novelty_at_all_gives_a_threshold() -> None:
    assert 0.0 <= auto_threshold(np.zeros(BINS, np.int64), 0.1) <= 2.0
