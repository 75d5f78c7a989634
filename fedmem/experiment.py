"""`python -m fedmem.experiment NAME`: the runs behind a reported result, those that are missing.

An experiment is a file in `conf/experiment/`: settings that all its runs share and, under
`experiment`, its arms. An arm is run once for each seed, as a process of its own, in the folder
`runs/experiments/NAME/<arm>/seed-<seed>`. Arms that start `from` others get the checkpoints of the
same seed.

    python -m fedmem.experiment ml-100k                     # what is missing, one after the other
    python -m fedmem.experiment ml-100k --parallel 2        # two at a time
    python -m fedmem.experiment ml-100k --arms full,longer  # these, and what they start from
    python -m fedmem.experiment ml-100k --dry-run           # what would be run
    python -m fedmem.experiment ml-100k data.dir=FOLDER     # any setting, for all runs
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from fedmem.arms import Experiment, PlannedRun, load_experiment
from fedmem.errors import FedmemError, readable_exit

POLL_SECONDS = 0.2
LOG = "log.txt"


def run_experiment(
    experiment: Experiment, runs: Sequence[PlannedRun], parallel: int, console: Console
) -> list[PlannedRun]:
    """Run what is missing, each run after those that it starts from; the runs that failed.

    A run that broke off goes on where it can; one whose parents failed is not begun.

    Raises:
        FedmemError: a folder holds a run of other settings.
        KeyboardInterrupt: Ctrl-C; the runs under way have ended.
    """
    missing = [run for run in runs if not run.is_done()]

    def say(line: str) -> None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    say(f"{experiment.name}: {len(runs) - len(missing)} of {len(runs)} runs are done")
    waiting, failed = list(missing), list[PlannedRun]()
    under_way: dict[PlannedRun, tuple[subprocess.Popen[bytes], float]] = {}
    try:
        while waiting or under_way:
            for run in [run for run in waiting if set(run.parents) & set(failed)]:
                waiting.remove(run)
                failed.append(run)
                say(f"{run.title}: left out, since it starts from a run that failed")
            busy = {*waiting, *under_way}
            ready = [run for run in waiting if not busy & set(run.parents)]
            for run in ready[: parallel - len(under_way)]:
                waiting.remove(run)
                say(f"{run.title}: {run.begin()}, see {run.folder / LOG}")
                under_way[run] = _start(run, parallel), time.monotonic()
            time.sleep(POLL_SECONDS)
            for run, (process, began) in list(under_way.items()):
                if process.poll() is not None:
                    del under_way[run]
                    minutes = f"{(time.monotonic() - began) / 60:.1f} min"
                    if process.returncode == 0 and run.is_done():
                        say(f"{run.title}: done in {minutes}")
                    else:
                        failed.append(run)
                        say(f"{run.title}: failed after {minutes}: {_last_line(run)}")
    except KeyboardInterrupt:
        for process, _ in under_way.values():
            process.wait()  # it got the signal too, and ends by itself
        raise
    return failed


def _start(run: PlannedRun, parallel: int) -> subprocess.Popen[bytes]:
    cores = max(1, (os.cpu_count() or 1) // parallel)
    share = [f"simulation.workers={cores}", "simulation.threads=1"] if parallel > 1 else []
    with (run.folder / LOG).open("ab") as log:
        return subprocess.Popen([*run.command(), *share], stdout=log, stderr=subprocess.STDOUT)


def _last_line(run: PlannedRun) -> str:
    lines = (run.folder / LOG).read_text(errors="replace").strip().splitlines()
    told = [line for line in lines if line.startswith("fedmem: ")] or lines
    return told[-1] if told else "it said nothing"


def _seeds(listed: str) -> list[int]:
    if not re.fullmatch(r"\d+(,\d+)*", listed):
        raise FedmemError(f"--seeds={listed} must be whole numbers, joined by commas.")
    return [int(seed) for seed in listed.split(",")]


def main(arguments: Sequence[str] | None = None) -> None:
    """The command; exits with 2 for a mistake that the user can mend, 1 where a run failed."""
    parser = argparse.ArgumentParser(
        prog="python -m fedmem.experiment", description="Run what an experiment still lacks."
    )
    parser.add_argument("name", help="a file in conf/experiment/, without .yaml")
    parser.add_argument("overrides", nargs="*", help="settings for all its runs, as key=value")
    parser.add_argument("--arms", help="only these, joined by commas, and what they start from")
    parser.add_argument("--seeds", help="joined by commas, in the place of the experiment's own")
    parser.add_argument("--parallel", type=int, default=1, help="runs at a time, sharing the cores")
    parser.add_argument(
        "--out", type=Path, help="folder of its runs; runs/experiments/NAME if not given"
    )
    parser.add_argument("--dry-run", action="store_true", help="print commands, run nothing")
    asked = parser.parse_intermixed_args(arguments)
    console = Console()
    with readable_exit():
        if asked.parallel < 1:
            raise FedmemError(f"--parallel={asked.parallel} is out of range: at least 1.")
        experiment = load_experiment(asked.name, asked.overrides)
        folder = asked.out or Path("runs") / "experiments" / experiment.name
        seeds = experiment.seeds if asked.seeds is None else _seeds(asked.seeds)
        runs = experiment.plan(folder, seeds, asked.arms and asked.arms.split(","))
        if asked.dry_run:
            for run in runs:
                done = "# done: " if run.is_done() else ""
                console.print(
                    done + shlex.join(run.command()), markup=False, highlight=False, soft_wrap=True
                )
            return
        failed = run_experiment(experiment, runs, asked.parallel, console)
        if failed:
            console.print(f"{len(failed)} of {len(runs)} runs failed.", highlight=False)
            sys.exit(1)
        console.print(
            f"Look at them with: python -m fedmem.report {folder} --against {experiment.against}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )


if __name__ == "__main__":
    main()
