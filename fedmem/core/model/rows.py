"""Rows of item tables for candidates."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


class Rows:
    """Rows [X, C, ...] of tables [I + 1, ...] for items [X, C].

    Where all items are ranked for somebody, one row of consecutive ids, they stand side by side in
    a table already: then, and where nothing is differentiated, nothing is copied.

    Args:
        items: [X, C] item ids.
    """

    def __init__(self, items: Tensor) -> None:
        self.items = items
        self.shared = len(items) == 1 and not torch.is_grad_enabled() and items.device.type == "cpu"
        """Whether all positions have these candidates, and may share what is computed for them."""
        self._in_place = _consecutive(items[0]) if self.shared else None

    def of(self, table: Tensor, padding: int | None = None) -> Tensor:
        """These rows of a table; the row of the `padding` gets no gradient."""
        if self._in_place is not None:
            return table[self._in_place].unsqueeze(0)
        return F.embedding(self.items, table, padding)

    def part(self, start: int, end: int) -> Rows:
        """Those of a stretch of the candidates; itself, where it is all of them."""
        return self if end - start >= self.items.shape[1] else Rows(self.items[:, start:end])


def _consecutive(items: Tensor) -> slice | None:
    """The stretch of a table that items [C] are; None: they are not side by side."""
    ids = items.numpy()  # on thousands of ids NumPy has answered before torch has begun
    if len(ids) < 2 or ids[-1] - ids[0] != len(ids) - 1:
        return None
    stretch = slice(int(ids[0]), int(ids[-1]) + 1)
    return stretch if np.array_equal(ids, np.arange(stretch.start, stretch.stop)) else None
