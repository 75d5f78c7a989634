"""What runs where: workers, nodes, threads and device, from the settings and the machines."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fedmem.core.errors import FedmemError
from fedmem.core.machine.device import local_gpus, resolve_device, threads_for
from fedmem.core.settings import Settings, SimulationSettings

VISIBLE_GPUS = "CUDA_VISIBLE_DEVICES"
RAY_RESOLUTION = 10_000  # Ray counts shares of a GPU in ten-thousandths


@dataclass(frozen=True)
class Machine:
    """What one machine can give to workers."""

    cpus: int
    gpus: int


def this_machine() -> Machine:
    """The machine that we run on."""
    return Machine(cpus=len(os.sched_getaffinity(0)), gpus=local_gpus())


def share_of(simulation: SimulationSettings, runs: int, workers: bool = True) -> SimulationSettings:
    """Settings of one of so many runs at a time, which keep it to its part of the cores.

    Those that compute on GPUs stay as they are, see `gpus_of`, as does what the settings say. A run
    without workers is one process of several threads.
    """
    if runs == 1 or resolve_device(simulation.device, local_gpus()) == "cuda":
        return simulation
    cores = max(1, this_machine().cpus // runs)
    if not workers:
        return replace(simulation, threads=simulation.threads or cores)
    count = simulation.workers or cores
    threads = simulation.threads or max(1, cores // count)
    return replace(simulation, workers=count, threads=threads)


def gpus_of(simulation: SimulationSettings, runs: int, place: int) -> str | None:
    """The GPUs of one of so many runs at a time, by its place among them from 0, as CUDA's own
    variable of visible devices names them; None: all that there are.

    As far as they go each run has its own, since what a round waits for is not the GPU alone. One
    that asks for more workers than would fit its own shares all of them with the others.
    """
    gpus = local_gpus()
    if runs == 1 or gpus < 2 or resolve_device(simulation.device, gpus) != "cuda":
        return None
    own = _gpus_here()[place % gpus :: runs]
    if simulation.workers > len(own) * simulation.workers_per_gpu:
        return None
    return ",".join(own)


def _gpus_here() -> list[str]:
    """The GPUs that we can compute on, as CUDA_VISIBLE_DEVICES names them."""
    gpus, visible = local_gpus(), os.environ.get(VISIBLE_GPUS)
    names = visible.split(",") if visible else [str(number) for number in range(gpus)]
    return names[:gpus]


@dataclass(frozen=True)
class Placement:
    """How a simulation fills its machines.

    Attributes:
        workers: processes that nodes run in.
        nodes: simulated nodes.
        cpus: cores that each worker takes.
        gpus: share of a GPU that each worker takes, in [0, 1].
        threads: Torch threads of each worker.
        device: `cpu` or `cuda`.
    """

    workers: int
    nodes: int
    cpus: int
    gpus: float
    threads: int
    device: str

    def variables(self) -> list[dict[str, str]]:
        """Environment variables of each worker on this machine: it sees one GPU, or as we do."""
        if self.device != "cuda":
            return [{} for _ in range(self.workers)]
        gpus = _gpus_here()
        return [{VISIBLE_GPUS: gpus[worker % len(gpus)]} for worker in range(self.workers)]

    def settle(self, settings: Settings) -> Settings:
        """Settings that mean the same at every node: nothing automatic, no relative path."""
        return replace(
            settings,
            data=replace(settings.data, dir=str(Path(settings.data.dir).absolute())),
            federation=replace(settings.federation, nodes=self.nodes),
            simulation=replace(
                settings.simulation, workers=self.workers, threads=self.threads, device=self.device
            ),
        )


def place(settings: Settings, machines: Sequence[Machine], num_users: int) -> Placement:
    """Fill machines with workers, and as many nodes, unless the settings say how many.

    Every worker takes as many cores as all of them can have. Where CUDA is used they spread over
    the GPUs, and machines without one stay idle.

    Raises:
        FedmemError: the machines have no GPU, or no room for so many workers.
    """
    simulation, nodes = settings.simulation, settings.federation.nodes
    fewest = settings.privacy.fewest_nodes
    device = resolve_device(simulation.device, sum(machine.gpus for machine in machines))

    def room(cpus: int, workers_per_gpu: int) -> int:
        """Workers of so many cores that fit."""
        return sum(
            min(m.cpus // cpus, m.gpus * workers_per_gpu) if device == "cuda" else m.cpus // cpus
            for m in machines
        )

    most = room(1, simulation.workers_per_gpu)
    wanted = num_users if nodes == "auto" else nodes
    workers = simulation.workers or max(1, min(wanted, most))
    if workers > most:
        shared = f" (simulation.workers_per_gpu={simulation.workers_per_gpu})"
        raise FedmemError(
            f"simulation.workers={workers}, but the cores and GPUs here have room for {most}"
            f"{shared if device == 'cuda' else ''}: 0 takes as many as fit."
        )
    on_a_gpu = next(n for n in itertools.count(1) if room(1, n) >= workers)
    largest = max(m.cpus for m in machines)
    cpus = next(n for n in range(largest, 0, -1) if room(n, on_a_gpu) >= workers)
    share = math.floor(RAY_RESOLUTION / on_a_gpu) / RAY_RESOLUTION
    return Placement(
        workers=workers,
        nodes=max(min(workers, num_users), fewest) if nodes == "auto" else nodes,
        cpus=cpus,
        gpus=share if device == "cuda" else 0.0,
        threads=simulation.threads or threads_for(device, cpus),
        device=device,
    )
