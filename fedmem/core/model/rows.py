"""Rows of item tables for candidates."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


def rows_of(table: Tensor, items: Tensor, padding: int | None = None) -> Tensor:
    """Rows [X, C, ...] of a table [I + 1, ...] for items [X, C].

    Where all items are ranked for somebody, one row of consecutive ids, they stand side by side in
    the table already: then, and where nothing is differentiated, nothing is copied. The row of the
    `padding` gets no gradient.
    """
    shared = len(items) == 1 and not torch.is_grad_enabled() and items.device.type == "cpu"
    if shared and _consecutive(items[0]):
        first = int(items[0, 0])
        return table[first : first + items.shape[1]].unsqueeze(0)
    return F.embedding(items, table, padding)


def _consecutive(items: Tensor) -> bool:
    ids = items.numpy()  # on thousands of ids NumPy has answered before torch has begun
    if len(ids) < 2 or ids[-1] - ids[0] != len(ids) - 1:
        return False
    return np.array_equal(ids, np.arange(ids[0], ids[-1] + 1))
