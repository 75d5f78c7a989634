"""Seconds that the arithmetic of a round costs, stage by stage, without any federation around it.

    python benchmarks/rounds.py [--rounds 5] [setting=value …]

Trains one node's sampled users for a few rounds after one that is not counted, and ranks all users
once. Prints medians and writes them to `benchmarks/rounds.json`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from fedmem.batches import RoundKey
from fedmem.configuration import compose_settings
from fedmem.evaluation import RANKINGS
from fedmem.memory import auto_threshold
from fedmem.node import Node
from fedmem.participants import sample_round
from fedmem.stages import STAGES, Stage


def measure(node: Node, stage: Stage, rounds: int) -> dict[str, float]:
    """Median seconds of a training round, per user, and seconds to rank all users."""
    settings = node.settings
    if stage.memory:
        threshold = auto_threshold(node.novelty_histogram(), settings.memory.write_ratio)
        node.open_bank(threshold)
        node.ingest(stage, "validation")
    trainer = node.trainer(stage)
    seconds = []
    for server_round in range(rounds + 1):
        fraction = settings.federation.fraction
        users = sample_round(node.users, fraction, settings.seed, stage.name, server_round)
        started = time.perf_counter()
        trainer.train_cohort(users, RoundKey(settings.seed, stage.name, server_round))
        seconds.append(time.perf_counter() - started)
    started = time.perf_counter()
    node.rank(stage, np.asarray(node.users), "validation", RANKINGS)
    ranked = time.perf_counter() - started
    median = statistics.median(seconds[1:])
    return {
        "users a round": len(users),
        "seconds a round": median,
        "ms a trained user": 1e3 * median / len(users),
        "seconds to rank all users": ranked,
    }


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_args()
    node = Node(compose_settings(arguments.overrides))
    figures = {stage.name: measure(node, stage, arguments.rounds) for stage in STAGES.values()}
    about = f"{node.settings.data.name}, {torch.get_num_threads()} threads"
    table = Table(title=about, box=None, title_justify="left")
    table.add_column("stage", no_wrap=True)
    for name in next(iter(figures.values())):
        table.add_column(name, justify="right")
    for stage_name, row in figures.items():
        table.add_row(stage_name, *(f"{value:.3g}" for value in row.values()))
    Console().print(table)
    report = {"data": about, "stages": figures}
    (Path(__file__).parent / "rounds.json").write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
