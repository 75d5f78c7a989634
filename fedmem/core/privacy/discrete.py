"""Gaussian noise in integers: drawn without floating point, and as private as real Gaussian noise.

DG(σ) has P(k) ∝ exp(−k² / 2σ²) on the integers (C. Canonne, G. Kamath, T. Steinke, "The Discrete
Gaussian for Differential Privacy", NeurIPS 2020). By Poisson's summation formula, for every real c,

    Σ_k exp(−(k − c)² / 2τ²) = τ √(2π) (1 ± η(τ)),    η(τ) ≤ 2.1 exp(−2π² τ²),

and from it follow, each for one coordinate and up to a factor of ((1 + η) / (1 − η))^±1:

1. Sums. DG(σ₁) + k DG(σ₂) is DG(√(σ₁² + k² σ₂²)), with τ = σ₁ σ₂ / √(σ₁² + k² σ₂²): complete the
   square under the sum. So noise of many is noise of one (P. Kairouz, Z. Liu, T. Steinke, "The
   Distributed Discrete Gaussian Mechanism", ICML 2021, theorem 1), and wide noise can be put
   together of narrow (D. Micciancio, M. Walter, "Gaussian Sampling over the Integers", 2017).
2. Gaussians. Where Y is a real Gaussian of deviation √(σ² − τ²), an integer drawn around Y with
   P(k | Y) ∝ exp(−(k − Y)² / 2τ²) is DG(σ). Drawing it goes along with a shift by whole numbers, so
   it is post-processing: vectors of integers, one user's within a length Δ, plus DG(σ) are as
   private as vectors of reals plus a Gaussian of deviation √(σ² − τ²), also of a Poisson sample and
   composed over rounds, and the accounting of Gaussian noise (`fedmem.core.privacy.accounting`)
   holds for them.

With τ ≥ 1.99 in all of them η is below 10^-33. Both outputs of a round, with a user and without,
are then within e^±γ of what is accounted for, γ = 2η for each draw and coordinate: for 10^6
coordinates, a thousand nodes and 10^4 rounds all of it raises ε by less than 10^-18, and the
rounding of probabilities to multiples of 2^-128 raises δ by less than 10^-14 for ε up to 16.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from decimal import Decimal, localcontext
from functools import cache

import numpy as np
import numpy.typing as npt

from fedmem.core.errors import FedmemError
from fedmem.core.privacy.secret import SecretStreams, Words
from fedmem.core.secure_sum import MODULI

Noise = npt.NDArray[np.int64]

NARROW = 128
"""σ of the noise that a table draws; τ of rule 1 is above 1.99 up to a factor of half of it."""
SMOOTHING = 2.0
"""τ of rule 2."""
FARTHEST = 14 * NARROW
"""Beyond lies less than 2^-128 of it, in all."""
PROBABILITY_BITS, WORD_BITS, CELL_BITS = 128, 64, 16
FARTHEST_SUM = 12.0
"""Deviations of the noise of all nodes, beyond which a number of the sum wraps around: fewer than
one in 10^32 do."""
COARSEST = 0.1
"""Most that rounding may add to the noise, as a part of it."""
SLACK = 1e-6
"""Of an update's length, relative, for the rounding of floating point in it and in a node's sum."""


def honest_of(needed: int) -> int:
    """Of so many nodes that remain at least, those of whose noise nobody knows anything.

    Each of them knows its own, and sees the parameters that come of the sum.
    """
    return needed - 1


@dataclass(frozen=True)
class NoiseShare:
    """What one of many nodes adds to the integers that it sends.

    A node rounds scale · x, coordinate by coordinate, to one of both neighbours. Whatever decides
    between them, with one user's update v more or less, ‖v‖ ≤ 1, the integers differ by a vector of
    integers no longer than scale + √N.

    Attributes:
        noise: noise multiplier of the sum, in units of the longest update.
        scale: integers per unit.
        size: N, coordinates.
        honest: nodes of whose noise nobody knows anything; their shares make the noise together.
    """

    noise: float
    scale: float
    size: int
    honest: int

    @property
    def longest(self) -> float:
        """Δ, by which one user can change the integers."""
        return self.scale * (1 + SLACK) + math.sqrt(self.size)

    @property
    def coarseness(self) -> float:
        """How much more noise the rounding asks for, as a part of it."""
        return self.longest / self.scale - 1

    @property
    def deviation(self) -> float:
        """σ of the share, in integers."""
        return math.sqrt(((self.noise * self.longest) ** 2 + SMOOTHING**2) / self.honest)

    @classmethod
    def finest(
        cls, noise: float, size: int, honest: int, bits: int, parties: int, users: int
    ) -> NoiseShare:
        """With the largest scale at which no sum modulo 2^bits wraps around.

        Args:
            noise: as of the class.
            size: likewise.
            honest: likewise.
            bits: of the modulus.
            parties: nodes of the sum.
            users: the most that one of them has.

        Raises:
            FedmemError: it is so coarse that the rounding asks for much more noise.
        """
        wide = FARTHEST_SUM * noise * math.sqrt(parties / honest)
        room = 2.0 ** (bits - 1) - 1

        def taken(scale: float) -> float:
            """Of the modulus, by the updates, their rounding, and the noise of all nodes."""
            longest = cls(noise, scale, size, honest).longest
            return parties * (users * scale + 1) + wide * (longest + 1)

        scale = (room - taken(0.0)) / (taken(1.0) - taken(0.0))
        found = cls(noise, scale, size, honest)
        if scale <= 0 or found.coarseness > COARSEST:
            needed = math.ceil(math.log2(taken(math.sqrt(size) / COARSEST) + 1)) + 1
            raise FedmemError(
                f"privacy.secure_sum.modulus_bits={bits} is too coarse for a noised sum of "
                f"{size:,} numbers over {parties} nodes of up to {users:,} users: {needed} bits "
                f"are needed.\n{_way_out(needed)}"
            )
        return found

    def draw(self, streams: SecretStreams, name: str) -> Noise:
        """The share [N] of this name."""
        return discrete_gaussian(streams, name, self.deviation, self.size)


def _way_out(needed: int) -> str:
    for bits in MODULI:
        if needed <= bits:
            return f"Set privacy.secure_sum.modulus_bits={bits}."
    return "Take privacy.mode=central."


def discrete_gaussian(streams: SecretStreams, name: str, deviation: float, count: int) -> Noise:
    """Integers [count] of DG(σ), σ that of `width` of a deviation."""
    total = np.zeros(count, np.int64)
    for place, factor in enumerate(factors(deviation)):
        total += factor * _narrow(streams, f"{name}/{place}", count)
    return total


def factors(deviation: float) -> list[int]:
    """Multiples of narrow noise that come to at least this deviation, by rule 1."""
    found, width = [1], float(NARROW)
    while width < deviation:
        wanted = math.sqrt(deviation**2 - width**2) / NARROW
        found.append(min(math.ceil(wanted), int(width) // 2))
        width = math.hypot(width, found[-1] * NARROW)
    return found


def width(deviation: float) -> float:
    """σ of the noise that is drawn for a deviation: not less, and hardly more."""
    return NARROW * math.sqrt(sum(factor**2 for factor in factors(deviation)))


def _narrow(streams: SecretStreams, name: str, count: int) -> Noise:
    """Integers [count] of DG(`NARROW`), by inversion with 128 bits.

    The first bits of a word decide nearly always, a second word is hardly ever drawn.
    """
    bounds, high, before = _table()
    words = streams.words(name, count)
    cells = words >> np.uint64(WORD_BITS - CELL_BITS)
    places = before[cells]
    searched = np.flatnonzero(before[cells + np.uint64(1)] != places)
    places[searched] = np.searchsorted(high, words[searched], side="right")
    undecided = searched[high[np.maximum(places[searched], 1) - 1] == words[searched]]
    for at, low in zip(undecided, streams.words(f"{name}/low", len(undecided)), strict=True):
        places[at] = bisect_right(bounds, (int(words[at]) << WORD_BITS) + int(low))
    return np.asarray(places - FARTHEST)


@cache
def _table() -> tuple[list[int], Words, Noise]:
    """(2^128 P(k ≤ j) for j from −`FARTHEST`, without the last; their upper 64 bits; how many of
    these lie before each of the cells that words are parted into).
    """
    with localcontext(prec=60):
        scale = Decimal(2 * NARROW**2)
        half = [(-Decimal(k * k) / scale).exp() for k in range(FARTHEST + 1)]
        weights = [*half[:0:-1], *half]
        unit = Decimal(2**PROBABILITY_BITS) / sum(weights)
        bounds, below = [], Decimal(0)
        for weight in weights[:-1]:
            below += weight
            bounds.append(int(below * unit))
    high = np.array([bound >> WORD_BITS for bound in bounds], np.uint64)
    starts = np.arange(1 << CELL_BITS, dtype=np.uint64) << np.uint64(WORD_BITS - CELL_BITS)
    before = np.append(np.searchsorted(high, starts, side="left"), len(high))
    return bounds, high, before.astype(np.int64)
