"""What a run of stage 1 costs on a GPU, and how much of its time the GPU works.

    python benchmarks/gpu.py [--workers 1,2,4] [setting=value …]

Trains stage 1 through Flower, validations included, once for each number of workers that
share the GPU, and once more in one process under torch's profiler, a few rounds of which show the
time that the GPU's kernels take, and which kernels. Then each part of a round is measured by
itself, in one process without Flower. What a run's round takes beyond training in one process is
Flower, its workers, and waiting for them. The figures are written to `benchmarks/gpu.json`.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from common import Machine, figure, in_fresh_process, make_table, middle, report
from gpu_parts import Parts, measure_parts
from systems import Start, read_rounds, run_quietly
from torch.profiler import ProfilerActivity, profile

from fedmem.core.console import say
from fedmem.core.data.sampling import participants, sample_round
from fedmem.core.node import Node
from fedmem.core.settings import Settings
from fedmem.core.stages import PRETRAIN_SASREC
from fedmem.core.training.batches import RoundKey
from fedmem.core.updates.cohort import train_cohort
from fedmem.runs.configuration import compose_settings

PROFILED_ROUNDS = 5


@dataclass(frozen=True)
class Run:
    """One run: seconds of a round and of a validation, medians, and of all of it."""

    workers: int
    round_s: float
    validation_s: float
    total_s: float


@dataclass(frozen=True)
class Kernels:
    """Seconds that the GPU works: for a round's training and for a validation."""

    round_s: float
    validation_s: float
    longest: dict[str, float]
    """Those that take longest, by name, for a round."""


def run(settings: Settings) -> Run:
    """Run the stage once."""
    in_fresh_process(run_quietly, settings)
    rounds = read_rounds(settings)
    return Run(
        workers=settings.simulation.workers,
        round_s=middle([r["seconds"] - r["evaluation_seconds"] for r in rounds[1:]]),
        validation_s=middle([r["evaluation_seconds"] for r in rounds[1:] if r["validation"]]),
        total_s=sum(r["seconds"] for r in rounds),
    )


def kernels(settings: Settings) -> Kernels:
    """Profile some rounds and a validation in this process."""
    stage, node = PRETRAIN_SASREC, Node(settings)
    node.load(stage, Start.of(settings, stage, node).parameters, "")
    everyone = participants(settings)

    def train(server_round: int) -> None:
        fraction, seed = settings.federation.fraction, settings.seed
        users = sample_round(everyone, fraction, seed, stage.name, server_round)
        train_cohort(node.trainer(stage), users, RoundKey(seed, stage.name, server_round))

    def validate() -> None:
        node.rank(stage, node.users, "validation", ("sampled",))

    train(1)
    validate()
    with profile(activities=[ProfilerActivity.CUDA]) as training:
        for server_round in range(PROFILED_ROUNDS):
            train(2 + server_round)
    with profile(activities=[ProfilerActivity.CUDA]) as validation:
        validate()
    events = sorted(training.key_averages(), key=lambda event: -event.self_device_time_total)
    longest = {e.key[:60]: e.self_device_time_total / PROFILED_ROUNDS / 1e6 for e in events[:15]}
    return Kernels(
        _device_seconds(training) / PROFILED_ROUNDS, _device_seconds(validation), longest
    )


def _device_seconds(trace: profile) -> float:
    return float(sum(event.self_device_time_total for event in trace.key_averages())) / 1e6


def spelt(parts: Parts) -> str:
    """The parts as a sentence."""
    apart = ", ".join(f"{name} {1e3 * seconds:.1f}" for name, seconds in asdict(parts).items())
    return f"parts of a round in one process, ms: {apart}"


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--workers", default="1,2,4", help="numbers of workers to try")
    parser.add_argument("overrides", nargs="*", metavar="setting=value")
    arguments = parser.parse_intermixed_args()
    if not torch.cuda.is_available():
        parser.error("there is no GPU here")
    machine = Machine.this()
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        own = ["stage=pretrain_sasrec", "simulation.device=cuda", f"checkpoint.dir={folder}"]

        def compose(workers: int) -> Settings:
            overrides = [*own, f"federation.nodes={workers}", f"simulation.workers={workers}"]
            overrides.append(f"simulation.workers_per_gpu={workers}")
            output = tempfile.mkdtemp(dir=folder)
            return compose_settings([*overrides, *arguments.overrides], output_dir=output)

        busy = in_fresh_process(kernels, compose(1))
        parts = in_fresh_process(measure_parts, compose(1))
        runs = [run(compose(workers)) for workers in map(int, arguments.workers.split(","))]
    columns = ("workers", "s a round", "of it not\nthe GPU's", "s a\nvalidation", "s in all")
    table = make_table(f"{torch.cuda.get_device_name()}, stage 1", columns)
    for each in runs:
        idle = 1 - busy.round_s / each.round_s
        figures = (each.round_s, idle, each.validation_s, each.total_s)
        table.add_row(str(each.workers), *map(figure, figures))
    for name, seconds in busy.longest.items():
        say(f"{1e3 * seconds:8.2f} ms a round  {name}")
    report(
        Path(__file__).with_suffix(".json"),
        table,
        f"the GPU's kernels take {figure(busy.round_s)} s a round, "
        f"{figure(busy.validation_s)} s a validation\n{spelt(parts)}",
        machine,
        {
            "settings": arguments.overrides,
            "kernels": asdict(busy),
            "parts": asdict(parts),
            "runs": [asdict(each) for each in runs],
        },
    )


if __name__ == "__main__":
    main()
