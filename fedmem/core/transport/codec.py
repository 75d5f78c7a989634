"""How tensors of a run travel, as `transport` of its settings has it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from fedmem.core.model.parameters import Parameters
from fedmem.core.settings import TransportSettings
from fedmem.core.training.batches import RoundKey
from fedmem.core.transport.payload import Rounded, Shapes, from_bytes, rows_and_columns, to_bytes
from fedmem.core.transport.rounding import (
    FLOAT_BITS,
    largest_integer,
    quantise,
    rounding_generator,
    scales_by_range,
    signs_of_largest,
)

VECTOR_BITS = 8
"""Of a coordinate of a bias or a norm's gain, at least: they are few, and each weighs on much."""


class Codec:
    """Rounds tensors and codes them; where `transport.bits` is 32 there is nothing to do."""

    def __init__(self, settings: TransportSettings) -> None:
        self._settings = settings

    @property
    def exact(self) -> bool:
        """Whether float32 travels as it is."""
        return self._settings.bits == FLOAT_BITS

    @property
    def feedback(self) -> bool:
        """Whether what rounding left is added to what travels next."""
        return not self.exact and self._settings.feedback

    def round(self, tensors: Mapping[str, Tensor], key: RoundKey, who: str) -> dict[str, Rounded]:
        """Tensors rounded, by name, as `who` rounds them in a round."""
        return {name: self._round(name, each, key, who) for name, each in tensors.items()}

    def to_bytes(self, rounded: Mapping[str, Rounded]) -> bytes:
        """Rounded tensors as they travel."""
        return to_bytes(rounded, self._settings.entropy_coded)

    def from_bytes(self, data: bytes, shapes: Shapes) -> dict[str, Rounded]:
        """The inverse of `to_bytes`, of tensors of these shapes.

        Raises:
            PayloadError: the bytes are damaged, or not what the settings ask for.
        """
        bits = {name: self._bits(len(shape)) for name, shape in shapes.items()}
        return from_bytes(data, shapes, bits)

    def _round(self, name: str, tensor: Tensor, key: RoundKey, who: str) -> Rounded:
        shape = tuple(tensor.shape)
        values = tensor.detach().cpu().numpy().reshape(rows_and_columns(shape))
        rows = np.flatnonzero(values.any(1))
        values = values[rows]
        bits, share = self._bits(len(shape)), self._settings.share
        if share is not None and len(shape) > 1:
            integers, scales = signs_of_largest(values, share)
        else:
            most = self._settings.largest if len(shape) > 1 else None
            scales = scales_by_range(values, most or largest_integer(bits))
            generator = None if self._settings.feedback else rounding_generator(key, who, name)
            integers = quantise(values, scales, bits, generator)
        kept = np.isfinite(scales) <= integers.any(1)  # where a scale is not, the receiver sees it
        return Rounded(shape, bits, rows[kept], integers[kept], scales[kept])

    def _bits(self, dimensions: int) -> int:
        bits = self._settings.bits
        return bits if dimensions > 1 else max(bits, VECTOR_BITS)


def values_of(rounded: Mapping[str, Rounded]) -> Parameters:
    """What rounded tensors stand for, by name."""
    return {name: each.values() for name, each in rounded.items()}


def shapes_of(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """The shapes of tensors, by name."""
    return {name: tuple(each.shape) for name, each in tensors.items()}
