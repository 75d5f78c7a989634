"""Which device computes, and how much at once: settings, and what there is."""

from __future__ import annotations

import torch
from torch import Tensor

from fedmem.core.errors import FedmemError

CPU = torch.device("cpu")

FEW_THREADS = 4
"""Where passes are short, at the server and beside a GPU: of more threads one waits for the other
longer than they help, and all the more where other runs have as many."""


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


def threads_for(device: str, cores: int) -> int:
    """Threads of a process that computes on `cpu` or `cuda` and may take so many cores."""
    return min(cores, FEW_THREADS) if device == "cuda" else cores


def set_threads(threads: int, device: str) -> None:
    """Have this process compute in so many threads; 0: as many as it has, beside a GPU a few.

    Args:
        threads: as `simulation.threads`.
        device: as `simulation.device`.

    Raises:
        FedmemError: `cuda` is asked for, and there is no GPU.
    """
    found = resolve_device(device, local_gpus())
    torch.set_num_threads(threads or threads_for(found, torch.get_num_threads()))


def to_device(x: Tensor, device: torch.device) -> Tensor:
    """A tensor there; a GPU copies it while other work goes on, and nobody waits."""
    if x.device.type == device.type:
        return x
    return x.contiguous().pin_memory().to(device, non_blocking=True)


POSITIONS_AT_ONCE = {"cpu": 2048, "cuda": 65536}
"""Positions of a micro-batch: what the cache of a core holds, or what fills a GPU."""


def positions_at_once(
    micro_batch: int | None, device: torch.device, backbone: bool = True, scores: bool = False
) -> int:
    """Positions that are computed at once, for a `client.micro_batch`.

    On a CPU a position takes a quarter of the room where no `backbone` is computed; on a GPU twice
    the room where `scores` of candidates are, which are most of it.
    """
    if micro_batch is not None:
        return micro_batch
    if device.type == "cpu":
        return POSITIONS_AT_ONCE["cpu"] * (1 if backbone else 4)
    return POSITIONS_AT_ONCE["cuda"] // (2 if scores else 1)


CPU_STACK_BYTES = 1 << 28
GPU_STACK_SHARE = 8


def stack_bytes(device: torch.device) -> int:
    """Bytes that the models of users side by side may take: an eighth of a GPU's memory.

    Of its memory, not of what is free of it: the size of a stack must not hang on other processes.
    """
    if device.type == "cpu":
        return CPU_STACK_BYTES
    return int(torch.cuda.get_device_properties(device).total_memory) // GPU_STACK_SHARE
