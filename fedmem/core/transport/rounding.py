"""Rounding of tensors to integers of few bits, and back.

D. Alistarh et al., "QSGD: Communication-Efficient SGD via Gradient Quantization and Encoding",
NeurIPS 2017: rounded at random to one of the two neighbours on a grid, so that the mean is right.
"""

from __future__ import annotations

import hashlib

import numba
import numpy as np
import numpy.typing as npt

from fedmem.core.arrays import Floats
from fedmem.core.training.batches import RoundKey
from fedmem.core.transport.bits import Narrow, narrowest

FLOAT_BITS = 32
"""From so many bits a coordinate there is nothing to round: a float32 travels as it is."""

SCALE_UNIT = np.uint32(1 << 20)
"""Of the word that a scale is as a float32: scales have twelve bits, which is fine enough for a
grid, and beside integers of a bit or two the rest of their digits would be dear."""


def rounding_generator(key: RoundKey, who: str, name: str) -> np.random.Generator:
    """The random numbers by which `who` rounds the tensor of this name in a round.

    They are counted from a key that is made of these words alone (J. K. Salmon et al., "Parallel
    Random Numbers: As Easy as 1, 2, 3", SC 2011), so that a run that goes on rounds as before, in
    whichever process and order.
    """
    words = f"{key.seed} {key.stage} {key.round} {who} {name}"
    digest = hashlib.sha256(words.encode()).digest()
    return np.random.Generator(np.random.Philox(key=np.frombuffer(digest[:16], "<u8")))


def largest_integer(bits: int) -> int:
    """The largest integer of a grid of so many bits; the smallest is its negative."""
    return max(1, (1 << (bits - 1)) - 1)


def scales_by_range(values: Floats, most: int) -> Floats:
    """The finest scale [R] of each row of [R, C] at which no integer is larger than `most`."""
    largest = np.abs(values).max(1, initial=0.0).astype(np.float64)
    return rounded_up(largest / most)


def rounded_up(scales: npt.NDArray[np.floating]) -> Floats:
    """The next above each scale that is a float32 of three binary places, see `SCALE_UNIT`."""
    words = scales.astype(np.float32).view(np.uint32)
    # A float32 below its float64 is one unit further; so is a zero that was not zero before.
    words = words + (words.view(np.float32) < scales)
    up = (words + (SCALE_UNIT - np.uint32(1))) & ~(SCALE_UNIT - np.uint32(1))
    return np.where(np.isfinite(scales), up.view(np.float32), scales).astype(np.float32)


def quantise(
    values: Floats,
    scale: Floats | float,
    bits: int,
    generator: np.random.Generator | None = None,
) -> Narrow:
    """Integers [R, C] whose product with the scale stands for values [R, C].

    Args:
        values: what to round.
        scale: distance of two neighbours on the grid, one for all or one a row [R]. Where it is 0
            or not finite all integers are 0.
        bits: of an integer, 1 to 32: those from −L to L with L = 2^(bits − 1) − 1; of one bit −1
            and 1. Coordinates beyond the grid become its ends.
        generator: by which to round at random, so that the mean is right within the grid; None: to
            the nearest.
    """
    scales = np.broadcast_to(np.asarray(scale, np.float64), len(values))
    known = np.isfinite(scales) & (scales > 0)
    inverse = np.divide(1.0, scales, out=np.zeros(len(values)), where=known)
    found = np.empty(values.shape, narrowest(bits))
    noise = np.full((1, values.shape[1]), 0.5)
    if generator is not None:
        noise = generator.random(values.shape)
    _to_grid(np.ascontiguousarray(values), inverse, noise, largest_integer(bits), bits == 1, found)
    return found


@numba.njit(cache=True, nogil=True)
def _to_grid(values, inverse, noise, largest, signs, found):  # type: ignore[no-untyped-def]
    """In float64, which has all integers of 32 bits. Where the scale is not known, `inverse` is 0;
    of `signs` neighbours are two apart.
    """
    for row in range(values.shape[0]):
        finer, drawn = inverse[row], noise[min(row, noise.shape[0] - 1)]
        for column in range(values.shape[1]):
            if finer == 0:
                found[row, column] = 0
                continue
            step = np.float64(values[row, column]) * finer
            if signs:
                step = np.floor((step + 1) / 2 + drawn[column]) * 2 - 1
            else:
                step = np.floor(step + drawn[column])
            # Thus what is no number becomes an end, too.
            step = step if step < largest else largest
            found[row, column] = step if step > -largest else -largest


def signs_of_largest(values: Floats, share: float) -> tuple[Narrow, Floats]:
    """The signs [R, C] of the largest so many coordinates of each row of [R, C], and their mean
    sizes [R]; all others are 0.

    F. Sattler et al., "Robust and Communication-Efficient Federated Learning From Non-i.i.d. Data",
    TNNLS 2020: sparse ternary compression, here row by row.
    """
    rows, columns = values.shape
    count = min(max(1, round(share * columns)), columns)
    sizes = np.abs(values)
    largest = np.argpartition(sizes, columns - count, axis=1)[:, columns - count :]
    chosen = np.take_along_axis(sizes, largest, 1).mean(1, dtype=np.float64)
    scales = rounded_up(chosen)
    integers = np.zeros((rows, columns), narrowest(2))
    with np.errstate(invalid="ignore"):
        signs = np.sign(np.take_along_axis(values, largest, 1))
    known = (np.isfinite(scales) & (scales > 0))[:, None]
    np.put_along_axis(integers, largest, np.where(known, signs, 0).astype(integers.dtype), 1)
    return integers, scales


def dequantise(integers: Narrow, scale: Floats | float) -> Floats:
    """What integers [R, C] stand for, at one scale or one a row [R]: the same bits everywhere."""
    scales = np.broadcast_to(np.asarray(scale, np.float32), len(integers))
    return integers.astype(np.float32) * scales[:, None]
