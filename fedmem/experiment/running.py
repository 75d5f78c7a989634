"""Run what an experiment still lacks: each run a process of its own, some at a time."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Sequence
from functools import partial

from rich.console import Console

from fedmem.core.console import say
from fedmem.core.machine.children import environment
from fedmem.core.machine.placement import gpus_of, share_of
from fedmem.experiment.arms import Condition, Experiment, PlannedRun

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
    failed = [run for run in runs if found[run] is Condition.STOPPED]
    waiting = [run for run in runs if not found[run].is_over]
    report = partial(say, console=console)
    report(f"{experiment.name}: {len(runs) - len(waiting)} of {len(runs)} runs are done")
    for run in failed:
        report(f"{run.title}: {Condition.STOPPED.value}, see {run.folder / LOG}")
    under_way: dict[PlannedRun, tuple[subprocess.Popen[bytes], float]] = {}
    places: dict[PlannedRun, int] = {}
    try:
        while waiting or under_way:
            for run in [run for run in waiting if set(run.parents) & set(failed)]:
                waiting.remove(run)
                failed.append(run)
                report(f"{run.title}: left out, since it starts from a run that failed")
            busy = {*waiting, *under_way}
            ready = [run for run in waiting if not busy & set(run.parents)]
            for run in ready[: parallel - len(under_way)]:
                waiting.remove(run)
                report(f"{run.title}: {run.condition().value}, see {run.folder / LOG}")
                run.make_ready()
                places[run] = min(set(range(parallel)) - {places[each] for each in under_way})
                under_way[run] = _start(run, parallel, places[run]), time.monotonic()
            time.sleep(POLL_SECONDS)
            for run, (process, began) in list(under_way.items()):
                if process.poll() is not None:
                    del under_way[run]
                    minutes = f"{(time.monotonic() - began) / 60:.1f} min"
                    if process.returncode == 0 and run.condition() is Condition.DONE:
                        report(f"{run.title}: done in {minutes}")
                    else:
                        failed.append(run)
                        report(f"{run.title}: failed after {minutes}: {_last_words(run)}")
    finally:
        for process, _ in under_way.values():
            process.send_signal(signal.SIGINT)
        for process, _ in under_way.values():
            process.wait()
    return failed


def _start(run: PlannedRun, parallel: int, place: int) -> subprocess.Popen[bytes]:
    """Begin it on its share of cores and GPUs, in a session of its own: Ctrl-C comes through us."""
    words, simulation = run.command(), run.settings.simulation
    share = share_of(simulation, parallel, workers=run.module == "fedmem.simulate")
    if share != simulation:
        words += [f"simulation.workers={share.workers}", f"simulation.threads={share.threads}"]
    gpus = gpus_of(simulation, parallel, place)
    own = {} if gpus is None else {"CUDA_VISIBLE_DEVICES": gpus}
    with (run.folder / LOG).open("ab") as log:
        return subprocess.Popen(
            words,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment(**own),
            start_new_session=True,
        )


def _last_words(run: PlannedRun) -> str:
    """What it printed last, of a mistake if there was one."""
    lines = (run.folder / LOG).read_text("utf-8", "replace").strip().splitlines()[-LAST_LINES:]
    mistakes = [line for line in lines if line.startswith("fedmem: ")]
    return [*lines, *mistakes][-1] if lines else "it printed nothing"
