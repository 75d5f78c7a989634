"""Which device computes: a setting, and what the machine has."""

from __future__ import annotations

import torch

from fedmem.core.errors import FedmemError


def local_gpus() -> int:
    """GPUs that this process can compute on."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def resolve_device(device: str, gpus: int, setting: str = "simulation.device") -> str:
    """`cpu` or `cuda` for the value of such a setting, where there are so many GPUs.

    Raises:
        FedmemError: `cuda` is asked for, and there is no GPU.
    """
    if device == "cuda" and not gpus:
        raise FedmemError(f"{setting}=cuda, but CUDA finds no GPU: set {setting} to auto or cpu.")
    return "cuda" if device != "cpu" and gpus else "cpu"


POSITIONS_AT_ONCE = {"cpu": 2048, "cuda": 32768}
"""Positions of a micro-batch: what the cache of a core holds, or what fills a GPU."""

WITHOUT_BACKBONE = 4
"""So many times as many where no backbone is computed: a position takes that much less room."""


def positions_at_once(micro_batch: int | None, device: torch.device, backbone: bool = True) -> int:
    """Positions that are computed at once, for a `client.micro_batch`."""
    if micro_batch is not None:
        return micro_batch
    return POSITIONS_AT_ONCE[device.type] * (1 if backbone else WITHOUT_BACKBONE)
