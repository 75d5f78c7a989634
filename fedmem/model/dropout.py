"""Dropout whose masks depend on the row alone, never on which rows share its batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

LEVELS = 256
"""Masks are drawn from random bytes, so a rate is rounded to a multiple of 1/256."""


def draw_noise(
    generators: Sequence[np.random.Generator], lengths: Sequence[int], widths: Sequence[int]
) -> list[Tensor]:
    """Random bytes for the masks of one forward pass: for each width C, a tensor [B, T, C].

    Each row owns a generator and takes as many bytes as it has elements at its real positions. So
    a user's masks are the same whether the user trains alone, in a cohort, or on another node.

    Args:
        generators: one for each row of the batch.
        lengths: real positions of each row; T is the largest. Padding gets zeros.
        widths: channels of the tensors that are going to be dropped from, in their order.
    """
    longest = max(lengths, default=0)
    noise = [np.zeros((len(lengths), longest * width), dtype=np.uint8) for width in widths]
    for row, (generator, length) in enumerate(zip(generators, lengths, strict=True)):
        drawn = _random_bytes(generator, length * sum(widths))
        start = 0
        for width, of_width in zip(widths, noise, strict=True):
            of_width[row, : length * width] = drawn[start : start + length * width]
            start += length * width
    shape = (len(lengths), longest)
    return [torch.from_numpy(n).view(*shape, w) for n, w in zip(noise, widths, strict=True)]


def _random_bytes(generator: np.random.Generator, count: int) -> npt.NDArray[np.uint8]:
    """`generator.bytes(count)`, five times as fast where whole words of 64 bits are due."""
    words = generator.bit_generator
    if count % 8 or words.state["has_uint32"]:
        return np.frombuffer(generator.bytes(count), dtype=np.uint8)
    return words.random_raw(count // 8).view(np.uint8)


class Dropout:
    """Inverted dropout, applied by calling it on one tensor after the other.

    Args:
        rate: share of the elements that are zeroed.
        noise: from `draw_noise`, a tensor for each call; None: nothing is dropped.
    """

    def __init__(self, rate: float, noise: Sequence[Tensor] | None) -> None:
        self._dropped = round(rate * LEVELS)
        self._noise = None if noise is None or not self._dropped else iter(noise)

    def __call__(self, x: Tensor) -> Tensor:
        """Drop elements of x [B, T, C], the same shape back."""
        if self._noise is None:
            return x
        return x * ((next(self._noise) >= self._dropped) * (LEVELS / (LEVELS - self._dropped)))


NO_DROPOUT = Dropout(0.0, None)
"""For evaluation and for frozen modules."""
