"""Read-outs of memories that hold much the same items, as those of one window's positions do.

What a candidate has to do with an entry is computed once a row and looked up by its positions:
eight of them hold some 90 items in 256 entries. For CPUs; `read_out_moments` is the same from all
entries.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fedmem.core.model.kernels.compiled import Folding, as_arrays, in_full_precision, jit
from fedmem.core.model.kernels.read_out_moments import Moments

NOWHERE = -1
"""The place of an entry that there is not."""

TOO_SMALL = 1e-15
"""Odds of a position's entries beside the row's best one that sum up to less are computed anew
among themselves: in float32 their squares could be 0."""


def distinct_entries(items: Tensor) -> tuple[Tensor, Tensor]:
    """The distinct items [X, N] in memories [X, Y, M], and which of them each entry is [X, Y, M].

    Rows with fewer than N are filled up with 0. Item 0, no entry, is `NOWHERE`.
    """
    held, places = _DistinctEntries.apply(items)  # type: ignore[no-untyped-call]
    return held, places


def distinct_moments(logits: Tensor, along: Tensor, values: Tensor, places: Tensor) -> Moments:
    """o·u, the sum of o and o·o, each [X, Y, C], of read-outs o = Σ_m a_m v_m joined from H heads.

    Args:
        logits: of candidates at the distinct entries [X, H, N, C]; a is their softmax over the
            entries of a position, and 0 where it has none.
        along: v·u [X, H, N, C].
        values: v [X, H, N, D/H].
        places: [X, Y, M] from `distinct_entries`.
    """
    logits, along, values = in_full_precision(logits, along, values)
    with torch.no_grad():  # what both ways need
        odds = (logits - logits.amax(2, keepdim=True)).exp_()
        sums, gram = in_full_precision(values.sum(3), values @ values.mT)
    result: Moments = _DistinctMoments.apply(  # type: ignore[no-untyped-call]
        logits, along, values, places, odds, sums, gram
    )
    return result


class _DistinctEntries(Folding):
    @staticmethod
    def forward(items: Tensor) -> tuple[Tensor, Tensor]:
        rows, length, entries = items.shape
        held = items.new_zeros(rows, max(1, length * entries))
        places = torch.empty_like(items, memory_format=torch.contiguous_format)
        seen = np.full(1 + (int(items.max()) if items.numel() else 0), NOWHERE)
        most = _distinct(*as_arrays(items.flatten(1), held, places.flatten(1)), seen)
        return held[:, :most].contiguous(), places


class _DistinctMoments(Folding):
    """The odds, the sums of v and v·v' follow from the others, by which they are derived."""

    @staticmethod
    def forward(
        logits: Tensor,
        along: Tensor,
        values: Tensor,  # noqa: ARG004
        places: Tensor,
        odds: Tensor,
        sums: Tensor,
        gram: Tensor,
    ) -> tuple[Tensor, ...]:
        rows, length, _ = places.shape
        moments = tuple(logits.new_zeros(rows, length, logits.shape[3]) for _ in range(3))
        _moments(*as_arrays(logits, odds, along, places, sums, gram, *moments))
        return moments

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        logits, along, values, places, odds, sums, gram = ctx.saved_tensors
        given = as_arrays(logits, odds, along, places, sums, gram, *slopes)
        gradients = [x.new_zeros(x.shape) for x in (logits, along, sums, gram)]
        _moments_backward(*given, *as_arrays(*gradients))
        by_logits, by_along, by_sums, by_gram = gradients
        by_values = (by_gram @ values).mul_(2).add_(by_sums.unsqueeze(3))
        return by_logits, by_along, by_values, None, None, None, None


@jit
def _distinct(items, held, places, seen):  # type: ignore[no-untyped-def]
    most = 1
    for x in range(len(items)):
        count = 0
        for k in range(items.shape[1]):
            item = items[x, k]
            if item == 0:
                places[x, k] = NOWHERE
                continue
            if seen[item] == NOWHERE:
                seen[item] = count
                held[x, count] = item
                count += 1
            places[x, k] = seen[item]
        seen[held[x, :count]] = NOWHERE
        most = max(most, count)
    return most


@jit
def _entries(places, entries):  # type: ignore[no-untyped-def]
    """Put the places of the entries that there are first; how many."""
    count = 0
    for place in places:
        if place != NOWHERE:
            entries[count] = place
            count += 1
    return count


@jit
def _attend(logits, odds, entries, a, total):  # type: ignore[no-untyped-def]
    """The softmax a [n, C] over these n entries."""
    zero, one = np.arange(2).astype(odds.dtype)
    total[:] = zero
    for m in range(len(entries)):
        own, given = a[m], odds[entries[m]]
        for c in range(len(total)):
            own[c] = given[c]
        for c in range(len(total)):
            total[c] += given[c]
    least = total[0]
    for c in range(len(total)):
        least = min(least, total[c])
    if least < TOO_SMALL:
        _attend_anew(logits, entries, a, total)
    for c in range(len(total)):
        total[c] = one / total[c]
    for m in range(len(entries)):
        own = a[m]
        for c in range(len(total)):
            own[c] *= total[c]


@jit
def _attend_anew(logits, entries, a, total):  # type: ignore[no-untyped-def]
    """Odds among these entries, where they are `TOO_SMALL` beside the row's best."""
    for c in range(len(total)):
        if total[c] < TOO_SMALL:
            largest = logits[entries[0], c]
            for entry in entries:
                largest = max(largest, logits[entry, c])
            total[c] = 0
            for m in range(len(entries)):
                a[m, c] = math.exp(logits[entries[m], c] - largest)
                total[c] += a[m, c]


@jit
def _gather(gram, entries, square):  # type: ignore[no-untyped-def]
    for m in range(len(entries)):
        own = gram[entries[m]]
        for k in range(len(entries)):
            square[m, k] = own[entries[k]]


@jit
def _moments(logits, odds, along, places, sums, gram, o_u, o_sum, o_o):  # type: ignore[no-untyped-def]
    (rows, heads, _, size), most = odds.shape, places.shape[2]
    a, v_o = np.empty((most, size), odds.dtype), np.empty((most, size), odds.dtype)
    total, squares = np.empty(size, odds.dtype), np.empty(most * most, odds.dtype)
    entries = np.empty(most, np.int64)
    for x, h in np.ndindex(rows, heads):  # what a head looks up stays in the cache
        for y in range(places.shape[1]):
            n = _entries(places[x, y], entries)
            if n == 0:
                continue
            square = squares[: n * n].reshape(n, n)
            first, second, third = o_u[x, y], o_sum[x, y], o_o[x, y]
            _attend(logits[x, h], odds[x, h], entries[:n], a, total)
            _gather(gram[x, h], entries[:n], square)
            np.dot(square, a[:n], v_o[:n])
            for m in range(n):
                own, v_u, v_sum = a[m], along[x, h, entries[m]], sums[x, h, entries[m]]
                inner = v_o[m]
                for c in range(size):
                    first[c] += own[c] * v_u[c]
                for c in range(size):
                    second[c] += own[c] * v_sum
                for c in range(size):
                    third[c] += own[c] * inner[c]


@jit
def _moments_backward(  # type: ignore[no-untyped-def]
    logits,
    odds,
    along,
    places,
    sums,
    gram,
    by_u,
    by_sum,
    by_o,
    by_logits,
    by_along,
    by_sums,
    by_gram,
):
    zero = np.zeros(1, odds.dtype)[0]
    (rows, heads, _, size), most = odds.shape, places.shape[2]
    a, slopes = np.empty((most, size), odds.dtype), np.empty((most, size), odds.dtype)
    scaled = np.empty((most, size), odds.dtype)
    total, mean = np.empty((2, size), odds.dtype)
    squares, entries = np.empty(most * most, odds.dtype), np.empty(most, np.int64)
    for x, h in np.ndindex(rows, heads):  # what a head looks up stays in the cache
        for y in range(places.shape[1]):
            n = _entries(places[x, y], entries)
            if n == 0:
                continue
            square = squares[: n * n].reshape(n, n)
            first, second, third = by_u[x, y], by_sum[x, y], by_o[x, y]
            _attend(logits[x, h], odds[x, h], entries[:n], a, total)
            _gather(gram[x, h], entries[:n], square)
            np.dot(square, a[:n], slopes[:n])
            mean[:] = zero
            for m in range(n):
                own, slope, part, entry = a[m], slopes[m], scaled[m], entries[m]
                v_u, v_sum = along[x, h, entry], sums[x, h, entry]
                dv_u, dv_sum = by_along[x, h, entry], zero
                for c in range(size):
                    part[c] = third[c] * own[c]
                for c in range(size):
                    twice = third[c] + third[c]
                    slope[c] = first[c] * v_u[c] + second[c] * v_sum + twice * slope[c]
                for c in range(size):
                    mean[c] += own[c] * slope[c]
                    dv_sum += second[c] * own[c]
                for c in range(size):
                    dv_u[c] += first[c] * own[c]
                by_sums[x, h, entry] += dv_sum
            np.dot(scaled[:n], a[:n].T, square)
            for m in range(n):
                own, slope, dv_v = a[m], slopes[m], by_gram[x, h, entries[m]]
                dlogits = by_logits[x, h, entries[m]]
                for c in range(size):
                    dlogits[c] += own[c] * (slope[c] - mean[c])
                for k in range(n):
                    dv_v[entries[k]] += square[m, k]
