"""Packed integers come back as they were, and take the bytes that they should."""

from __future__ import annotations

import numpy as np
import pytest

from fedmem.core.transport.bits import pack_bits, packed_bytes, unpack_bits
from fedmem.core.transport.rounding import largest_integer


@pytest.mark.parametrize("bits", range(2, 33))
@pytest.mark.parametrize("count", [0, 1, 7, 64])
def test_integers_come_back(bits: int, count: int) -> None:
    most = largest_integer(bits)
    integers = np.random.default_rng(bits).integers(-most, most, count, endpoint=True)
    integers[:2] = [-most, most][:count]
    packed = pack_bits(integers.astype(np.int32), bits)
    assert packed.nbytes == packed_bytes(bits, count)
    assert np.array_equal(unpack_bits(packed, bits, count), integers)


def test_single_bits_are_signs() -> None:
    integers = np.array([1, -1, -1, 1, 1, 1, -1, -1, 1], np.int32)
    packed = pack_bits(integers, 1)
    assert packed.tolist() == [0b00111001, 1]
    assert np.array_equal(unpack_bits(packed, 1, 9), integers)


def test_the_lowest_bits_come_first() -> None:
    assert pack_bits(np.array([1, -1, 0, 7], np.int32), 4).tolist() == [0xF1, 0x70]
