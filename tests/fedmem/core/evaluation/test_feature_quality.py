"""Neighbours and random items: known by hand, found where they differ, not where they do not."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from fedmem.core.data import Interactions
from fedmem.core.evaluation.feature_quality import NeighbourSimilarity, neighbour_similarity


def interactions_of(histories: list[list[int]], num_items: int) -> Interactions:
    return Interactions(
        offsets=np.cumsum([0, *map(len, histories)]),
        items=np.concatenate(histories).astype(np.int32),
        item_ids=np.arange(num_items + 1),
        user_ids=np.arange(len(histories)),
    )


def two_tastes(generator: np.random.Generator, users: int) -> list[list[int]]:
    """Each user keeps to items 1-10 or to items 11-20."""
    return [(generator.permutation(10) + 1 + 10 * (u % 2)).tolist() for u in range(users)]


def by_group() -> npt.NDArray[np.float32]:
    vectors = np.zeros((21, 2), dtype=np.float32)
    vectors[1:11, 0], vectors[11:, 1] = 2.0, 0.5  # lengths do not matter
    return vectors


def test_two_groups_at_right_angles_give_their_known_cosines() -> None:
    histories = two_tastes(np.random.default_rng(0), 200)
    found = neighbour_similarity(by_group(), interactions_of(histories, 20), seed=0)
    assert found.neighbours == pytest.approx(1.0)
    # A random other item is of the same group 9 times of 19, since the same item does not count.
    assert found.random == pytest.approx(9 / 19, abs=0.02)
    assert found.difference == pytest.approx(found.neighbours - found.random)
    assert found.low < found.difference < found.high


def test_the_interval_holds_zero_for_vectors_that_know_nothing() -> None:
    generator = np.random.default_rng(5)
    interactions = interactions_of(two_tastes(generator, 300), 20)
    holds = 0
    for seed in range(20):
        vectors = np.random.default_rng(seed).normal(size=(21, 400))
        vectors[0] = 0
        # Unlike in truth, tastes are mixed here: shuffle items over users.
        mixed = Interactions(
            interactions.offsets,
            np.random.default_rng(seed).integers(
                1, 21, size=len(interactions.items), dtype=np.int32
            ),
            interactions.item_ids,
            interactions.user_ids,
        )
        found = neighbour_similarity(vectors, mixed, seed, pairs=2000)
        holds += found.low <= 0 <= found.high
    assert holds >= 16  # 19 of 20 are expected


def test_the_interval_counts_users_not_pairs() -> None:
    """Four users give a wide interval however many pairs are drawn of them."""
    generator = np.random.default_rng(3)
    vectors = generator.normal(size=(41, 3))
    histories = [[(u * 10 + k) % 40 + 1 for k in range(10)] for u in range(4)]
    few = neighbour_similarity(vectors, interactions_of(histories, 40), 0, pairs=1000)
    many = neighbour_similarity(vectors, interactions_of(histories, 40), 0, pairs=100_000)
    assert many.high - many.low > 0.5 * (few.high - few.low)


def test_held_out_items_items_without_content_and_repeats_make_no_pair() -> None:
    vectors = np.array([[0, 0], [1, 0], [1, 0], [0, 1], [0, 0]])
    # In training: 1 2 | 1 1 2; the 3 and the 4 are held out or have no vector.
    interactions = interactions_of([[1, 2, 3, 3], [1, 1, 2, 3, 3], [4, 1, 4, 2, 3, 3]], 4)
    found = neighbour_similarity(vectors, interactions, seed=0)
    assert (found.neighbours, found.random) == (pytest.approx(1), pytest.approx(1))


def test_the_same_seed_gives_the_same_numbers() -> None:
    interactions = interactions_of(two_tastes(np.random.default_rng(0), 50), 20)
    one, same, other = (neighbour_similarity(by_group(), interactions, s) for s in (1, 1, 2))
    assert one == same != other


@pytest.mark.parametrize("histories", [[[1, 2, 3, 3]], [[1, 2, 3], [2, 1, 3]], [[1, 1, 3, 3]] * 2])
def test_too_little_to_compare_is_nan(histories: list[list[int]]) -> None:
    found = neighbour_similarity(np.eye(4)[:, 1:], interactions_of(histories, 3), seed=0)
    assert isinstance(found, NeighbourSimilarity)
    assert math.isnan(found.difference)
    assert math.isnan(found.low)
