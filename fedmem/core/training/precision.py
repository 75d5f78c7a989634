"""Reduced precision: products in bfloat16 where the hardware has it, everything else in float32."""

from __future__ import annotations

import torch

from fedmem.core.errors import FedmemError


def computing_in(precision: str, device: torch.device) -> torch.autocast:
    """A context in which matrix products run in this `client.precision`."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


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
