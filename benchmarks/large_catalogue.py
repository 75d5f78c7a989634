"""Rounds of stage 1 on a made-up catalogue: whether they fit, how long they take, what they move.

    python benchmarks/large_catalogue.py [--items N] [--users N] [setting=value …]

A million items by default and 40,000 users with up to nine of them each, the lower numbers more
often. Trains two rounds of a tenth of the users through Flower, a target beside 4,096 items
that are drawn for a round, with `transport=coded`, and stops before the validation. It stops too
where less than a gigabyte of the machine's memory is left.

- memory: the highest sum over all processes of the run of the memory that is theirs (PSS).
- a round: seconds; the first one compiles.
- a message, of the second round: MB of parameters down and of the update up.

The figures are written to `benchmarks/large_catalogue.json`.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from common import Machine, figure, make_table, report
from scaling import PeakMemory

from fedmem.core.errors import FedmemError
from fedmem.core.machine.children import environment
from fedmem.runs.folder import ROUNDS as METRICS

ROUNDS, AT_MOST = 2, 9
LEAST_BYTES = 1 << 30
RECIPE = (
    "data=custom",
    "data.path=interactions.txt",
    "data.catalogue_file=items.txt",
    "data.format=pairs",
    "stage=pretrain_sasrec",
    "model.max_length=50",
    "federation.nodes=1",
    "federation.fraction=0.1",
    f"federation.rounds={ROUNDS + 1}",
    f"federation.evaluate_every={ROUNDS + 1}",
    "client.candidates=4096",
    "strategy.lazy=true",
    "transport=coded",
    "tracking.tensorboard=false",
)
COLUMNS = ("items", "users", "GB", "round 1 s", "round 2 s", "MB down", "MB up")


def make_up(folder: Path, items: int, users: int) -> None:
    """Write histories and the catalogue."""
    generator = np.random.default_rng(0)
    with (folder / "interactions.txt").open("w", encoding="utf-8") as lines:
        for user in range(1, users + 1):
            chosen = np.unique((items * generator.random(AT_MOST) ** 2).astype(int)) + 1
            lines.writelines(f"{user} {item}\n" for item in chosen)
    numbers = (f"{item}\n" for item in range(1, items + 1))
    (folder / "items.txt").write_text("".join(numbers), encoding="utf-8")


def rounds_of(folder: Path, overrides: list[str], memory: PeakMemory) -> list[dict[str, Any]]:
    """What the first rounds recorded, of a run that is then interrupted.

    Raises:
        FedmemError: it ended before, or would have filled the machine's memory.
    """
    metrics = folder / "run" / METRICS
    own = [f"data.dir={folder}", f"hydra.run.dir={folder / 'run'}"]
    own += [f"checkpoint.dir={folder / 'checkpoints'}"]
    command = [sys.executable, "-m", "fedmem.simulate", *RECIPE, *overrides, *own]
    with memory.watched(), (folder / "log").open("w+", encoding="utf-8") as log:
        running = subprocess.Popen(command, stdout=log, stderr=log, env=environment())
        try:
            while not (metrics.is_file() and metrics.read_text().count("\n") >= ROUNDS):
                if running.poll() is not None:
                    log.seek(0)
                    raise FedmemError(f"The run failed:\n{log.read()}")
                if psutil.virtual_memory().available < LEAST_BYTES:
                    raise FedmemError("Stopped: the machine's memory is nearly full.")
                time.sleep(0.5)
        finally:
            running.send_signal(signal.SIGINT)
            running.wait()
    return [json.loads(line) for line in metrics.read_text().splitlines()[:ROUNDS]]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--users", type=int, default=40_000)
    parser.add_argument("overrides", nargs="*")
    asked = parser.parse_args()
    machine, memory = Machine.this(), PeakMemory()
    with tempfile.TemporaryDirectory() as place:
        make_up(Path(place), asked.items, asked.users)
        first, second = rounds_of(Path(place), asked.overrides, memory)
    down, up = second["traffic"]["train_down"], second["traffic"]["train_up"]
    figures = (
        memory.bytes / 1e9,
        first["seconds"],
        second["seconds"],
        (down["scope"] + down.get("steps", 0)) / 1e6,
        (up.get("coded", 0) + up.get("change", 0)) / 1e6,
    )
    table = make_table("", COLUMNS)
    table.add_row(f"{asked.items:,}", f"{asked.users:,}", *map(figure, figures))
    named = dict(zip(COLUMNS, (asked.items, asked.users, *figures), strict=True))
    notes = f"{second['users']:,} users a round"
    report(Path(__file__).with_suffix(".json"), table, notes, machine, named)


if __name__ == "__main__":
    main()
