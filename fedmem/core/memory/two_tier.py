"""The two-tier memory of one user: what the experts of stage 3 read.

Entries *refer* to items; embeddings are looked up when the memory is read, so a memory follows the
model as it trains and takes a few hundred bytes to keep.

- **Short-term (ST)**: the latest items, first in first out.
- **Long-term (LT)**: items that were novel when they came. Novelty is 1 − the largest cosine to
  the items in ST, of the vectors of `item_vectors`. An item whose nearest LT entry is similar
  enough is merged into that entry instead; when LT is full, the entry of the least utility makes
  room: utility = ln(1 + frequency) + exp(−age · ln 2 / half-life), age in interactions.
- An item without content cannot be novel: it is written when it was a surprise, that is when the
  model's loss on it reached a threshold.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fedmem.core.arrays import Floats, Ints
from fedmem.core.memory import kernel
from fedmem.core.memory.novelty import catalogue_of
from fedmem.core.settings import MemorySettings


@dataclass(frozen=True)
class MemoryState:
    """All that is kept of one user's memory.

    Attributes:
        counters: [5] interactions ingested, promotions, merges, evictions, surprises.
        short_term: [st_size] item ids, oldest first.
        long_term: [lt_size, 3] item id, step of the last write, frequency; in order of insertion.
    """

    counters: Ints
    short_term: Ints
    long_term: Ints

    @classmethod
    def empty(cls) -> MemoryState:
        """The state of a memory that has seen nothing."""
        return cls(np.zeros(5, np.int32), np.zeros(0, np.int32), np.zeros((0, 3), np.int32))


@dataclass(frozen=True)
class MemoryStatistics:
    """Figures of one memory, or the sums over many. A write is a promotion to LT or a merge."""

    st_size: int
    lt_size: int
    st_capacity: int
    lt_capacity: int
    ingested: int
    promotions: int
    merges: int
    evictions: int
    surprises: int

    @classmethod
    def of(
        cls, settings: MemorySettings, counters: Ints, lt_size: int, memories: int
    ) -> MemoryStatistics:
        """Of so many memories with these counters [n, 5], as of `MemoryState`, and LT entries."""
        short_term = np.minimum(counters[:, kernel.INGESTED], settings.short_term_capacity)
        capacities = settings.short_term_capacity, settings.long_term_capacity
        sizes = int(short_term.sum()), lt_size
        return cls(*sizes, *(memories * each for each in capacities), *counters.sum(0).tolist())

    @property
    def writes(self) -> int:
        """Writes to the long-term tier."""
        return self.promotions + self.merges

    @property
    def write_ratio(self) -> float:
        """Writes to the long-term tier per interaction."""
        return self.writes / self.ingested if self.ingested else 0.0


def rules_of(settings: MemorySettings, threshold: float, top_k: int) -> kernel.Rules:
    """The rules as the compiled loops want them, for reads of `top_k` entries."""
    return kernel.Rules(
        settings.short_term_capacity,
        settings.long_term_capacity,
        float(threshold),
        settings.merge_similarity,
        float(settings.half_life),
        math.ceil(top_k * settings.short_term_share),
        settings.threshold == "auto",
    )


class TwoTierMemory:
    """One user's memory.

    Args:
        settings: capacities and rules.
        threshold: novelty from which an item is written; see `fedmem.core.memory.auto_threshold`.
        vectors: [I + 1, W] from `item_vectors`, shared by all users; or `catalogue_of` them, where
            many memories are made.
        state: an earlier memory's `state`, to go on from.
    """

    def __init__(
        self,
        settings: MemorySettings,
        threshold: float,
        vectors: Floats | kernel.Catalogue,
        state: MemoryState | None = None,
    ) -> None:
        self._settings = settings
        self._threshold = threshold
        made = vectors if isinstance(vectors, kernel.Catalogue) else catalogue_of(vectors)
        self._catalogue = made
        self._state = state or MemoryState.empty()

    @property
    def state(self) -> MemoryState:
        """What has to be kept to go on later; never changed in place."""
        return self._state

    def update(self, item_id: int, loss: float = 0.0) -> None:
        """Ingest the user's next interaction.

        Args:
            item_id: dense item id, at least 1.
            loss: the model's loss on it, read only where the item has no content.
        """
        self.extend(np.array([item_id]), np.array([loss]))

    def extend(
        self,
        items: npt.NDArray[np.integer],
        losses: npt.NDArray[np.floating] | None = None,
        read_at: Sequence[int] | npt.NDArray[np.integer] = (),
        top_k: int | None = None,
    ) -> Ints:
        """Ingest interactions in time order, in one compiled pass.

        Args:
            items: [n] dense item ids.
            losses: [n] the model's losses, read only where an item has no content; None: zeros.
            read_at: ascending counts in 0..n; count c reads the memory after the first c items.
            top_k: entries a read; None: the setting.

        Returns:
            What `retrieve` would have given at each count: item ids [len(read_at), top_k].
        """
        settings, before = self._settings, self._state
        largest = len(self._catalogue.vectors) - 1
        if len(items) and not 1 <= items.min() <= items.max() <= largest:
            raise ValueError(f"item ids must be from 1 to {largest}")
        capacity = settings.short_term_capacity
        known = np.concatenate([before.short_term, items]).astype(np.int32)
        start, end = len(before.short_term), len(known)
        places = np.arange(start, end)
        familiarity = np.zeros(end, dtype=np.float32)
        familiarity[start:] = kernel.familiarities(
            known, places, np.maximum(places - capacity, 0), self._catalogue
        )
        surprising = np.zeros(end, dtype=np.bool_)
        if losses is not None:
            surprising[start:] = losses >= settings.surprise_threshold
        width = settings.top_k if top_k is None else top_k
        reads = kernel.Reads(
            place=np.asarray(read_at, dtype=np.int64) + start,
            ends=np.array([len(read_at)]),
            row=np.arange(len(read_at)),
            found=np.zeros((len(read_at), width), dtype=np.int32),
        )
        counters = before.counters[None].copy()
        long_term = kernel.ingest(
            kernel.History(known, familiarity, surprising),
            kernel.Spans(np.array([0]), np.array([start]), np.array([end])),
            counters,
            np.array([len(before.long_term)]),
            before.long_term,
            reads,
            self._catalogue,
            rules_of(settings, self._threshold, width),
        )
        self._state = MemoryState(counters[0], known[max(0, end - capacity) :], long_term)
        return reads.found

    def retrieve(self, top_k: int | None = None) -> tuple[Ints, npt.NDArray[np.bool_]]:
        """The entries that the experts read.

        The latest of ST for its share, then the most useful of LT; where LT cannot fill its share,
        more of ST. No item stands twice.

        Returns:
            Item ids [top_k], 0 where there is no entry, and the mask [top_k] of real entries.
        """
        items = self.extend(np.zeros(0, dtype=np.int32), read_at=[0], top_k=top_k)[0]
        return items, items > 0

    def statistics(self) -> MemoryStatistics:
        """Sizes, capacities and counts."""
        state = self._state
        return MemoryStatistics.of(self._settings, state.counters[None], len(state.long_term), 1)
