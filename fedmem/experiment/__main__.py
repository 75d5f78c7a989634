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
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from fedmem.core.errors import FedmemError, readable_exit
from fedmem.core.machine.placement import share_of
from fedmem.experiment.arms import Condition, Experiment, PlannedRun, load_experiment

POLL_SECONDS = 0.2
LOG = "log.txt"
LAST_LINES = 5
"""Among so many a mistake is looked for: a message of one has at most three."""


def run_experiment(
    experiment: Experiment, runs: Sequence[PlannedRun], parallel: int, console: Console
) -> list[PlannedRun]:
    """Run what is missing, each run after those that it starts from; the runs that failed.

    A run that broke off goes on; one whose parents failed is not begun.

    Raises:
        FedmemError: a folder holds a run of other settings.
        KeyboardInterrupt: Ctrl-C; the runs under way have ended.
    """
    found = {run: run.condition() for run in runs}
    over = [run for run in runs if found[run] in (Condition.DONE, Condition.STOPPED)]
    failed = [run for run in runs if found[run] is Condition.STOPPED]
    waiting = [run for run in runs if run not in over]

    def say(line: str) -> None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    say(f"{experiment.name}: {len(over)} of {len(runs)} runs are done")
    for run in failed:
        say(f"{run.title}: {Condition.STOPPED.value}, see {run.folder / LOG}")
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
                say(f"{run.title}: {run.condition().value}, see {run.folder / LOG}")
                run.make_ready()
                under_way[run] = _start(run, parallel), time.monotonic()
            time.sleep(POLL_SECONDS)
            for run, (process, began) in list(under_way.items()):
                if process.poll() is not None:
                    del under_way[run]
                    minutes = f"{(time.monotonic() - began) / 60:.1f} min"
                    if process.returncode == 0 and run.condition() is Condition.DONE:
                        say(f"{run.title}: done in {minutes}")
                    else:
                        failed.append(run)
                        say(f"{run.title}: failed after {minutes}: {_last_words(run)}")
    finally:
        for process, _ in under_way.values():
            process.send_signal(signal.SIGINT)
        for process, _ in under_way.values():
            process.wait()
    return failed


def _start(run: PlannedRun, parallel: int) -> subprocess.Popen[bytes]:
    """Begin it in a session of its own, so that Ctrl-C reaches it once, through us."""
    words = [*run.command(), *_share(run, parallel)]
    with (run.folder / LOG).open("ab") as log:
        return subprocess.Popen(words, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)


def _share(run: PlannedRun, parallel: int) -> list[str]:
    """What keeps a run to its share of the cores."""
    asked = run.settings.simulation
    share = share_of(asked, parallel, workers=run.module == "fedmem.simulate")
    if share == asked:
        return []
    return [f"simulation.workers={share.workers}", f"simulation.threads={share.threads}"]


def _last_words(run: PlannedRun) -> str:
    """What it said last, of a mistake if there was one."""
    lines = (run.folder / LOG).read_text(errors="replace").strip().splitlines()[-LAST_LINES:]
    told = [line for line in lines if line.startswith("fedmem: ")] or lines
    return told[-1] if told else "it said nothing"


def _end_runs_with_us() -> None:
    """Let every signal that ends us do what Ctrl-C does; nohup still lets us live on.

    Ctrl-C too: a shell's background jobs ignore it, and so would the runs, which are ended by it.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for end in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(end) is not signal.SIG_IGN:
            signal.signal(end, signal.default_int_handler)


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
    with readable_exit("The same command goes on."):
        if asked.parallel < 1:
            raise FedmemError(f"--parallel={asked.parallel} is out of range: at least 1.")
        experiment = load_experiment(asked.name, asked.overrides)
        folder = asked.out or Path("runs") / "experiments" / experiment.name
        seeds = experiment.seeds if asked.seeds is None else _seeds(asked.seeds)
        runs = experiment.plan(folder, seeds, asked.arms and asked.arms.split(","))
        if asked.dry_run:
            for run in runs:
                done = run.condition() in (Condition.DONE, Condition.STOPPED)
                line = ("# done: " if done else "") + shlex.join(run.command())
                console.print(line, markup=False, highlight=False, soft_wrap=True)
            return
        _end_runs_with_us()
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
