"""Rows of item tables for candidates."""

from __future__ import annotations

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
    if len(items) < 2 or int(items[-1]) - int(items[0]) != len(items) - 1:
        return False
    return bool((items.diff() == 1).all())
