"""Integers of few bits, packed without gaps."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

Narrow = npt.NDArray[np.signedinteger]
"""Integers of the narrowest type that holds their bits."""


def pack_bits(integers: Narrow, bits: int) -> npt.NDArray[np.uint8]:
    """Integers of any shape, two's complement in so many bits, the lowest first: ⌈n·bits/8⌉ bytes.

    Those of one bit are −1 and 1.
    """
    flat = integers.reshape(-1)
    if bits == 1:
        return np.packbits(flat > 0, bitorder="little")
    if 8 % bits == 0:
        fields = np.zeros((-(-flat.size // (8 // bits)), 8 // bits), np.uint8)
        fields.reshape(-1)[: flat.size] = flat.astype(np.uint8) & ((1 << bits) - 1)
        packed = fields[:, 0].copy()
        for column, place in zip(fields.T[1:], _places(bits)[1:], strict=True):
            packed |= column << place
        return packed
    kind = narrowest(bits)
    octets = flat.astype(kind).view(np.uint8).reshape(flat.size, kind.itemsize)
    return np.packbits(
        np.unpackbits(octets, axis=1, count=bits, bitorder="little"), bitorder="little"
    )


def unpack_bits(packed: npt.NDArray[np.uint8], bits: int, count: int) -> Narrow:
    """The inverse of `pack_bits`: so many integers [count]."""
    if 8 % bits == 0:
        fields = _fields_of_bytes(bits)  # gathered as one word each
        return fields.view(f"u{8 // bits}")[:, 0].take(packed).view(np.int8)[:count]
    each = np.unpackbits(packed, count=count * bits, bitorder="little").reshape(count, bits)
    kind = narrowest(bits)
    width = 8 * kind.itemsize
    extended = np.concatenate([each, np.repeat(each[:, -1:], width - bits, axis=1)], axis=1)
    octets = np.packbits(extended, axis=1, bitorder="little")
    return octets.view(kind)[:, 0]


def narrowest(bits: int) -> np.dtype[np.signedinteger]:
    """The narrowest type that holds so many bits, in the byte order of the wire."""
    return np.dtype("<i1" if bits <= 8 else "<i2" if bits <= 16 else "<i4")


def packed_bytes(bits: int, count: int) -> int:
    """Bytes that so many integers take."""
    return -(-bits * count // 8)


def _places(bits: int) -> npt.NDArray[np.uint8]:
    """Where in a byte the fields of so many bits begin."""
    return np.arange(0, 8, bits, dtype=np.uint8)


@cache
def _fields_of_bytes(bits: int) -> npt.NDArray[np.int8]:
    """[256, 8 / bits]: the integers in every byte."""
    fields = (np.arange(256)[:, None] >> _places(bits)) & ((1 << bits) - 1)
    if bits == 1:
        return (fields * 2 - 1).astype(np.int8)
    return (fields - ((fields >> (bits - 1)) << bits)).astype(np.int8)
