"""Rows of item tables for candidates, and products of states with them."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from fedmem.core.arrays import Floats, Ints
from fedmem.core.model.kernels.compiled import as_arrays, jit
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

    def products(self, states: Tensor, table: Tensor, padding: int = NO_PADDING) -> Tensor:
        """Inner products [X, Y, C] of states [X, Y, K] with these rows of a table [I + 1, K].

        The row of the `padding` gets no gradient.
        """
        reduced = torch.is_autocast_enabled(states.device.type)
        if reduced or not _is_compiled(table, self.items):
            return _products(states, self.of(table, padding))
        made: Tensor = _Products.apply(  # type: ignore[no-untyped-call]
            table, self.items, padding, len(table), states
        )
        return made

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
    if not _is_compiled(table, items):
        return F.embedding(items, table, None if padding == NO_PADDING else padding)
    rows: Tensor = _LookUp.apply(table, items, padding, len(table))  # type: ignore[no-untyped-call]
    return rows


def _is_compiled(table: Tensor, items: Tensor) -> bool:
    """Whether the way back of what is looked up is a compiled pass."""
    on_cpu = items.device.type == "cpu" and table.dtype in (torch.float32, torch.float64)
    return on_cpu and torch.is_grad_enabled()


def _products(states: Tensor, rows: Tensor) -> Tensor:
    """Inner products [X, Y, C] of [X, Y, K] and [X, C, K]."""
    if states.shape[1] == rows.shape[1] == 1:  # thousands of tiny matrices are slow to multiply
        return (states * rows).sum(-1, keepdim=True)
    return states @ rows.mT


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
        _add_rows(*_listed(slope, items), ctx.padding, ctx.rows, gradient.numpy())
        return gradient, None, None, None

    @staticmethod
    def vmap(info: Any, dims: tuple[int | None, ...], *inputs: Any) -> tuple[Tensor, int]:
        """Tables of members one below the other, and their items counted on."""
        table, items = _below_each_other(info.batch_size, dims, *inputs[:2])
        found = _LookUp.apply(table, items.flatten(0, 1), *inputs[2:])  # type: ignore[no-untyped-call]
        return found.view(*items.shape, -1), 0


class _Products(Function):
    """`_products` of states [X, Y, K] and rows that are looked up, without what lies in between.

    Rows that are multiplied one by one are never held, nor is each one's gradient; those of a
    matrix product come out as they are added up.
    """

    @staticmethod
    def forward(table: Tensor, items: Tensor, padding: int, rows: int, states: Tensor) -> Tensor:  # noqa: ARG004
        if states.shape[1] > 1 or items.shape[1] > 1:
            return _products(states, F.embedding(items, table))
        made = states.new_empty(len(items), 1, 1)
        _multiply_rows(*_listed(states, items), *as_arrays(table), made.view(-1).numpy())
        return made

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG004
        table, items, ctx.padding, ctx.rows, states = inputs
        ctx.save_for_backward(table, items, states)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        table, items, states = ctx.saved_tensors
        by_table, by_states = None, None
        one_by_one = states.shape[1] == items.shape[1] == 1
        if ctx.needs_input_grad[0]:
            by_table = torch.zeros_like(table)
            into = (ctx.padding, ctx.rows, by_table.numpy())
            if one_by_one:
                weights = slope.contiguous().view(-1).numpy()
                _add_scaled_rows(weights, *_listed(states, items), *into)
            else:
                _add_rows(*_listed(slope.mT @ states, items), *into)
        if ctx.needs_input_grad[4]:
            rows = F.embedding(items, table)
            by_states = slope * rows if one_by_one else slope @ rows
        return by_table, None, None, None, by_states

    @staticmethod
    def vmap(info: Any, dims: tuple[int | None, ...], *inputs: Any) -> tuple[Tensor, int]:
        """As rows are looked up, by the states of all members."""
        table, items = _below_each_other(info.batch_size, dims, *inputs[:2])
        states = _members_first(info.batch_size, dims[4], inputs[4])
        asked = (table, items.flatten(0, 1), *inputs[2:4], states.flatten(0, 1))
        made = _Products.apply(*asked)  # type: ignore[no-untyped-call]
        return made.view(*states.shape[:3], -1), 0


def _members_first(size: int, dim: int | None, x: Tensor) -> Tensor:
    """[S, ...] of what so many members have, or share."""
    return x.expand(size, *x.shape) if dim is None else x.movedim(dim, 0)


def _below_each_other(
    size: int, dims: tuple[int | None, ...], table: Tensor, items: Tensor
) -> tuple[Tensor, Tensor]:
    """Members' tables [I + 1, K] as one, and their items [S, ...] counted on."""
    items = _members_first(size, dims[1], items)
    if dims[0] is None:
        return table, items
    table = table.movedim(dims[0], 0)
    below = table.shape[1] * torch.arange(size).view(-1, *[1] * (items.dim() - 1))
    return table.flatten(0, 1), items + below


def _listed(slopes: Tensor, items: Tensor) -> tuple[Floats, Ints]:
    """Rows [N, K] that belong to items, and the items [N]."""
    rows = slopes.contiguous().view(items.numel(), slopes.shape[-1])
    return rows.numpy(), items.flatten().numpy()


@numba.njit(cache=True, nogil=True)
def _add_rows(slopes, items, padding, rows, gradient):  # type: ignore[no-untyped-def]
    for place in range(items.size):
        if items[place] % rows != padding:
            own, slope = gradient[items[place]], slopes[place]
            for k in range(slope.size):
                own[k] += slope[k]


@jit
def _multiply_rows(states, items, table, made):  # type: ignore[no-untyped-def]
    zero = np.zeros(1, made.dtype)[0]
    for place in range(items.size):
        state, row, total = states[place], table[items[place]], zero
        for k in range(state.size):
            total += state[k] * row[k]
        made[place] = total


@numba.njit(cache=True, nogil=True)
def _add_scaled_rows(weights, slopes, items, padding, rows, gradient):  # type: ignore[no-untyped-def]
    for place in range(items.size):
        if items[place] % rows != padding:
            own, slope, weight = gradient[items[place]], slopes[place], weights[place]
            for k in range(slope.size):
                own[k] += weight * slope[k]
