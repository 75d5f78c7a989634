"""Settings of a run on this machine: its files, its processes, and who follows it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

from fedmem.core.settings.ranges import Count, Range, at_least, one_of
from fedmem.core.settings.schema import Auto, Section

DEVICES = ("auto", "cpu", "cuda")
Address = Range("host:port", lambda value: re.fullmatch(r"[^\s/]+:\d+", value) is not None)


@dataclass(frozen=True)
class CheckpointSettings(Section, key="checkpoint"):
    """Where checkpoints are written, and where a stage finds its predecessors."""

    dir: str
    """Folder for the checkpoints of the run's stages."""
    pretrain_sasrec: str | None
    """Checkpoint of stage 1 to start from; null: in `checkpoint.dir`."""
    align_projectors: str | None
    """Checkpoint of stage 2 to start from; null: in `checkpoint.dir`."""


@dataclass(frozen=True)
class SimulationSettings(Section, key="simulation"):
    """Flower's simulation, on this machine or on a Ray cluster."""

    ray_address: Annotated[str, Address] | Auto | None
    """A Ray cluster to join; null: processes of this machine. The command runs on one of the
    cluster's machines, and each of them has this package and the data under the same paths."""
    device: Annotated[str, one_of(*DEVICES)]
    """`auto`: CUDA where there is a GPU. On a cluster with GPUs only the machines that have one
    take part, unless it is `cpu`."""
    workers: Annotated[int, at_least(0)]
    """Worker processes; 0: one for each node, as many as fit. On a cluster Flower starts as many as
    its even shares of the cores make, which can be a few more."""
    workers_per_gpu: Count
    """Workers that share one GPU: one keeps an H100 as busy as several, see docs/performance.md."""
    threads: Annotated[int, at_least(0)]
    """Torch threads of each worker; 0: the cores shared evenly between the workers, and beside
    a GPU at most four."""
    keep_ranks: bool
    """Whether the nodes send each user's ranks of the test, under an index, for `ranks.npz`. A real
    federation is never asked for them."""


@dataclass(frozen=True)
class TrackingSettings(Section, key="tracking"):
    """What follows a run while it goes on, see `fedmem.runs.tracking`."""

    tensorboard: bool
    """Whether its folder gets TensorBoard's events."""
    mlflow: bool
    """Whether it is a run in MLflow too, in the store that MLFLOW_TRACKING_URI names."""


@dataclass(frozen=True)
class RunSettings(Section, key="run"):
    """What the command does with runs that were begun before."""

    resume: str | None
    """The folder of a run that goes on, with its own settings; `auto`: the newest unfinished run
    that was asked for with the same settings, if there is one; null: a new run."""
