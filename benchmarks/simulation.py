"""Seconds a training round: fedmem beside plain Flower and beside bare PyTorch.

    python benchmarks/simulation.py [--stages NAME,…] [--rounds N] [setting=value …]

- `fedmem`: as users run it, a simulation through Flower, by the seconds that its strategy
  records for a round; validations are taken off.
- `plain`: Flower as its tutorials have it and as it comes, see `plain_flower.py`.
- `tuned`: the same, with one core for each client instead of two.
- `floor`: the same arithmetic without any federation, see `floor.py`.

All train the same users in a round, from the same parameters, with the same loss and server
step. Each run of a system is a process of its own whose first round is not counted; the
systems take turns over the repeats, so that a machine that slows down hits all of them. Shown
are the medians over all counted rounds. Stages 2 and 3 start from checkpoints that are trained for
two rounds in a temporary folder first: how well they rank does not change how long a round takes.
A stage that keeps hidden states from round to round is run as long as it is by default, since a
user costs more when it is met first.
Settings choose the data and the users of a round, as for `python -m fedmem.simulate`. The figures
are written to `benchmarks/simulation.json`.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from common import Machine, figure, in_fresh_process, make_table, middle, report
from floor import floor_rounds
from plain_flower import FLOWERS_CPUS, plain_rounds
from rich.table import Table
from staged_settings import StagedSettings
from systems import fedmem_rounds

from fedmem.core.console import say
from fedmem.core.data.sampling import participants
from fedmem.core.stages import STAGES, find_stage
from fedmem.runs.configuration import compose_settings

SYSTEMS = ("plain", "tuned", "fedmem", "floor")
PLAIN_CPUS = {"plain": FLOWERS_CPUS, "tuned": 1}
Seconds = dict[str, dict[str, list[float]]]
"""Of every counted round, by stage and system."""


def counted(stage: str) -> int:
    """Rounds to count of a stage, where the command does not say."""
    return 5 if STAGES[stage].trains_backbone else compose_settings().of_stage(stage).rounds - 1


def measure(staged: StagedSettings, system: str, stage: str, rounds: int) -> list[float]:
    """Seconds of the counted rounds of one run."""
    settings = staged.settings(stage, rounds)
    if system == "fedmem":
        return in_fresh_process(fedmem_rounds, settings)
    if system == "floor":
        return in_fresh_process(floor_rounds, settings, find_stage(stage), rounds)
    cpus = PLAIN_CPUS[system]
    return in_fresh_process(plain_rounds, settings, find_stage(stage), rounds, cpus).seconds[1:]


def tabulate(seconds: Seconds, users: int, data: str) -> Table:
    """Medians and their ratios, a stage a row."""
    ratios = ("plain /\nthis", "tuned /\nthis", "this /\nfloor", "stage 1\n/ this")
    title = f"{data}, {users:,} users a round: seconds a round"
    table = make_table(title, ("stage", *SYSTEMS, *ratios))
    medians = {stage: {name: middle(of[name]) for name in SYSTEMS} for stage, of in seconds.items()}
    first = medians.get("pretrain_sasrec", {}).get("fedmem", float("nan"))
    for stage, of in medians.items():
        own = of["fedmem"]
        ratio = (of["plain"] / own, of["tuned"] / own, own / of["floor"], first / own)
        table.add_row(
            stage,
            *(figure(of[name]) for name in SYSTEMS),
            *(figure(value, "×") for value in ratio),
        )
    return table


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--stages", default=",".join(STAGES), help="names, joined by commas")
    parser.add_argument("--rounds", type=int, help="counted rounds of a run; 5, or a whole stage")
    parser.add_argument("--repeats", type=int, default=3, help="runs of fedmem and of the floor")
    parser.add_argument("--plain-rounds", type=int, default=2)
    parser.add_argument("--plain-repeats", type=int, default=2, help="runs of plain Flower")
    parser.add_argument("--without-plain", action="store_true", help="leave plain Flower out")
    parser.add_argument("overrides", nargs="*", metavar="setting=value")
    arguments = parser.parse_intermixed_args()
    machine = Machine.this()
    stages, overrides = arguments.stages.split(","), arguments.overrides
    plain_repeats = 0 if arguments.without_plain else arguments.plain_repeats
    repeats = dict.fromkeys(SYSTEMS, arguments.repeats) | dict.fromkeys(PLAIN_CPUS, plain_repeats)
    seconds: Seconds = {stage: {system: [] for system in SYSTEMS} for stage in stages}
    settings = compose_settings(overrides)
    users = max(1, round(settings.federation.fraction * len(participants(settings))))
    with tempfile.TemporaryDirectory() as folder:
        staged = StagedSettings(overrides, stages, Path(folder))
        for repeat in range(max(repeats.values())):
            for stage in stages:
                for system in SYSTEMS:
                    if repeat >= repeats[system]:
                        continue
                    slow = system in PLAIN_CPUS
                    rounds = arguments.plain_rounds if slow else arguments.rounds or counted(stage)
                    taken = measure(staged, system, stage, rounds)
                    seconds[stage][system] += taken
                    say(f"repeat {repeat + 1}, {stage}, {system}: {figure(middle(taken))} s")
    report(
        Path(__file__).with_suffix(".json"),
        tabulate(seconds, users, settings.data.name),
        "plain: as Flower comes, two cores a client; tuned: one\n"
        "floor: of stage 1 in bare PyTorch, of the others fedmem's own arithmetic in one process\n"
        "this: fedmem's round of the stage",
        machine,
        {"settings": overrides, "users a round": users, "seconds": seconds},
    )


if __name__ == "__main__":
    main()
