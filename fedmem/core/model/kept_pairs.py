"""Kept pairs: what an entry has to do with every candidate, computed once for many requests.

Where one model ranks all items for one memory after another, most of the time goes into products of
the memory's entries with all items, and the same entries come up again and again. Their rows are
kept in a table of fixed size; those that were not asked for the longest make room.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fedmem.core.arrays import Ints

PairsOf = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Of entries [N]: their logits with all candidates, and v·u; [H, N, C] each."""

AT_ONCE = 64
"""Entries whose rows are made at a time."""


class KeptPairs:
    """Rows of pairs for the entries that were asked for last. For one thread at a time.

    Args:
        pairs_of: makes rows; it is called without a gradient.
        heads: H of a row.
        candidates: C of a row, all items there are.
        entries: how many have a place, at least 1.
        first: item ids of the entries to begin with, the most wanted first.
    """

    def __init__(
        self,
        pairs_of: PairsOf,
        heads: int,
        candidates: int,
        entries: int,
        first: Ints,
    ) -> None:
        self._pairs_of = pairs_of
        self.entries = entries
        self.logits = torch.zeros(heads, entries + 1, candidates)
        """At each place; place 0 is nobody's."""
        self.along = torch.zeros(heads, entries + 1, candidates)
        """v·u at each place."""
        self._place = np.zeros(candidates + 1, np.int64)
        """Of each item; 0: it has none."""
        self._item = np.zeros(entries + 1, np.int64)
        """At each place; 0: none yet."""
        self._asked = np.zeros(entries + 1, np.int64)
        """When each place was asked for last."""
        self._now = 1
        wanted = first[:entries][::-1].copy()  # the first to make room comes first
        for start in range(0, len(wanted), AT_ONCE):
            self._take_in(wanted[start : start + AT_ONCE])

    def serve(self, candidates: slice | None, entries: int) -> bool:
        """Whether memories of so many entries can be read here for this stretch of items."""
        return candidates == slice(1, len(self._place)) and entries <= self.entries

    def places(self, held: Ints) -> npt.NDArray[np.int64]:
        """Where in the tables `logits` and `along` entries [M] are, as many as `entries` at most.

        Until the next call: those that it asks for may take their places.
        """
        self._now += 1
        self._asked[self._place[held]] = self._now
        unknown = held[self._place[held] == 0]
        if len(unknown):
            self._take_in(np.unique(unknown))
        return self._place[held]

    def _take_in(self, items: npt.NDArray[np.integer]) -> None:
        longest_ago = 1 + np.argsort(self._asked[1:], kind="stable")[: len(items)]
        self._place[self._item[longest_ago]] = 0
        self._place[items], self._item[longest_ago] = longest_ago, items
        self._asked[longest_ago] = self._now
        self._now += 1
        places = torch.from_numpy(longest_ago)
        self.logits[:, places], self.along[:, places] = self._pairs_of(torch.from_numpy(items))
