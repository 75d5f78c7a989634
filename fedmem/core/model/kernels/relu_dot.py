"""relu_dot: the second layer of a gating, for every pair of position and candidate."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fedmem.core.model.kernels.compiled import Folding, as_arrays, in_full_precision, jit

MANY_CANDIDATES = 16
"""What a vector of the processor holds: from so many on the loop over candidates is innermost."""


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
        many = items.shape[1] >= MANY_CANDIDATES
        back = _backward_by_candidates if many else _backward_by_units
        back(*as_arrays(*ctx.saved_tensors, slope), *as_arrays(*gradients))
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
def _backward_by_candidates(  # type: ignore[no-untyped-def]
    positions, items, directions, slopes, by_position, by_item, by_direction
):
    """Candidates innermost: for each pair only the gradient of the item is read and written."""
    zero = np.zeros(1, slopes.dtype)[0]
    rows, length, units = positions.shape
    own, by_own = np.empty((2, units, items.shape[1]), slopes.dtype)
    for x in range(rows):
        own[:], by_own[:] = items[x].T, zero
        for y in range(length):
            slope = slopes[x, y]
            for g in range(units):
                p, u, q, dq = positions[x, y, g], directions[x, y, g], own[g], by_own[g]
                passed, weighted = zero, zero
                for c in range(slope.size):
                    through = slope[c] if q[c] > -p else zero
                    passed += through
                    weighted += through * q[c]
                    dq[c] += through * u
                by_position[x, y, g] = passed * u
                by_direction[x, y, g] = passed * p + weighted
        by_item[x] = by_own.T


@jit
def _backward_by_units(  # type: ignore[no-untyped-def]
    positions, items, directions, slopes, by_position, by_item, by_direction
):
    """The same for few candidates, units innermost."""
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
