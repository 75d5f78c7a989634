"""`client.precision`: what the matrix products of training are made in, and what can do it.

A GPU is left to torch's autocast. On a CPU, where that casts for longer than it saves, numbers are
float32 throughout, attention, norms and all that goes element by element; products alone take them
as bfloat16, and give float32 back.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor
from torch.nn import functional as F

from fedmem.core.errors import FedmemError

ROWS_AT_ONCE = 128
"""Where a factor may have any number of rows, it gets a multiple of this: for each number that it
has not met, oneDNN makes code, which takes as long as the product."""

_reduced_on_cpu = ContextVar("reduced_on_cpu", default=False)


@contextmanager
def computing_in(precision: str, device: torch.device) -> Iterator[None]:
    """A context in which matrix products run in this `client.precision`."""
    reduced = precision == "bfloat16"
    if device.type != "cpu":
        with (
            _without_cudnn_attention(),
            torch.autocast(device.type, torch.bfloat16, enabled=reduced),
        ):
            yield
        return
    before = _reduced_on_cpu.set(reduced)
    try:
        yield
    finally:
        _reduced_on_cpu.reset(before)


@contextmanager
def _without_cudnn_attention() -> Iterator[None]:
    """Torch prefers it in bfloat16, but it plans for milliseconds for each shape it has not met."""
    before = torch.backends.cuda.cudnn_sdp_enabled()  # type: ignore[no-untyped-call]
    torch.backends.cuda.enable_cudnn_sdp(False)
    try:
        yield
    finally:
        torch.backends.cuda.enable_cudnn_sdp(before)


def is_reduced(device: torch.device) -> bool:
    """Whether products on this device are made in bfloat16 here."""
    if device.type == "cpu":
        return _reduced_on_cpu.get()
    return torch.is_autocast_enabled(device.type)


def factor(x: Tensor) -> Tensor:
    """What `product` multiplies in the place of x: for who multiplies it several times."""
    return x.bfloat16() if x.device.type == "cpu" and _reduced_on_cpu.get() else x


def rows_as_factor(x: Tensor) -> Tensor:
    """`factor` of x [N, C] where N may be any number, with rows of zeros below that round it up."""
    x = factor(x)
    missing = -len(x) % ROWS_AT_ONCE if x.dtype == torch.bfloat16 and x.device.type == "cpu" else 0
    return F.pad(x, (0, 0, 0, missing)) if missing else x


def product(one: Tensor, other: Tensor) -> Tensor:
    """`one` @ `other` in the precision of the context, in float32 if that is bfloat16."""
    made = factor(one) @ factor(other)
    return made.float() if made.dtype == torch.bfloat16 else made


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies in bfloat16 faster than in float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # Older versions of torch cannot say.
    known = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(known.get("avx512_bf16") or known.get("amx_bf16"))


def check_precision(precision: str, device: torch.device) -> None:
    """Refuse a `client.precision` that the device could only imitate.

    Raises:
        FedmemError: it has no bfloat16.
    """
    if precision == "bfloat16" and not has_bfloat16(device):
        what = "this GPU" if device.type == "cuda" else "this CPU (no AVX-512-BF16, no AMX)"
        raise FedmemError(
            f"client.precision=bfloat16 would be slow on {what}: set client.precision=float32."
        )
