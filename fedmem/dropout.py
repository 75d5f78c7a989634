"""Dropout whose masks depend on the row alone, never on which rows share its batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

LEVELS = 256
"""Masks are drawn from random bytes, so a rate is rounded to a multiple of 1/256."""


class Dropout:
    """Inverted dropout, applied by calling it on one tensor after the other.

    Each row of the batch owns a generator and takes as many bytes as it has elements at its real
    positions. So a user's masks are the same whether the user trains alone, in a cohort, or on
    another node.

    Args:
        rate: share of the elements that are zeroed; 0 leaves every tensor as it is.
        generators: one for each row of the batch.
        lengths: real positions of each row, at most the tensors' second dimension.
    """

    def __init__(
        self,
        rate: float,
        generators: Sequence[np.random.Generator] = (),
        lengths: Sequence[int] = (),
    ) -> None:
        self.dropped = round(rate * LEVELS)
        self.generators = generators
        self.lengths = lengths

    def __call__(self, x: Tensor) -> Tensor:
        """Drop elements of x [B, T, C], the same shape back."""
        if self.dropped == 0:
            return x
        batch, length, channels = x.shape
        noise = np.zeros((batch, length * channels), dtype=np.uint8)
        for row, (generator, real) in enumerate(zip(self.generators, self.lengths, strict=True)):
            size = real * channels
            noise[row, :size] = np.frombuffer(generator.bytes(size), dtype=np.uint8)
        kept = torch.from_numpy(noise).view(x.shape).to(x.device) >= self.dropped  # [B, T, C]
        return x * kept * (LEVELS / (LEVELS - self.dropped))


NO_DROPOUT = Dropout(0.0)
"""For evaluation and for frozen modules."""
