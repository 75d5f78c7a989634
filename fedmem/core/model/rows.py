"""Rows of item tables for candidates."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from fedmem.core.model.kernels.function import Function

NO_PADDING = -1


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
        self.in_place = _consecutive(items[0]) if self.shared else None
        """The stretch of a table that they are; None: they are not side by side, or not shared."""

    def of(self, table: Tensor, padding: int = NO_PADDING) -> Tensor:
        """These rows of a table; the row of the `padding` gets no gradient."""
        if self.in_place is not None:
            return table[self.in_place].unsqueeze(0)
        return look_up(table, self.items, padding)

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


def look_up(table: Tensor, items: Tensor, padding: int = NO_PADDING) -> Tensor:
    """Rows [..., K] of a table [I + 1, K] for items [...]; the `padding` has no gradient."""
    on_cpu = items.device.type == "cpu" and table.dtype in (torch.float32, torch.float64)
    if not on_cpu or not torch.is_grad_enabled():
        return F.embedding(items, table, None if padding == NO_PADDING else padding)
    rows: Tensor = _LookUp.apply(table, items, padding, len(table))  # type: ignore[no-untyped-call]
    return rows


class _LookUp(Function):
    """`F.embedding` of tables of so many rows, one below the other, each with its row of padding.

    The way back of torch's own takes three to ten times as long, for the same bits.
    """

    @staticmethod
    def forward(table: Tensor, items: Tensor, padding: int, rows: int) -> Tensor:  # noqa: ARG004
        return F.embedding(items, table)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG004
        table, items, ctx.padding, ctx.rows = inputs
        ctx.shape = table.shape
        ctx.save_for_backward(items)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        (items,) = ctx.saved_tensors
        gradient = slope.new_zeros(ctx.shape)
        slopes = slope.contiguous().view(items.numel(), ctx.shape[1])
        own = items.flatten().numpy()
        _add_rows(slopes.numpy(), own, ctx.padding, ctx.rows, gradient.numpy())
        return gradient, None, None, None

    @staticmethod
    def vmap(info: Any, dims: tuple[int | None, ...], *inputs: Any) -> tuple[Tensor, int]:
        """Tables of members one below the other, and their items counted on."""
        (table, items, padding, rows), (of_table, of_items, *_) = inputs, dims
        size = info.batch_size
        items = items.expand(size, *items.shape) if of_items is None else items.movedim(of_items, 0)
        if of_table is not None:
            table = table.movedim(of_table, 0)
            below = table.shape[1] * torch.arange(size).view(-1, *[1] * (items.dim() - 1))
            table, items = table.flatten(0, 1), items + below
        found = _LookUp.apply(table, items.flatten(0, 1), padding, rows)  # type: ignore[no-untyped-call]
        return found.view(*items.shape, -1), 0


@numba.njit(cache=True, nogil=True)
def _add_rows(slopes, items, padding, rows, gradient):  # type: ignore[no-untyped-def]
    for place in range(items.size):
        if items[place] % rows != padding:
            own, slope = gradient[items[place]], slopes[place]
            for k in range(slope.size):
                own[k] += slope[k]
