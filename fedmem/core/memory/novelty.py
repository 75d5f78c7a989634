"""Novelty: the vectors that it compares, its histogram, and the threshold found from it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fedmem.core.arrays import Floats, Places
from fedmem.core.data import Interactions
from fedmem.core.memory import kernel
from fedmem.core.memory.kernel import BINS


def item_vectors(visual: Floats, text: Floats) -> Floats:
    """norm(concat(norm v, norm t)) [I + 1, V + S] of visual [I + 1, V] and text [I + 1, S].

    Rows of items without any content stay zero.
    """

    def normalise(x: Floats) -> Floats:
        length = np.linalg.norm(x, axis=1, keepdims=True)
        unit: Floats = np.divide(x, length, out=np.zeros_like(x), where=length > 0)
        return unit

    return normalise(np.concatenate([normalise(visual), normalise(text)], axis=1))


def catalogue_of(vectors: Floats) -> kernel.Catalogue:
    """Vectors [I + 1, W] as the compiled loops want them."""
    has_content = np.asarray(vectors.any(axis=1), dtype=np.bool_)
    return kernel.Catalogue(np.ascontiguousarray(vectors, np.float32), has_content)


class Novelties:
    """Novelty of every interaction: 1 − the largest cosine of its item to the items then in ST.

    It depends on the vectors [I + 1, W] of `item_vectors`, on how many items ST holds, and on
    nothing that a memory wrote. So each is computed once, when it is first asked for, and serves
    all memories of these histories.
    """

    def __init__(self, interactions: Interactions, vectors: Floats, capacity: int) -> None:
        if len(vectors) != interactions.num_items + 1:
            raise ValueError(f"{len(vectors)} vectors for {interactions.num_items} items and 0")
        self.interactions = interactions
        self.catalogue = catalogue_of(vectors)
        self._capacity = capacity
        self._familiarity = np.full(len(interactions.items), np.nan, dtype=np.float32)

    def familiarity(self, places: Places) -> Floats:
        """[N] 1 − novelty of all interactions, known at least at these places; else NaN.

        It is kept in this form, since 1 − x would round away what the comparison with a threshold
        may hang on.
        """
        new = places[np.isnan(self._familiarity[places])]
        earliest = np.maximum(self.interactions.starts_at(new), new - self._capacity)
        self._familiarity[new] = kernel.familiarities(
            self.interactions.items, new, earliest, self.catalogue
        )
        return self._familiarity

    def at(self, places: Places) -> Floats:
        """Novelty [n] at these places; NaN for an item without content."""
        has_content = self.catalogue.has_content[self.interactions.items[places]]
        return np.where(has_content, 1 - self.familiarity(places)[places], np.nan)


def novelty_histogram(values: Floats) -> npt.NDArray[np.int64]:
    """Counts [BINS] over [0, 2]: what a node sends of its users' novelties."""
    known = np.clip(values[~np.isnan(values)], 0.0, 2.0)
    return np.histogram(known, bins=BINS, range=(0.0, 2.0))[0].astype(np.int64)


def auto_threshold(histogram: npt.NDArray[np.int64], write_ratio: float) -> float:
    """The lowest bin edge that lets at most this share of the counted interactions through.

    Where it lets less than half of the share through, many interactions are equally novel: where
    histories are short, the first ones, with nothing before them. The threshold is then inside
    their bin, so that a part of them makes up the share, see `kernel.is_novel`.
    """
    at_least = np.cumsum(histogram[::-1])[::-1]  # [BINS] interactions in this bin or above
    wanted = write_ratio * histogram.sum()
    allowed = np.flatnonzero(at_least <= wanted)
    edge = int(allowed[0]) if len(allowed) else BINS
    through = int(at_least[edge]) if edge < BINS else 0
    if through < wanted / 2:
        return 2.0 * (edge - float(wanted - through) / int(histogram[edge - 1])) / BINS
    return 2.0 * edge / BINS


def written_share(histogram: npt.NDArray[np.int64], threshold: float) -> float:
    """The share of the counted interactions that a threshold of `auto_threshold` lets through."""
    place = threshold * BINS / 2
    edge = int(place + 1e-6)
    above = histogram[edge + 1 :].sum() + (
        histogram[edge] * min(1.0, edge + 1 - place) if edge < BINS else 0
    )
    return float(above / max(histogram.sum(), 1))
