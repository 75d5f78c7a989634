"""Neighbours in histories against random pairs: by hand, on clusters, on noise."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fedmem.data import Interactions
from fedmem.feature_quality import neighbour_similarity


def histories(*items: list[int]) -> Interactions:
    return Interactions(
        offsets=np.cumsum([0, *map(len, items)]).astype(np.int64),
        items=np.concatenate(items).astype(np.int32),
        item_ids=np.arange(1 + max(map(max, items)), dtype=np.int64),
        user_ids=np.arange(len(items), dtype=np.int64),
    )


def test_clusters_are_found_by_hand() -> None:
    """Two users, each with two like items; a random other item is alike once in three."""
    found = neighbour_similarity(
        np.array([[0, 0], [1, 0], [2, 0], [0, 1], [0, 3.0]]),
        histories([1, 2, 9, 9], [3, 4, 9, 9]),
        seed=0,
    )
    assert found.neighbours == 1.0
    assert found.random == pytest.approx(1 / 3, abs=0.03)
    assert found.difference == pytest.approx(found.neighbours - found.random)
    assert found.low < found.difference < found.high
    assert found.low > 0.6


def test_noise_is_no_better_than_chance() -> None:
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(501, 16))
    walks = [list(generator.integers(1, 501, size=40)) for _ in range(50)]
    found = neighbour_similarity(vectors, histories(*walks), seed=0)
    assert found.low < 0 < found.high


def test_held_out_items_change_nothing() -> None:
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(31, 4))
    walks = [list(generator.integers(1, 25, size=10)) for _ in range(5)]
    others = [[*walk[:-2], 29, 30] for walk in walks]
    one, other = (
        neighbour_similarity(vectors, histories(*w, [30] * 3), 1) for w in (walks, others)
    )
    assert one == other


@pytest.mark.parametrize("rows", [[1, 2, 3], [1, 2, 3, 4]])
def test_where_no_pair_has_vectors_nothing_is_known(rows: list[int]) -> None:
    found = neighbour_similarity(np.zeros((5, 3)), histories(rows), seed=0)
    assert all(math.isnan(value) for value in vars(found).values())
