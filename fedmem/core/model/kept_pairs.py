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
"""Of entries [N]: their odds, and these times v·u, with all candidates; [H, N, C] each."""

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
        dtype: of the rows.
    """

    def __init__(
        self,
        pairs_of: PairsOf,
        heads: int,
        candidates: int,
        entries: int,
        first: Ints,
        dtype: torch.dtype,
    ) -> None:
        self._pairs_of = pairs_of
        # Place 0 is that of no entry: its odds are 0.
        self.odds, self.weighted = torch.zeros(2, heads, entries + 1, candidates, dtype=dtype)
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

    def places(self, items: Tensor) -> Tensor | None:
        """Places [...] in `odds` and `weighted` of the entries [...], 0 where there is none.

        None: they are more than have a place.
        """
        asked = items.numpy()
        held = np.unique(asked)
        held = held[held > 0]
        if len(held) >= len(self._item):
            return None
        self._now += 1
        self._asked[self._place[held]] = self._now
        unknown = held[self._place[held] == 0]
        if len(unknown):
            self._take_in(unknown)
        return torch.from_numpy(self._place[asked])

    def _take_in(self, items: npt.NDArray[np.integer]) -> None:
        longest_ago = 1 + np.argsort(self._asked[1:], kind="stable")[: len(items)]
        self._place[self._item[longest_ago]] = 0
        self._place[items], self._item[longest_ago] = longest_ago, items
        self._asked[longest_ago] = self._now
        self._now += 1
        places = torch.from_numpy(longest_ago)
        self.odds[:, places], self.weighted[:, places] = self._pairs_of(torch.from_numpy(items))
