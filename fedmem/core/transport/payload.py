"""Rounded tensors as bytes, and the checks that bytes from elsewhere have to pass.

    magic, version, whether deflated, bytes of the body once unpacked   HEADER
    body: length of the index, index                name, shape, bits and rows of each tensor
          a bit a row, where some rows are zero     which of them follow
          upper bytes of the scales, lower bytes    upper halves of float32
          integers, column after column             see `fedmem.core.transport.bits`

Most rows of an item table change along one direction: those of items that nobody wanted away from
what was. So rows that point against the sum of all are turned around, which the sign of the scale
says, and integers of one column are alike; the more so among rows of about one scale, for which
they go by their scales, the largest first. Coded by Huffman in blocks of at most a column of a
small table, each with a code of its own, and runs; other than runs there is nothing to be found
again.
"""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fedmem.core.arrays import Floats
from fedmem.core.transport.bits import Narrow, narrowest, pack_bits, packed_bytes, unpack_bits
from fedmem.core.transport.rounding import dequantise

HEADER = struct.Struct("<4sBBQ")
LENGTH = struct.Struct("<I")
MAGIC, VERSION = b"fmrt", 3
BLOCKS = 6
"""Of deflate: a block is of 2^(6 + this) symbols."""
INDEX_ROOM = 512
"""Bytes of the index that a tensor may take: its name and its shape as JSON."""

Shapes = Mapping[str, Sequence[int]]
Octets = npt.NDArray[np.uint8]


class PayloadError(ValueError):
    """A payload that is not what was agreed on; the message says why, as of `its payload`."""


@dataclass(frozen=True)
class Rounded:
    """A tensor as integers of few bits and a scale a row; a vector is one row.

    Attributes:
        shape: of the tensor.
        bits: of an integer.
        rows: [n] the rows that follow, ascending; all others are zero.
        integers: [n, C].
        scales: [n], each the upper half of a float32.
    """

    shape: tuple[int, ...]
    bits: int
    rows: npt.NDArray[np.int64]
    integers: Narrow
    scales: Floats

    def values(self) -> Tensor:
        """What it stands for, of its shape, in float32."""
        found = np.zeros(rows_and_columns(self.shape), np.float32)
        found[self.rows] = dequantise(self.integers, self.scales)
        return torch.from_numpy(found).reshape(self.shape)


def rows_and_columns(shape: Sequence[int]) -> tuple[int, int]:
    """The shape of a tensor's rows, which have a scale each: one row for vectors and numbers."""
    return (shape[0], math.prod(shape[1:])) if len(shape) > 1 else (1, math.prod(shape))


def to_bytes(tensors: Mapping[str, Rounded], deflated: bool) -> bytes:
    """Rounded tensors, by name, as a payload."""
    index = [[name, list(x.shape), x.bits, len(x.rows)] for name, x in tensors.items()]
    about = json.dumps(index, separators=(",", ":")).encode()
    turned = [_turned(x) for x in tensors.values()]
    scales = [each.astype("<f4").view(np.uint8).reshape(-1, 4) for _, each in turned]
    parts = [
        LENGTH.pack(len(about)),
        about,
        *(_mark(x).tobytes() for x in tensors.values()),
        *(each[:, 3].tobytes() for each in scales),
        *(each[:, 2].tobytes() for each in scales),
        *(
            pack_bits(columns, _width(x.bits, deflated)).tobytes()
            for x, (columns, _) in zip(tensors.values(), turned, strict=True)
        ),
    ]
    body = b"".join(parts)
    header = HEADER.pack(MAGIC, VERSION, deflated, len(body))
    return header + (_deflate(body) if deflated else body)


def from_bytes(data: bytes, shapes: Shapes, bits: Mapping[str, int]) -> dict[str, Rounded]:
    """The inverse of `to_bytes`, of tensors that have to have these shapes and bits, by name.

    Raises:
        PayloadError: the payload is damaged, or of other tensors, or another codec. One that would
            take more room than such tensors can is refused before it is unpacked.
    """
    if len(data) < HEADER.size:
        raise PayloadError(f"ends after {len(data)} bytes, within its header")
    magic, version, deflated, size = HEADER.unpack_from(data)
    if magic != MAGIC:
        raise PayloadError("is of another codec")
    if version != VERSION or deflated not in (0, 1):
        raise PayloadError(
            f"is of version {version}.{deflated} of the codec, and this is {VERSION}: let server "
            "and nodes run one version of fedmem"
        )
    most = sum(_most_bytes(shapes[name], bits[name], bool(deflated)) for name in shapes)
    if size > most:
        raise PayloadError(f"declares {size} bytes, and tensors of the scope take at most {most}")
    body = data[HEADER.size :]
    reader = _Reader(_inflate(body, size) if deflated else body)
    if len(reader.body) != size:
        raise PayloadError(f"has {len(reader.body)} bytes where it declares {size}: cut or damaged")
    found = list(_entries(reader, shapes, bits))
    marked = [_unmark(reader, shape, count) for _, shape, count in found]
    counts = [count for _, _, count in found]
    upper, lower = ([reader.take(count) for count in counts] for _ in range(2))
    tensors = {}
    for (name, shape, count), rows, high, low in zip(found, marked, upper, lower, strict=True):
        words = (high.astype("<u4") << 24) | (low.astype("<u4") << 16)
        scales = words.view("<f4").astype(np.float32)
        if not np.isfinite(scales).all():
            raise PayloadError(f"has scales of {name} that are not finite")
        columns, width = rows_and_columns(shape)[1], _width(bits[name], bool(deflated))
        packed = reader.take(packed_bytes(width, count * columns))
        order = _by_scale(scales)
        integers = np.empty((count, columns), narrowest(bits[name]))
        integers[order] = unpack_bits(packed, width, count * columns).reshape(columns, count).T
        integers[np.signbit(scales)] *= -1
        tensors[name] = Rounded(shape, bits[name], rows, integers, np.abs(scales))
    if reader.place != size:
        raise PayloadError(f"has {size - reader.place} bytes too many")
    return tensors


@dataclass
class _Reader:
    """Takes bytes from a body, one stretch after the other."""

    body: bytes
    place: int = 0

    def take(self, count: int) -> Octets:
        """The next bytes."""
        end = self.place + count
        if end > len(self.body):
            raise PayloadError(f"ends after {len(self.body)} bytes, and {end} are needed")
        taken = np.frombuffer(self.body, np.uint8, count, self.place)
        self.place = end
        return taken


def _entries(
    reader: _Reader, shapes: Shapes, bits: Mapping[str, int]
) -> Iterator[tuple[str, tuple[int, ...], int]]:
    """(name, shape, rows that follow) of each tensor in the index."""
    (length,) = LENGTH.unpack(reader.take(LENGTH.size).tobytes())
    try:
        index: Any = json.loads(reader.take(length).tobytes())
        entries = [(str(n), tuple(s), int(b), int(c)) for n, s, b, c in index]
    except (ValueError, TypeError) as error:
        raise PayloadError("has an index that cannot be read") from error
    names = [name for name, *_ in entries]
    if sorted(names) != sorted(shapes):
        odd = sorted(set(names) ^ set(shapes)) or names
        raise PayloadError(f"is not of the scope's tensors: {', '.join(odd)[:200]}")
    for name, shape, own, count in entries:
        if shape != tuple(shapes[name]):
            raise PayloadError(f"has {name} of shape {shape}, not {tuple(shapes[name])}")
        if own != bits[name]:
            raise PayloadError(f"has {name} in {own} bits, not {bits[name]} (transport.bits)")
        if not 0 <= count <= rows_and_columns(shape)[0]:
            raise PayloadError(f"has {count} rows of {name}, whose shape is {shape}")
        yield name, shape, count


def _turned(tensor: Rounded) -> tuple[Narrow, Floats]:
    """(integers [C, n], scales [n]) of the rows, those turned around that point against the sum.

    The integers go by the scales, which do not.
    """
    values = tensor.integers.astype(np.float32)
    signs = np.where(values @ values.sum(0) < 0, -1, 1).astype(tensor.integers.dtype)
    order = _by_scale(tensor.scales)
    columns = np.multiply(tensor.integers[order].T, signs[order], order="C")
    return columns, np.copysign(tensor.scales, signs.astype(np.float32))


def _by_scale(scales: Floats) -> npt.NDArray[np.intp]:
    """The order of rows by the sizes of their scales, the largest first."""
    return np.argsort(-np.abs(scales), kind="stable")


def _mark(tensor: Rounded) -> Octets:
    """A bit a row: whether it follows; nothing where all do."""
    rows = rows_and_columns(tensor.shape)[0]
    if len(tensor.rows) == rows:
        return np.zeros(0, np.uint8)
    follows = np.zeros(rows, np.bool_)
    follows[tensor.rows] = True
    return np.packbits(follows, bitorder="little")


def _unmark(reader: _Reader, shape: Sequence[int], count: int) -> npt.NDArray[np.int64]:
    rows = rows_and_columns(shape)[0]
    if count == rows:
        return np.arange(rows)
    follows = np.unpackbits(reader.take(packed_bytes(1, rows)), count=rows, bitorder="little")
    found = np.flatnonzero(follows).astype(np.int64)
    if len(found) != count:
        raise PayloadError(f"marks {len(found)} rows where {count} follow")
    return found


def _most_bytes(shape: Sequence[int], bits: int, deflated: bool) -> int:
    rows, columns = rows_and_columns(shape)
    width = _width(bits, deflated)
    return INDEX_ROOM + packed_bytes(1, rows) + 2 * rows + packed_bytes(width, rows * columns)


def _width(bits: int, deflated: bool) -> int:
    """Bits that an integer is packed in: a divisor of a byte where bytes are coded afterwards."""
    return 1 << (bits - 1).bit_length() if deflated else bits


def _deflate(body: bytes) -> bytes:
    coder = zlib.compressobj(level=1, memLevel=BLOCKS, strategy=zlib.Z_RLE)
    return coder.compress(body) + coder.flush()


def _inflate(body: bytes, size: int) -> bytes:
    """At most so many bytes, and one more where there are more."""
    decoder = zlib.decompressobj()
    try:
        found = decoder.decompress(body, size + 1)
    except zlib.error as error:
        raise PayloadError("cannot be unpacked: it is damaged") from error
    if not decoder.eof and len(found) <= size:
        raise PayloadError("ends before what it declares: it was cut")
    return found
