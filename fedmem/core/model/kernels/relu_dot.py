"""relu_dot: the second layer of a gating, for every pair of position and candidate."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fedmem.core.model.kernels.compiled import Folding, as_arrays, in_full_precision, jit


def relu_dot(positions: Tensor, items: Tensor, directions: Tensor) -> Tensor:
    """Σ_g relu(p_yg + q_cg) · u_yg for all pairs [X, Y, C].

    Positions p and directions u are [X, Y, G], items q are [X, C, G].
    """
    result: Tensor = _ReluDot.apply(*in_full_precision(positions, items, directions))  # type: ignore[no-untyped-call]
    return result


def _units(positions: Tensor, items: Tensor) -> Tensor:
    """relu(p + q) [X, Y, C, G]."""
    return torch.relu(positions.unsqueeze(2) + items.unsqueeze(1))


class _ReluDot(Folding):
    @staticmethod
    def forward(positions: Tensor, items: Tensor, directions: Tensor) -> Tensor:
        if positions.device.type != "cpu":
            units = _units(positions, items)
            return (units @ directions.unsqueeze(3)).squeeze(3)
        scores = positions.new_empty(*positions.shape[:2], items.shape[1])
        _relu_dot(*as_arrays(positions, items, directions), scores.numpy())
        return scores

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, ...]:
        positions, items, directions = ctx.saved_tensors
        if slope.device.type != "cpu":
            units = _units(positions, items)
            slope = slope.to(units.dtype)  # scores may have been in less
            by_unit = slope.unsqueeze(3) * directions.unsqueeze(2) * (units > 0)
            return by_unit.sum(2), by_unit.sum(1), (slope.unsqueeze(2) @ units).squeeze(2)
        gradients = tuple(x.new_zeros(x.shape) for x in ctx.saved_tensors)
        _relu_dot_backward(*as_arrays(*ctx.saved_tensors, slope), *as_arrays(*gradients))
        return gradients


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
