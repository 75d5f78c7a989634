"""Read-outs of one memory from rows that are kept: each number of a pair is read where it lies.

A memory's rows are some megabytes among hundreds, so they come from the main memory: they are read
once, a tile of candidates after the other, and what is made of a tile stays in the cache.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from torch import Tensor

from fedmem.core.model.kernels.compiled import as_arrays, inlined, jit
from fedmem.core.model.kernels.read_out_moments import TILE, Moments, add_squares

TO_POWERS, TO_LOGARITHMS = np.float32(1 / math.log(2)), np.float32(math.log(2))
LEAST = np.float32(-87.0)
"""Its exponential is the least that is a normal float32."""
TERMS = tuple(np.float32(1 / math.factorial(k)) for k in range(8))
"""Of the series of exp; up to |x| = ln 2 / 2 what is left out is below float32's precision."""


def kept_moments(
    logits: Tensor, along: Tensor, places: npt.NDArray[np.int64], values: Tensor
) -> Moments:
    """`read_out_moments` of a memory of M entries, none of them missing: each [C].

    For CPUs, without gradients, and float32.

    Args:
        logits: of candidates at N entries [H, N, C]; a is their softmax over the M.
        along: v·u [H, N, C].
        places: which of the N they are [M].
        values: v [H, M, D/H].
    """
    o_u, o_sum, o_o = logits.new_zeros(3, logits.shape[2])
    products = as_arrays(values.sum(2), values @ values.mT)
    _kept_moments(*as_arrays(logits, along), places, *products, *as_arrays(o_u, o_sum, o_o))
    return o_u, o_sum, o_o


@inlined
def _exp(x, powers):  # type: ignore[no-untyped-def]
    """exp(x), in place, of float32 numbers that are at most 0; as exact, beside 1, as they are.

    NumPy's is called number by number in compiled code. 2ᵏ, k whole, is made of its bits.
    """
    for c in range(len(x)):
        own = max(x[c], LEAST)
        k = np.int32(own * TO_POWERS - np.float32(0.5))
        rest = own - np.float32(k) * TO_LOGARITHMS
        series = TERMS[7]
        for term in TERMS[6::-1]:
            series = series * rest + term
        x[c], powers[c] = series, (k + 127) << 23
    power = powers.view(np.float32)
    for c in range(len(x)):
        x[c] *= power[c]


@jit
def _kept_moments(logits, along, places, sums, gram, o_u, o_sum, o_o):  # type: ignore[no-untyped-def]
    heads, _, candidates = logits.shape
    entries = len(places)
    a = np.zeros((entries + 3, TILE), logits.dtype)
    powers = np.empty(TILE, np.int32)
    first, second, third, total, largest, v_o = np.zeros((6, TILE), logits.dtype)
    for h in range(heads):
        for start in range(0, candidates, TILE):
            tile = slice(start, min(start + TILE, candidates))
            size = tile.stop - start
            first[:], second[:], third[:], total[:] = 0, 0, 0, 0
            largest[:size] = logits[h, places[0], tile]
            for m in range(1, entries):
                given = logits[h, places[m], tile]
                for c in range(size):
                    largest[c] = max(largest[c], given[c])
            for m in range(entries):
                own, v_sum = a[m, :size], sums[h, m]
                given, v_u = logits[h, places[m], tile], along[h, places[m], tile]
                for c in range(size):
                    own[c] = given[c] - largest[c]
                _exp(own, powers[:size])
                for c in range(size):
                    total[c] += own[c]
                    first[c] += own[c] * v_u[c]
                    second[c] += own[c] * v_sum
            add_squares(a, gram[h], v_o, third)
            by_u, by_sum, by_o = o_u[tile], o_sum[tile], o_o[tile]
            for c in range(size):
                share = 1 / total[c]
                by_u[c] += first[c] * share
                by_sum[c] += second[c] * share
                by_o[c] += third[c] * share * share
