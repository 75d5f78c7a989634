"""Several local steps: users one after the other, and side by side.

    python benchmarks/local_steps.py [--stages NAME,…] [--users N] [--steps N] [setting=value …]

Trains the same users for several local steps, in one process and on `simulation.device`, in the two
ways that `client.execution=auto` chooses between: `loop` and `stacked`. Each stage and way has a
process of its own whose first time is not counted; the ways take turns over the repeats. Shown are
medians. Stages 2 and 3 start as in `simulation.py`. The figures are written to
`benchmarks/local_steps.json`.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch
from common import Machine, figure, in_fresh_process, make_table, middle, report
from staged_settings import StagedSettings
from systems import Start, fill_memories

from fedmem.core.node import Node
from fedmem.core.settings import Settings
from fedmem.core.stages import STAGES, Stage, find_stage
from fedmem.core.training.batches import RoundKey
from fedmem.core.updates.cohort import train_cohort

WAYS = ("loop", "stacked")
TIMES = 3
"""That a process trains the users, after the first."""


def train(settings: Settings, stage: Stage, users: int) -> list[float]:
    """Seconds to train that many users, spread over all."""
    node = Node(settings)
    start = Start.of(settings, stage, node)
    node.load(stage, start.parameters, "frozen")
    fill_memories(node, stage, start.threshold)
    chosen = node.users[:: max(1, len(node.users) // users)][:users]
    seconds = []
    for server_round in range(1, TIMES + 2):
        started = time.perf_counter()
        key = RoundKey(settings.seed, stage.name, server_round)
        update = train_cohort(node.trainer(stage), chosen, key)
        assert update.norm > 0  # also waits for the GPU
        seconds.append(time.perf_counter() - started)
    return seconds[1:]


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--stages", default=",".join(STAGES), help="names, joined by commas")
    parser.add_argument("--users", type=int, default=32)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("overrides", nargs="*", metavar="setting=value")
    arguments = parser.parse_intermixed_args()
    machine = Machine.this()
    names = arguments.stages.split(",")
    seconds: dict[str, dict[str, list[float]]] = {name: {way: [] for way in WAYS} for name in names}
    with tempfile.TemporaryDirectory() as folder:
        staged = StagedSettings(arguments.overrides, names, Path(folder))
        for _ in range(arguments.repeats):
            for name in names:
                for way in WAYS:
                    own = (f"client.local_steps={arguments.steps}", f"client.execution={way}")
                    settings, stage = staged.settings(name, 1, *own), find_stage(name)
                    seconds[name][way] += in_fresh_process(train, settings, stage, arguments.users)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else machine.cpu
    columns = ("stage", *(f"{way}, ms\na user" for way in WAYS), "loop /\nstacked")
    title = f"{arguments.steps} local steps, {arguments.users} users, one process, {device}"
    table = make_table(title, columns)
    for name, of in seconds.items():
        loop, stacked = (middle(of[way]) for way in WAYS)
        each = (figure(1000 * taken / arguments.users) for taken in (loop, stacked))
        table.add_row(name, *each, figure(loop / stacked, "×"))
    report(
        Path(__file__).with_suffix(".json"),
        table,
        "the same users, windows and random numbers",
        machine,
        {
            "settings": arguments.overrides,
            "users": arguments.users,
            "steps": arguments.steps,
            "seconds": seconds,
        },
    )


if __name__ == "__main__":
    main()
