"""read_out_moments: what a LayerNorm needs of read-outs, without forming the read-outs."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor
from torch.autograd.function import once_differentiable

from fedmem.core.model.kernels.compiled import Folding, as_arrays, in_full_precision, inlined, jit

Moments = tuple[Tensor, Tensor, Tensor]

TILE = 256
"""Candidates that are taken at once: what is held of them stays in the first two caches."""


def read_out_moments(attention: Tensor, along: Tensor, sums: Tensor, gram: Tensor) -> Moments:
    """Of read-outs o = Σ_m a_m v_m, joined from H heads: o·u, the sum of o and o·o, each [X, Y, C].

    Args:
        attention: a [X, H, C, Y, M].
        along: v·u [X, H, C, Y, M].
        sums: the sum of v [X, H, Y, M].
        gram: v·v' [X, H, Y, M, M].
    """
    result: Moments = _ReadOutMoments.apply(  # type: ignore[no-untyped-call]
        *in_full_precision(attention, along, sums, gram)
    )
    return result


class _ReadOutMoments(Folding):
    @staticmethod
    def forward(attention: Tensor, along: Tensor, sums: Tensor, gram: Tensor) -> tuple[Tensor, ...]:
        spread = attention.transpose(2, 3)  # [X, H, Y, C, M]
        return (
            (attention * along).sum((1, 4)).mT,
            (attention * sums.unsqueeze(2)).sum((1, 4)).mT,
            (spread @ gram * spread).sum((1, 4)),
        )

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, ...]:
        attention, along, sums, gram = ctx.saved_tensors
        by_along, by_sum, by_square = (x.mT.unsqueeze(1).unsqueeze(4) for x in slopes)
        spread = attention.transpose(2, 3)  # [X, H, Y, C, M]
        squared = by_square * attention  # [X, H, C, Y, M]
        by_attention = by_along * along + by_sum * sums.unsqueeze(2)
        return (
            by_attention + 2 * by_square * (spread @ gram).transpose(2, 3),
            by_along * attention,
            (by_sum * attention).sum(2),
            squared.transpose(2, 3).mT @ spread,
        )


def shared_moments(
    odds: Tensor, weighted: Tensor, places: Tensor, sums: Tensor, gram: Tensor
) -> Moments:
    """`read_out_moments` of many memories for the same candidates, as rankings need: each [Y, C].

    What concerns a pair of candidate and entry was computed once for all memories that hold the
    entry, and is only looked up here. CPUs only, without gradients.

    Args:
        odds: of each of N entries [H, N, C], in proportion to a; rows of zeros for no entry.
        weighted: odds times v·u [H, N, C].
        places: which of the N each position has [Y, M].
        sums: the sum of v [Y, H, M].
        gram: v·v' [Y, H, M, M].
    """
    o_u, o_sum, o_o = (odds.new_zeros(len(places), odds.shape[2]) for _ in range(3))
    _shared_moments(*as_arrays(odds, weighted, places, sums, gram), *as_arrays(o_u, o_sum, o_o))
    return o_u, o_sum, o_o


@inlined
def add_squares(a, gram, v_o, third):  # type: ignore[no-untyped-def]
    """Add Σ_mk a_m a_k v_m·v_k of a tile of candidates to `third`.

    a is [M + 3, TILE], the last three rows zeros; v·v' is [M, M]; v_o is room for a tile.
    """
    zero = np.zeros(1, a.dtype)[0]
    by = np.zeros(4, a.dtype)
    for m in range(len(gram)):
        own, v_v = a[m], gram[m]
        for c in range(TILE):
            v_o[c] = v_v[m] * own[c]
        for k in range(0, m, 4):
            p, q, r, s = a[k], a[k + 1], a[k + 2], a[k + 3]
            for j in range(4):  # every pair once, for both of its orders
                by[j] = v_v[k + j] + v_v[k + j] if k + j < m else zero
            by_p, by_q, by_r, by_s = by
            for c in range(TILE):
                v_o[c] += by_p * p[c] + by_q * q[c] + by_r * r[c] + by_s * s[c]
        for c in range(TILE):
            third[c] += own[c] * v_o[c]


@jit
def _shared_moments(odds, weighted, places, sums, gram, o_u, o_sum, o_o):  # type: ignore[no-untyped-def]
    zero = np.zeros(1, odds.dtype)[0]
    heads, _, candidates = odds.shape
    length, entries = places.shape
    a = np.zeros((entries + 3, TILE), odds.dtype)
    first, second, third, total, v_o = np.empty((5, TILE), odds.dtype)
    for h in range(heads):
        for start in range(0, candidates, TILE):
            tile = slice(start, min(start + TILE, candidates))
            size = tile.stop - start
            for y in range(length):
                first[:], second[:], third[:], total[:] = zero, zero, zero, zero
                for m in range(entries):
                    row, v_sum, own = places[y, m], sums[y, h, m], a[m]
                    # Views, since start + c could be negative for all that the compiler knows.
                    o, w = odds[h, row, tile], weighted[h, row, tile]
                    for c in range(size):
                        own[c] = o[c]
                        total[c] += own[c]
                        first[c] += w[c]
                        second[c] += v_sum * own[c]
                add_squares(a, gram[y, h], v_o, third)
                by_u, by_sum, by_o = o_u[y, tile], o_sum[y, tile], o_o[y, tile]
                for c in range(size):
                    share = 1 / total[c] if total[c] > zero else zero
                    by_u[c] += first[c] * share
                    by_sum[c] += second[c] * share
                    by_o[c] += third[c] * share * share
