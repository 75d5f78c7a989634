"""Where a run works, what it leaves there, and who is told."""

from __future__ import annotations

import re
from dataclasses import dataclass

from fedmem.core.settings.ranges import require

DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True)
class CheckpointSettings:
    """Where checkpoints are written, and where a stage finds its predecessors."""

    dir: str
    pretrain_sasrec: str | None
    align_projectors: str | None


@dataclass(frozen=True)
class SimulationSettings:
    """Flower's Ray simulation, on this machine or on a cluster."""

    ray_address: str | None
    """A Ray cluster to join, as host:port or `auto`; null: a Ray of this run's own.

    The command runs on one of the cluster's machines, and each of them has this package and the
    data under the same paths."""
    device: str
    """`cpu`, `cuda`, or `auto`: CUDA where there is a GPU. On a cluster with GPUs only the machines
    that have one take part, unless it is `cpu`."""
    workers: int
    """Ray workers; 0: one for each node, as many as fit. On a cluster Flower starts as many as its
    even shares of the cores make, which can be a few more."""
    workers_per_gpu: int
    """Workers that share one GPU: one keeps an H100 as busy as several, see docs/performance.md."""
    threads: int
    """Torch threads of each worker; 0: the cores shared evenly between the workers."""
    keep_ranks: bool
    """Whether the nodes tell each user's ranks of the test, under an index, for `ranks.npz`. A real
    federation is never asked for them."""

    def __post_init__(self) -> None:
        require(
            self.ray_address is None
            or re.fullmatch(r"auto|[^\s/]+:\d+", self.ray_address) is not None,
            "simulation.ray_address",
            self.ray_address,
            "host:port, auto or null",
        )
        require(
            self.device in DEVICES, "simulation.device", self.device, f"one of {', '.join(DEVICES)}"
        )
        require(self.workers >= 0, "simulation.workers", self.workers, "at least 0")
        require(
            self.workers_per_gpu >= 1,
            "simulation.workers_per_gpu",
            self.workers_per_gpu,
            "at least 1",
        )
        require(self.threads >= 0, "simulation.threads", self.threads, "at least 0")


@dataclass(frozen=True)
class TrackingSettings:
    """Who is told of a run while it goes, see `fedmem.runs.tracking`."""

    tensorboard: bool
    """Whether its folder gets TensorBoard's events."""
    mlflow: bool
    """Whether it is a run in MLflow too, in the store that MLFLOW_TRACKING_URI names."""


@dataclass(frozen=True)
class RunSettings:
    """What the command does with runs that were begun before."""

    resume: str | None
    """The folder of a run that goes on, with its own settings; `auto`: the newest unfinished run
    that was asked for with the same settings, if there is one; null: a new run."""
