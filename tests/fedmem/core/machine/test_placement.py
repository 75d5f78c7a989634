"""How a simulation fills its machines."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from fedmem.core.errors import FedmemError
from fedmem.core.machine import placement as placement_module
from fedmem.core.machine.placement import (
    VISIBLE_GPUS,
    Machine,
    Placement,
    gpus_of,
    place,
    share_of,
    this_machine,
)
from fedmem.core.settings import Settings
from tests.helpers.settings import composed

CPU_8 = [Machine(cpus=8, gpus=0)]
GPU_1 = [Machine(cpus=16, gpus=1)]
GPU_2 = [Machine(cpus=16, gpus=2)]


def placed(machines: list[Machine], *overrides: str, num_users: int = 1000) -> Placement:
    return place(composed(*overrides), machines, num_users)


def pool(machines: list[Machine], placement: Placement) -> int:
    """Workers that Flower makes of machines, in its own arithmetic."""
    return sum(
        min(m.cpus // placement.cpus, int(m.gpus / placement.gpus))
        if placement.gpus
        else m.cpus // placement.cpus
        for m in machines
    )


def test_by_default_every_core_has_a_worker_and_every_worker_a_node() -> None:
    placement = placed(CPU_8)
    assert (placement.workers, placement.nodes) == (8, 8)
    assert (placement.cpus, placement.threads) == (1, 1)
    assert (placement.device, placement.gpus) == ("cpu", 0.0)


def test_there_are_no_more_nodes_than_users() -> None:
    placement = placed(CPU_8, num_users=3)
    assert (placement.workers, placement.nodes, placement.threads) == (3, 3, 2)
    assert placed(CPU_8, "simulation.workers=5", num_users=3).nodes == 3


def test_runs_at_a_time_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement_module, "this_machine", lambda: CPU_8[0])
    monkeypatch.setattr(placement_module, "local_gpus", lambda: 0)

    def share(runs: int, *overrides: str, workers: bool = True) -> tuple[int, int]:
        found = share_of(composed(*overrides).simulation, runs, workers)
        return found.workers, found.threads

    assert share(1) == (0, 0)
    assert share(2) == (4, 1)
    assert share(3) == (2, 1)
    assert share(20) == (1, 1)
    assert share(2, workers=False) == (0, 4)
    assert share(2, "simulation.workers=2") == (2, 2)
    assert share(2, "simulation.workers=6", "simulation.threads=3") == (6, 3)
    monkeypatch.setattr(placement_module, "local_gpus", lambda: 1)
    assert share(2) == (0, 0)
    assert share(2, "simulation.device=cpu") == (4, 1)


def test_runs_at_a_time_have_gpus_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def found(gpus: int, runs: int, *overrides: str) -> list[str | None]:
        monkeypatch.setattr(placement_module, "local_gpus", lambda: gpus)
        simulation = composed(*overrides).simulation
        return [gpus_of(simulation, runs, place) for place in range(runs)]

    assert found(0, 2) == [None, None]
    assert found(1, 2) == [None, None]
    assert found(2, 1) == [None]
    assert found(2, 2) == ["0", "1"]
    assert found(2, 4) == ["0", "1", "0", "1"]
    assert found(4, 2) == ["0,2", "1,3"]
    assert found(5, 2) == ["0,2,4", "1,3"]
    assert found(2, 2, "simulation.device=cpu") == [None, None]
    assert found(2, 2, "simulation.workers=2") == [None, None]
    assert found(4, 2, "simulation.workers=2") == ["0,2", "1,3"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "6,GPU-5a")
    assert found(2, 2) == ["6", "GPU-5a"]


def test_a_number_of_nodes_stays() -> None:
    assert placed(CPU_8, "federation.nodes=24").nodes == 24
    assert placed(CPU_8, "federation.nodes=24").workers == 8
    few = placed(CPU_8, "federation.nodes=2")
    assert (few.nodes, few.workers, few.threads) == (2, 2, 4)


def test_workers_and_threads_that_are_set_stay() -> None:
    placement = placed(CPU_8, "simulation.workers=3", "simulation.threads=1")
    assert (placement.workers, placement.nodes, placement.cpus) == (3, 3, 2)
    assert placement.threads == 1


def test_threads_never_exceed_the_cores() -> None:
    for workers in range(1, 9):
        placement = placed(CPU_8, f"simulation.workers={workers}")
        assert placement.workers * placement.threads <= 8


def test_a_cluster_is_filled_machine_by_machine() -> None:
    machines = [Machine(8, 0), Machine(4, 0), Machine(2, 0)]
    assert placed(machines).workers == 14
    placement = placed(machines, "simulation.workers=3")
    assert placement.cpus == 4
    assert pool(machines, placement) == 3


def test_a_worker_beside_a_gpu_has_few_threads() -> None:
    assert placed(GPU_1).threads == 4
    assert placed(GPU_1, "simulation.threads=9").threads == 9
    assert placed(GPU_1, "simulation.device=cpu", "simulation.workers=1").threads == 16
    assert placed([Machine(cpus=3, gpus=1)]).threads == 3


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_workers_share_a_gpu(device: str) -> None:
    placement = placed(GPU_1, f"simulation.device={device}", "simulation.workers_per_gpu=8")
    assert (placement.device, placement.workers, placement.nodes) == ("cuda", 8, 8)
    assert (placement.gpus, placement.threads) == (0.125, 2)


def test_workers_spread_over_the_gpus() -> None:
    assert placed(GPU_2, "simulation.workers=2").gpus == 1.0
    assert placed(GPU_2, "simulation.workers=4", "simulation.workers_per_gpu=3").gpus == 0.5
    assert placed(GPU_2, "simulation.workers=1").gpus == 1.0


def test_gpus_are_left_alone_on_the_cpu() -> None:
    placement = placed(GPU_1, "simulation.device=cpu")
    assert (placement.device, placement.workers, placement.gpus) == ("cpu", 16, 0.0)


@pytest.mark.parametrize("machines", [GPU_1, GPU_2, [*GPU_2, *CPU_8, Machine(2, 1)]])
@pytest.mark.parametrize("per_gpu", [1, 3, 7])
def test_flower_makes_at_least_the_workers_that_were_placed(
    machines: list[Machine], per_gpu: int
) -> None:
    settings = composed(f"simulation.workers_per_gpu={per_gpu}")
    placement = place(settings, machines, 1000)
    assert pool(machines, placement) == placement.workers
    for workers in range(1, placement.workers):
        simulation = replace(settings.simulation, workers=workers)
        fewer = place(replace(settings, simulation=simulation), machines, 1000)
        assert pool(machines, fewer) >= workers


@pytest.mark.parametrize(
    ("machines", "overrides", "message"),
    [
        (CPU_8, ["simulation.workers=9"], r"simulation\.workers=9, .* room for 8"),
        (
            GPU_1,
            ["simulation.workers=2"],
            r"simulation\.workers=2, .* room for 1 .*workers_per_gpu=1",
        ),
        (CPU_8, ["simulation.device=cuda"], r"simulation\.device=cuda"),
        ([Machine(0, 0)], [], r"room for 0"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(
    machines: list[Machine], overrides: list[str], message: str
) -> None:
    with pytest.raises(FedmemError, match=message) as caught:
        placed(machines, *overrides)
    assert len(str(caught.value).splitlines()) == 1


def test_this_machine_has_the_cores_that_we_may_use() -> None:
    assert this_machine().cpus == len(os.sched_getaffinity(0))


def test_settings_that_travel_are_concrete() -> None:
    placement = Placement(workers=3, nodes=5, cpus=2, gpus=0.5, threads=2, device="cuda")
    settled = placement.settle(composed("data.dir=here"))
    assert settled.federation.nodes == 5
    assert settled.data.dir == str(Path.cwd() / "here")
    simulation = settled.simulation
    assert (simulation.workers, simulation.threads, simulation.device) == (3, 2, "cuda")
    assert Settings.from_json(settled.to_json()) == settled


@pytest.mark.parametrize(
    ("visible", "gpus", "workers", "expected"),
    [
        (None, 2, 3, ["0", "1", "0"]),
        ("3,5", 2, 2, ["3", "5"]),
        ("GPU-a,GPU-b,GPU-c", 2, 4, ["GPU-a", "GPU-b"] * 2),  # of which CUDA finds two
        ("7", 1, 1, ["7"]),
    ],
)
def test_each_worker_here_sees_a_gpu_of_its_own_as_far_as_there_are_enough(
    visible: str | None,
    gpus: int,
    workers: int,
    expected: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(placement_module, "local_gpus", lambda: gpus)
    monkeypatch.delenv(VISIBLE_GPUS, raising=False)
    if visible is not None:
        monkeypatch.setenv(VISIBLE_GPUS, visible)
    there = Placement(workers, nodes=workers, cpus=1, gpus=0.5, threads=1, device="cuda")
    assert [each[VISIBLE_GPUS] for each in there.variables()] == expected
    assert replace(there, device="cpu").variables() == [{}] * workers
