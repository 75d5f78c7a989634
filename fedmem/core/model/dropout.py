"""Dropout whose masks come from given bytes: see `fedmem.core.training.random_streams`."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from fedmem.core.model.kernels.drop import LEVELS, drop


class Dropout:
    """Inverted dropout, applied by calling it on one tensor after the other.

    Args:
        rate: share of the elements that are zeroed.
        noise: from `Streams.noise`, a tensor for each call; None: nothing is dropped.
    """

    def __init__(self, rate: float, noise: Sequence[Tensor] | None) -> None:
        self._dropped = round(rate * LEVELS)
        self._noise = None if noise is None or not self._dropped else iter(noise)

    def __call__(self, x: Tensor) -> Tensor:
        """Drop elements of x [B, T, C], the same shape back."""
        if self._noise is None:
            return x
        return drop(x, next(self._noise), self._dropped)


NO_DROPOUT = Dropout(0.0, None)
"""For evaluation and for frozen modules."""
