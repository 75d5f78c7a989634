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
        self._noise = None if noise is None or not self._dropped else iter(noise)

    def __call__(self, x: Tensor) -> Tensor:
        """Drop elements of x [B, T, C], the same shape back."""
        if self._noise is None:
            return x
        result: Tensor = _Drop.apply(x, next(self._noise), self._dropped)  # type: ignore[no-untyped-call]
        return result


NO_DROPOUT = Dropout(0.0, None)
"""For evaluation and for frozen modules."""


class _Drop(Folding):
    """Elements of x whose noise is at least `dropped`, scaled up to keep the mean; else 0.

    No mask is kept for the way back: it follows from the noise.
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
    if x.device.type == "cuda":
        return _gpu_drop()(x, noise, dropped=dropped, scale=scale)
    result = torch.empty_like(x, memory_format=torch.contiguous_format)
    values, levels, kept = (each.contiguous().view(-1).numpy() for each in (x, noise, result))
    _drop(values, levels, np.uint8(dropped), np.float32(scale), kept)
    return result


@cache
def _gpu_drop() -> Callable[..., Tensor]:
    """The same in one pass on a GPU, where the noise is read as numbers of the type of x."""
    made: Callable[..., Tensor] = torch.cuda.jiterator._create_jit_fn(
        """template <typename T> T drop(T x, T noise, T dropped, T scale) {
            return x * (noise >= dropped ? scale : T(0));
        }""",
        dropped=0,
        scale=1.0,
    )
    return made


@numba.njit(cache=True, nogil=True)
def _drop(x, noise, dropped, scale, result):  # type: ignore[no-untyped-def]
    """One pass over flat arrays, ten times as fast as a comparison and two products. Levels are
    compared as the bytes that they are: as wider numbers they would fill as many vectors more.
    """
    for place in range(x.size):
        kept = noise[place] >= dropped
        result[place] = x[place] * scale if kept else np.float32(0)
