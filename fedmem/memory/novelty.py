"""Novelty: the vectors that it compares, its histogram, and the threshold found from it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fedmem.memory import kernel
from fedmem.memory.two_tier import Floats

BINS = 400
"""Bins of the histogram over [0, 2], the range of 1 − cosine."""


def item_vectors(visual: Floats, text: Floats) -> Floats:
    """norm(concat(norm v, norm t)) [I + 1, V + S] of visual [I + 1, V] and text [I + 1, S].

    Rows of items without any content stay zero.
    """

    def normalise(x: Floats) -> Floats:
        length = np.linalg.norm(x, axis=1, keepdims=True)
        unit: Floats = np.divide(x, length, out=np.zeros_like(x), where=length > 0)
        return unit

    return normalise(np.concatenate([normalise(visual), normalise(text)], axis=1))


def novelty(items: npt.NDArray[np.integer], vectors: Floats, capacity: int) -> Floats:
    """Novelty [n] of each item of a history against the `capacity` items before it.

    NaN for an item without content. It depends on no threshold, which is why one can be chosen
    from it.
    """
    chosen = vectors[items]
    values: Floats = kernel.novelties(chosen @ chosen.T, chosen.any(axis=1), capacity)
    return values


def novelty_histogram(values: Floats) -> npt.NDArray[np.int64]:
    """Counts [BINS] over [0, 2]: what a node tells of its users' novelties."""
    known = np.clip(values[~np.isnan(values)], 0.0, 2.0)
    return np.histogram(known, bins=BINS, range=(0.0, 2.0))[0].astype(np.int64)


def auto_threshold(histogram: npt.NDArray[np.int64], write_ratio: float) -> float:
    """The lowest bin edge that lets at most this share of the counted interactions through."""
    at_least = np.cumsum(histogram[::-1])[::-1]  # [BINS] interactions in this bin or above
    allowed = np.flatnonzero(at_least <= write_ratio * histogram.sum())
    return 2.0 * (int(allowed[0]) if len(allowed) else BINS) / BINS
