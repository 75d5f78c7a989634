"""Which device computes: a setting, and what the machine has."""

from __future__ import annotations

import torch

from fedmem.errors import FedmemError


def local_gpus() -> int:
    """GPUs that this process can compute on."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def resolve_device(device: str, gpus: int) -> str:
    """`cpu` or `cuda` for a `simulation.device`, where there are so many GPUs.

    Raises:
        FedmemError: `cuda` is asked for, and there is no GPU.
    """
    if device == "cuda" and not gpus:
        raise FedmemError(
            "simulation.device=cuda, but CUDA finds no GPU: set simulation.device to auto or cpu."
        )
    return "cuda" if device != "cpu" and gpus else "cpu"
