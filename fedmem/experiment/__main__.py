"""Run what an experiment still lacks.

    python -m fedmem.experiment ml-1m                  # one run after the other
    python -m fedmem.experiment ml-1m --parallel 2     # two at a time
    python -m fedmem.experiment ml-1m --arms full      # it, and its parents
    python -m fedmem.experiment ml-1m --dry-run        # print the commands
    python -m fedmem.experiment ml-1m data.dir=FOLDER  # any setting, for all

An experiment is a file in `conf/experiment/`: settings that all its runs share and, under
`experiment`, its arms. An arm is run once for each seed, as a process of its own, in the folder
`runs/experiments/NAME/<arm>/seed-<seed>`. Arms that start `from` others get the checkpoints of the
same seed.
"""

from __future__ import annotations

import argparse
import re
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from fedmem.core.commands import command_parser
from fedmem.core.console import say
from fedmem.core.errors import FedmemError, readable_exit
from fedmem.core.files.lock import InUseError, lock_file

LOCK = "lock"


def main(arguments: Sequence[str] | None = None) -> None:
    """The command; exits with 2 for a mistake that the user can mend, 1 where a run failed."""
    asked = _options(arguments)
    from fedmem.experiment.arms import load_experiment  # torch, which --help needs not
    from fedmem.experiment.running import run_experiment

    with readable_exit("The same command goes on."):
        if asked.parallel < 1:
            raise FedmemError(f"--parallel={asked.parallel} is out of range: at least 1.")
        experiment = load_experiment(asked.name, asked.settings)
        folder = asked.out or Path("runs") / "experiments" / experiment.name
        seeds = experiment.seeds if asked.seeds is None else _seeds(asked.seeds)
        runs = experiment.plan(folder, seeds, asked.arms and asked.arms.split(","))
        if asked.dry_run:
            for run in runs:
                done = "# done: " if run.condition().is_over else ""
                say(done + shlex.join(run.command()))
            return
        # A shell's background jobs ignore Ctrl-C, and so would the runs, which are ended by it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with _only_here(folder):
            failed = run_experiment(experiment, runs, asked.parallel, Console())
        if failed:
            say(f"{len(failed)} of {len(runs)} runs failed.")
            sys.exit(1)
        say(f"Look at them with: python -m fedmem.report {folder} --against {experiment.against}")


@contextmanager
def _only_here(folder: Path) -> Iterator[None]:
    """Keep another call out of a folder, which would begin the same runs."""
    try:
        lock = lock_file(folder / LOCK)
    except InUseError as error:
        raise FedmemError(
            f"{folder} is in use by another call of fedmem.experiment: let it end first, or give "
            "--out another folder."
        ) from error
    with lock:
        yield


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = command_parser("experiment", __doc__)
    add = parser.add_argument
    add("name", help="a file in conf/experiment/, without .yaml")
    parser.add_settings()
    add("--arms", help="only these, joined by commas, and what they start from")
    add("--seeds", help="joined by commas, in the place of the experiment's own")
    add("--parallel", type=int, default=1, help="runs at a time, sharing the cores")
    add("--out", type=Path, help="folder of its runs; runs/experiments/NAME if not given")
    add("--dry-run", action="store_true", help="print commands, run nothing")
    return parser.parse_intermixed_args(arguments)


def _seeds(listed: str) -> list[int]:
    if not re.fullmatch(r"\d+(,\d+)*", listed):
        raise FedmemError(f"--seeds={listed} must be whole numbers, joined by commas.")
    return [int(seed) for seed in listed.split(",")]


if __name__ == "__main__":
    main()
