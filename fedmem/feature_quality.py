"""Whether vectors know anything of what users do: neighbours in histories are more alike."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fedmem.data import Interactions

CONFIDENCE = 1.96
"""Standard errors on each side of a difference: 95%."""

TINY = 1e-12
"""Instead of the length of a vector of zeros."""


@dataclass(frozen=True)
class NeighbourSimilarity:
    """Mean cosines, and their difference with its 95% interval. NaN where no pair has vectors."""

    neighbours: float
    """Of items that follow each other in a history."""
    random: float
    """Of items that do not, drawn as often as they occur."""
    difference: float
    low: float
    high: float


def neighbour_similarity(
    vectors: npt.NDArray[np.floating], interactions: Interactions, seed: int, pairs: int = 10_000
) -> NeighbourSimilarity:
    """Compare neighbours in training histories with pairs drawn at random.

    Each neighbouring pair (i, j) is set against (i, k) with k the item of any other training
    interaction, so popular items are in both alike; the interval is that of the mean of these
    paired differences. Pairs of an item with itself, or without a vector, are left out.

    Args:
        vectors: [I + 1, W]; a row of zeros has no vector.
        interactions: histories; the two held-out items of each are not looked at.
        seed: of the draw.
        pairs: drawn at most.
    """
    generator = np.random.default_rng(seed)
    items = interactions.items
    held_out = np.zeros(len(items), dtype=np.bool_)
    for back in (1, 2):
        held_out[interactions.offsets[1:] - back] = True
    training = np.flatnonzero(~held_out)
    followed = training[~held_out[np.minimum(training + 1, len(items) - 1)]]
    if not len(followed):
        return NeighbourSimilarity(*[float("nan")] * 5)
    here = generator.choice(followed, size=pairs)
    one, other, anyone = items[here], items[here + 1], items[generator.choice(training, size=pairs)]
    known = np.asarray(vectors.any(axis=1), dtype=np.bool_)
    usable = known[one] & known[other] & known[anyone] & (one != other) & (one != anyone)
    one, other, anyone = one[usable], other[usable], anyone[usable]
    if len(one) < 2:
        return NeighbourSimilarity(*[float("nan")] * 5)
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), TINY)
    near, far = ((unit[one] * unit[to]).sum(axis=1, dtype=np.float64) for to in (other, anyone))
    gains = near - far
    difference = float(gains.mean())
    margin = CONFIDENCE * float(gains.std(ddof=1)) / float(np.sqrt(len(gains)))
    return NeighbourSimilarity(
        neighbours=float(near.mean()),
        random=float(far.mean()),
        difference=difference,
        low=difference - margin,
        high=difference + margin,
    )
