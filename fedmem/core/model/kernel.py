"""What is computed for every pair of position and candidate, in one compiled pass on CPUs.

As tensor operations these sums write and read arrays of [positions, candidates, units or entries]
some ten times; in one pass the arrays stay in the cache or are never made. On other devices the
same is a few tensor operations.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

jit: Any = numba.njit(cache=True, fastmath=True, nogil=True)
Arrays = list[npt.NDArray[np.floating]]


def relu_dot(positions: Tensor, items: Tensor, directions: Tensor) -> Tensor:
    """Σ_g relu(p_yg + q_cg) · u_yg for all pairs [X, Y, C].

    Args:
        positions: p [X, Y, G].
        items: q [X, C, G].
        directions: u [X, Y, G].
    """
    result: Tensor = _ReluDot.apply(*_full(positions, items, directions))  # type: ignore[no-untyped-call]
    return result


def read_out_moments(
    attention: Tensor, along: Tensor, sums: Tensor, gram: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Of read-outs o = Σ_m a_m v_m, joined from H heads: o·u, the sum of o and o·o, each [X, C, Y].

    Args:
        attention: a [X, H, C, Y, M].
        along: v·u [X, H, C, Y, M].
        sums: the sum of v [X, H, Y, M].
        gram: v·v' [X, H, Y, M, M].
    """
    result: tuple[Tensor, Tensor, Tensor] = _ReadOutMoments.apply(  # type: ignore[no-untyped-call]
        *_full(attention, along, sums, gram)
    )
    return result


def _full(*tensors: Tensor) -> list[Tensor]:
    """Tensors of reduced precision in full, the others as they are."""
    return [x.float() if x.dtype == torch.bfloat16 else x for x in tensors]


class _Folding(torch.autograd.Function):
    """A function whose first axis is a mere batch axis: `vmap` puts its own there."""

    @classmethod
    def vmap(cls, info: Any, dims: tuple[int | None, ...], *inputs: Tensor) -> Any:
        size = info.batch_size
        folded = [
            (x.expand(size, *x.shape) if dim is None else x.movedim(dim, 0)).flatten(0, 1)
            for x, dim in zip(inputs, dims, strict=True)
        ]
        result = cls.apply(*folded)  # type: ignore[no-untyped-call]
        if isinstance(result, Tensor):
            return result.view(size, -1, *result.shape[1:]), 0
        return tuple(x.view(size, -1, *x.shape[1:]) for x in result), (0,) * len(result)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Any) -> None:  # noqa: ARG004
        ctx.save_for_backward(*inputs)


class _ReluDot(_Folding):
    @staticmethod
    def forward(positions: Tensor, items: Tensor, directions: Tensor) -> Tensor:
        if positions.device.type != "cpu":
            units = torch.relu(positions.unsqueeze(2) + items.unsqueeze(1))  # [X, Y, C, G]
            return (units @ directions.unsqueeze(3)).squeeze(3)
        scores = positions.new_empty(*positions.shape[:2], items.shape[1])
        _relu_dot(*as_arrays(positions, items, directions), scores.numpy())
        return scores

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, ...]:
        positions, items, directions = ctx.saved_tensors
        if slope.device.type != "cpu":
            units = torch.relu(positions.unsqueeze(2) + items.unsqueeze(1))  # [X, Y, C, G]
            by_unit = slope.unsqueeze(3) * directions.unsqueeze(2) * (units > 0)
            return by_unit.sum(2), by_unit.sum(1), (slope.unsqueeze(2) @ units).squeeze(2)
        gradients = tuple(x.new_zeros(x.shape) for x in ctx.saved_tensors)
        _relu_dot_backward(*as_arrays(*ctx.saved_tensors, slope), *as_arrays(*gradients))
        return gradients


class _ReadOutMoments(_Folding):
    @staticmethod
    def forward(attention: Tensor, along: Tensor, sums: Tensor, gram: Tensor) -> tuple[Tensor, ...]:
        if attention.device.type != "cpu":
            spread = attention.transpose(2, 3)  # [X, H, Y, C, M]
            return (
                (attention * along).sum((1, 4)),
                (attention * sums.unsqueeze(2)).sum((1, 4)),
                (spread @ gram * spread).sum((1, 4)).mT,
            )
        rows, _, candidates, length, _ = attention.shape
        moments = tuple(attention.new_zeros(rows, candidates, length) for _ in range(3))
        _moments(*as_arrays(attention, along, sums, gram), *as_arrays(*moments))
        return moments

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, ...]:
        attention, along, sums, gram = ctx.saved_tensors
        if attention.device.type != "cpu":
            by_along, by_sum, by_square = (x.unsqueeze(1).unsqueeze(4) for x in slopes)
            spread = attention.transpose(2, 3)  # [X, H, Y, C, M]
            squared = by_square * attention  # [X, H, C, Y, M]
            by_attention = by_along * along + by_sum * sums.unsqueeze(2)
            return (
                by_attention + 2 * by_square * (spread @ gram).transpose(2, 3),
                by_along * attention,
                (by_sum * attention).sum(2),
                squared.transpose(2, 3).mT @ spread,
            )
        gradients = tuple(x.new_zeros(x.shape) for x in ctx.saved_tensors)
        _moments_backward(*as_arrays(*ctx.saved_tensors, *slopes), *as_arrays(*gradients))
        return gradients


def as_arrays(*tensors: Tensor) -> Arrays:
    """Tensors as arrays that lie in memory in one piece; for reading, or new and contiguous."""
    return [x.detach().contiguous().numpy() for x in tensors]


@jit
def _relu_dot(positions, items, directions, scores):  # type: ignore[no-untyped-def]
    zero = np.zeros(1, scores.dtype)[0]
    rows, length, units = positions.shape
    for x in range(rows):
        for y in range(length):
            p, u = positions[x, y], directions[x, y]
            for c in range(items.shape[1]):
                q = items[x, c]
                total = zero
                for g in range(units):
                    total += max(p[g] + q[g], zero) * u[g]
                scores[x, y, c] = total


@jit
def _relu_dot_backward(  # type: ignore[no-untyped-def]
    positions, items, directions, slopes, by_position, by_item, by_direction
):
    zero = np.zeros(1, slopes.dtype)[0]
    rows, length, units = positions.shape
    for x in range(rows):
        for y in range(length):
            p, u = positions[x, y], directions[x, y]
            dp, du = by_position[x, y], by_direction[x, y]
            for c in range(items.shape[1]):
                q, dq, slope = items[x, c], by_item[x, c], slopes[x, y, c]
                for g in range(units):
                    unit = p[g] + q[g]
                    through = slope * u[g] if unit > zero else zero
                    dp[g] += through
                    dq[g] += through
                    du[g] += slope * max(unit, zero)


@jit
def _moments(attention, along, sums, gram, o_u, o_sum, o_o):  # type: ignore[no-untyped-def]
    zero = np.zeros(1, attention.dtype)[0]
    rows, heads, candidates, length, entries = attention.shape
    for x in range(rows):
        for h in range(heads):
            for c in range(candidates):
                for y in range(length):
                    a, v_u, v_sum = attention[x, h, c, y], along[x, h, c, y], sums[x, h, y]
                    first, second, third = zero, zero, zero
                    for m in range(entries):
                        v_v = gram[x, h, y, m]
                        v_o = zero
                        for k in range(entries):
                            v_o += v_v[k] * a[k]
                        first += a[m] * v_u[m]
                        second += a[m] * v_sum[m]
                        third += a[m] * v_o
                    o_u[x, c, y] += first
                    o_sum[x, c, y] += second
                    o_o[x, c, y] += third


@jit
def _moments_backward(  # type: ignore[no-untyped-def]
    attention, along, sums, gram, by_o_u, by_o_sum, by_o_o, by_attention, by_along, by_sums, by_gram
):
    zero = np.zeros(1, attention.dtype)[0]
    rows, heads, candidates, length, entries = attention.shape
    for x in range(rows):
        for h in range(heads):
            for c in range(candidates):
                for y in range(length):
                    a, v_u, v_sum = attention[x, h, c, y], along[x, h, c, y], sums[x, h, y]
                    da, dv_u, dv_sum = (
                        by_attention[x, h, c, y],
                        by_along[x, h, c, y],
                        by_sums[x, h, y],
                    )
                    first, second, third = by_o_u[x, c, y], by_o_sum[x, c, y], by_o_o[x, c, y]
                    for m in range(entries):
                        v_v, dv_v = gram[x, h, y, m], by_gram[x, h, y, m]
                        scaled = third * a[m]
                        v_o = zero
                        for k in range(entries):
                            v_o += v_v[k] * a[k]
                            dv_v[k] += scaled * a[k]
                        da[m] = first * v_u[m] + second * v_sum[m] + (third + third) * v_o
                        dv_u[m] = first * a[m]
                        dv_sum[m] += second * a[m]
