"""Kept pairs: what an entry has to do with every candidate, computed once for many requests.

Where one model ranks all items for one memory after another, most of the time goes into products of
the memory's entries with all items, and the same entries come up again and again. Their rows are
kept in a table of fixed size; those that were not asked for the longest make room.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

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
        candidates: C of a row.
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
        self._places: OrderedDict[int, int] = OrderedDict()
        """Of each entry that has one; those that were not asked for the longest come first."""
        self._free = list(range(entries, 0, -1))
        wanted = first[:entries][::-1].tolist()
        for start in range(0, len(wanted), AT_ONCE):
            self._take_in(wanted[start : start + AT_ONCE])

    def places(self, items: Tensor) -> Tensor | None:
        """Places [...] in `odds` and `weighted` of the entries [...], 0 where there is none.

        None: they are more than have a place.
        """
        held = dict.fromkeys(items.flatten().tolist())
        held.pop(0, None)
        if len(held) > self.odds.shape[1] - 1:
            return None
        unknown = [item for item in held if item not in self._places]
        for item in held:
            if item in self._places:
                self._places.move_to_end(item)
        if unknown:
            self._take_in(unknown)
        of = {0: 0} | {item: self._places[item] for item in held}
        return torch.tensor([of[item] for item in items.flatten().tolist()]).view(items.shape)

    def _take_in(self, items: list[int]) -> None:
        while len(self._free) < len(items):
            self._free.append(self._places.popitem(last=False)[1])
        taken = [self._free.pop() for _ in items]
        self.odds[:, taken], self.weighted[:, taken] = self._pairs_of(torch.tensor(items))
        self._places.update(zip(items, taken, strict=True))
