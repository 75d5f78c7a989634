"""Numbers as integers that can be added modulo 2^16 or 2^32, and back.

A real number x becomes ⌊scale · x + u⌋ with u uniform in [0, 1): stochastic rounding, whose mean is
scale · x. Of n parties each keeps its integers within ±Q, Q = ⌊(2^(b−1) − 1) / n⌋, so that no sum
of them can wrap around, whatever the scale; a number beyond Q / scale is cut to it. What is not cut
is off by less than 1 / scale, with a variance of at most 1 / (4 scale²) that averages out.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from fedmem.core.errors import FedmemError
from fedmem.core.secure_sum.keys import Integers

COUNT_BITS = 48
"""Of a count that is summed exactly."""


def integer_type(bits: int) -> np.dtype[np.unsignedinteger]:
    """The type of the integers modulo 2^bits, the same on every machine."""
    return np.dtype({16: "<u2", 32: "<u4"}[bits])


def most_members(bits: int) -> int:
    """Parties whose counts can be summed without a carry from one digit to the next."""
    return 1 << (bits // 2)


def largest(bits: int, parties: int) -> int:
    """Q: the largest integer that each of so many parties may contribute."""
    return int(((1 << (bits - 1)) - 1) // parties)


def encode(
    values: npt.NDArray[np.floating],
    scale: float,
    bits: int,
    parties: int,
    generator: np.random.Generator,
) -> tuple[Integers, int]:
    """(integers [N], how many were cut) of numbers [N], as one of so many parties.

    Raises:
        FedmemError: a number is not finite.
    """
    scaled = np.asarray(values, np.float64) * scale
    if not np.isfinite(scaled).all():
        raise FedmemError("What was to be summed is not finite; nothing of it was sent.")
    scaled += generator.random(scaled.shape)
    np.floor(scaled, out=scaled)
    most = largest(bits, parties)
    cut = int(np.count_nonzero(np.abs(scaled) > most))
    np.clip(scaled, -most, most, out=scaled)
    return scaled.astype(np.int64).astype(integer_type(bits)), cut


def decode(integers: Integers, scale: float) -> npt.NDArray[np.float64]:
    """The sum of numbers [N] from the sum of their integers [N]."""
    signed = integers.view(integers.dtype.str.replace("u", "i"))
    return np.asarray(signed, np.float64) / scale


def encode_counts(counts: Mapping[str, int], bits: int) -> Integers:
    """Counts as digits that sum exactly, each of half the modulus's bits, in the counts' order.

    Raises:
        FedmemError: a count is negative or has more than 48 bits.
    """
    for name, count in counts.items():
        if not 0 <= count < 1 << COUNT_BITS:
            raise FedmemError(f"{name}={count} cannot be summed: it is beyond {COUNT_BITS} bits.")
    shifts = range(0, COUNT_BITS, bits // 2)
    digits = [
        count >> shift & most_members(bits) - 1 for count in counts.values() for shift in shifts
    ]
    return np.array(digits, integer_type(bits))


def counts_length(counts: int, bits: int) -> int:
    """Integers that so many counts take."""
    return counts * len(range(0, COUNT_BITS, bits // 2))


def decode_counts(integers: Integers, names: list[str]) -> dict[str, int]:
    """The sums of counts from the sum of their digits, by their names."""
    step = integers.dtype.itemsize * 4
    digits = integers.reshape(len(names), -1).tolist()
    return {
        name: sum(digit << place * step for place, digit in enumerate(own))
        for name, own in zip(names, digits, strict=True)
    }
