"""What the kernels share: the compiler, arrays for it, and a function that `vmap` may stack."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fedmem.core.model.kernels.function import Function

jit: Any = numba.njit(cache=True, fastmath=True, nogil=True)

inlined: Any = numba.njit(fastmath=True, forceinline=True)
"""For what loops have in common: where it stands the compiler sees which arrays cannot overlap."""


def as_arrays(*tensors: Tensor) -> list[npt.NDArray[np.floating]]:
    """Tensors as arrays that lie in memory in one piece; for reading, or new and contiguous."""
    return [x.detach().contiguous().numpy() for x in tensors]


def in_full_precision(*tensors: Tensor) -> list[Tensor]:
    """Tensors of reduced precision as float32, the others as they are."""
    return [x.float() if x.dtype == torch.bfloat16 else x for x in tensors]


class Folding(Function):
    """A function whose first axis is a mere batch axis: `vmap` puts its own there."""

    @classmethod
    def vmap(cls, info: Any, dims: tuple[int | None, ...], *inputs: Any) -> Any:
        """Once on all members, their first axes joined; what is no tensor they share."""
        size = info.batch_size
        folded = [
            (x.expand(size, *x.shape) if dim is None else x.movedim(dim, 0)).flatten(0, 1)
            if isinstance(x, Tensor)
            else x
            for x, dim in zip(inputs, dims, strict=True)
        ]
        result = cls.apply(*folded)  # type: ignore[no-untyped-call]
        if isinstance(result, Tensor):
            return result.view(size, -1, *result.shape[1:]), 0
        return tuple(x.view(size, -1, *x.shape[1:]) for x in result), (0,) * len(result)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:  # noqa: ARG004
        """Keep the inputs for the way back."""
        ctx.save_for_backward(*inputs)
