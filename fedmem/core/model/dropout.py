"""Dropout whose masks come from given bytes: see `fedmem.core.training.random_streams`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fedmem.core.model.kernels.compiled import Folding

LEVELS = 256
"""Masks are drawn from random bytes, so a rate is rounded to a multiple of 1/256."""


class Dropout:
    """Inverted dropout, applied by calling it on one tensor after the other.

    Args:
        rate: share of the elements that are zeroed.
        noise: from `Streams.noise`, a tensor for each call; None: nothing is dropped.
    """

    def __init__(self, rate: float, noise: Sequence[Tensor] | None) -> None:
        self._dropped = round(rate * LEVELS)
        noise = noise if self._dropped else None
        self._masks = noise is not None and noise[0].device.type == "cpu"
        if noise is not None and self._masks:
            noise = _Masks.apply(self._dropped, *noise)  # type: ignore[no-untyped-call]
        self._noise = None if noise is None else iter(noise)

    def __call__(self, x: Tensor) -> Tensor:
        """Drop elements of x [B, T, C], the same shape back."""
        if self._noise is None:
            return x
        if self._masks:
            return x * next(self._noise)
        result: Tensor = _Drop.apply(x, next(self._noise), self._dropped)  # type: ignore[no-untyped-call]
        return result


NO_DROPOUT = Dropout(0.0, None)
"""For evaluation and for frozen modules."""


class _Masks(Folding):
    """Of each noise what x is multiplied by on a CPU: 0, or what keeps the mean.

    A mask is torch's to apply, there and back. Functions in Python that drop take a tenth of a
    millisecond for each tensor, as long as the rest of a block for the windows of one user.
    """

    @staticmethod
    def forward(dropped: int, *noise: Tensor) -> tuple[Tensor, ...]:
        masks = tuple(torch.empty(each.shape, dtype=torch.float32) for each in noise)
        factor = np.float32(LEVELS / (LEVELS - dropped))
        for each, mask in zip(noise, masks, strict=True):
            _mask(each.numpy().ravel(), np.uint8(dropped), factor, mask.numpy().ravel())
        return masks

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Nothing is differentiated."""


@numba.njit(cache=True, nogil=True)
def _mask(noise, dropped, factor, mask):  # type: ignore[no-untyped-def]
    """One pass over flat arrays, ten times as fast as a comparison and a product. Levels are
    compared as the bytes that they are: as wider numbers they would fill as many vectors more.
    """
    for place in range(noise.size):
        mask[place] = factor if noise[place] >= dropped else np.float32(0)


class _Drop(Folding):
    """Elements of x whose noise is at least `dropped`, scaled up to keep the mean; else 0.

    On a GPU, where no mask is kept for the way back: it follows from the noise.
    """

    @staticmethod
    def forward(x: Tensor, noise: Tensor, dropped: int) -> Tensor:
        return _dropped(x, noise, dropped)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG004
        x, noise, ctx.dropped = inputs
        ctx.dtype = x.dtype
        ctx.save_for_backward(noise)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None, None]:
        (noise,) = ctx.saved_tensors
        return _dropped(slope, noise, ctx.dropped).to(ctx.dtype), None, None


def _dropped(x: Tensor, noise: Tensor, dropped: int) -> Tensor:
    scale = LEVELS / (LEVELS - dropped)
    if x.dtype != torch.float32:
        return x * ((noise >= dropped) * scale)
    return _gpu_drop()(x, noise, dropped=dropped, scale=scale)


@cache
def _gpu_drop() -> Callable[..., Tensor]:
    """The same in one pass, where the noise is read as numbers of the type of x."""
    made: Callable[..., Tensor] = torch.cuda.jiterator._create_jit_fn(
        """template <typename T> T drop(T x, T noise, T dropped, T scale) {
            return x * (noise >= dropped ? scale : T(0));
        }""",
        dropped=0,
        scale=1.0,
    )
    return made
