"""What one poisoned user in ten does to stage 1, with the guard on and off.

    python benchmarks/poison.py [--rounds 100] [--processes 2] [setting=value …]

Every tenth user, drawn by the seed, answers in each round with a change that is not finite, is a
million times as long, or points the wrong way. Users train one by one at one node, so that each
update is seen; the node, its guard and the server's optimizer are those of a run, without the
messages between them. The figures are written to `benchmarks/poison.json`.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from common import Machine, make_table, report

from fedmem.core.data.sampling import sample_round
from fedmem.core.evaluation.protocol import means
from fedmem.core.model.parameters import initial_parameters
from fedmem.core.node import Node
from fedmem.core.settings import Settings
from fedmem.core.stages import PRETRAIN_SASREC as STAGE
from fedmem.core.training.batches import RoundKey
from fedmem.core.training.trainer import LocalTrainer
from fedmem.core.updates.cohort import train_cohort
from fedmem.core.updates.filters import make_filters
from fedmem.core.updates.update import Update
from fedmem.runs.configuration import compose_settings
from fedmem.runs.schedule import Schedule
from fedmem.strategies import ServerOptimizer

SHARE = 0.1
CLEAN = "none"
POISONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "not a number": lambda change: change * math.nan,
    "a million times": lambda change: change * 1e6,
    "sign flipped": lambda change: -change,
}


@dataclass(frozen=True)
class Outcome:
    """What a run came to; a line of the table.

    Attributes:
        poison: which.
        guard: whether it was on.
        hr: HR@10, `sampled`, on the test items, of the round that was best on validation.
        hr_others: the same of the nine users in ten who are never poisoned.
        poisoned: updates that were poisoned.
        left_out: updates that the guard left out.
        stopped: the round whose loss was not finite; None: there was none.
    """

    poison: str
    guard: bool
    hr: float
    hr_others: float
    poisoned: int
    left_out: int
    stopped: int | None


def run(settings: Settings, poison: str, guard: bool, rounds: int) -> Outcome:
    """Stage 1 with this poison."""
    torch.set_num_threads(1)
    if not guard:
        off = replace(settings.strategy, guard_ratio=None, guard_direction=False)
        settings = replace(settings, strategy=off)
    node = Node(settings)
    drawn = np.random.default_rng(settings.seed).permutation(node.users)
    chosen = drawn[: round(SHARE * len(drawn))]
    bad = set(chosen.tolist()) if poison != CLEAN else set()
    train_user, count, left_out = LocalTrainer.train_user, 0, 0

    def poisoned(trainer: LocalTrainer, user: int, key: RoundKey) -> Update:
        update = train_user(trainer, user, key)
        if user not in bad:
            return update
        nonlocal count
        count += 1
        change = {name: POISONS[poison](value) for name, value in update.change.items()}
        return replace(update, change=change)

    setattr(LocalTrainer, "train_user", poisoned)  # noqa: B010 - in a process of its own
    num_items = node.interactions.num_items
    parameters = initial_parameters(settings.model, STAGE, num_items, (0, 0), settings.seed, {})
    node.load(STAGE, parameters)
    optimizer = ServerOptimizer(settings.strategy)
    pace = settings.of_stage(STAGE.name).pace
    schedule = Schedule(rounds, pace, settings.strategy.cooldown)
    best, best_hr, stopped = parameters, -1.0, None
    for number in range(1, rounds + 1):
        users = sample_round(
            node.users, settings.federation.fraction, settings.seed, STAGE.name, number
        )
        key = RoundKey(settings.seed, STAGE.name, number)
        filters = make_filters(settings)
        update = train_cohort(node.trainer(STAGE), users, key, filters)
        left_out += update.left_out
        parameters = optimizer.step(parameters, update.change, schedule.pace(number))
        if not all(bool(value.isfinite().all()) for value in parameters.values()):
            stopped = number
            break
        node.load(STAGE, parameters)
        if number % settings.federation.evaluate_every == 0 or number == rounds:
            ranks = node.rank(STAGE, node.users, "validation", ("sampled",))
            hr = means(ranks.sums())["sampled/HR@10"]
            if hr > best_hr:
                best, best_hr = parameters, hr
    node.load(STAGE, best)
    everybody, others = (
        means(node.rank(STAGE, users, "test", ("sampled",)).sums())["sampled/HR@10"]
        for users in (node.users, np.setdiff1d(node.users, chosen))
    )
    return Outcome(poison, guard, everybody, others, count, left_out, stopped)


def main() -> None:
    """Run what the command line asks for, and report it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("settings", nargs="*", metavar="setting=value")
    arguments = parser.parse_args()
    settings = compose_settings(
        ["client.execution=loop", "strategy.guard_direction=true", *arguments.settings]
    )
    asked = [
        (CLEAN, False),
        (CLEAN, True),
        *((poison, guard) for poison in POISONS for guard in (True, False)),
    ]
    machine = Machine.this()
    with ProcessPoolExecutor(
        arguments.processes, mp_context=get_context("spawn"), max_tasks_per_child=1
    ) as pool:
        running = [pool.submit(run, settings, *each, arguments.rounds) for each in asked]
        outcomes = [each.result() for each in running]
    clean = outcomes[0]
    table = make_table(
        f"{settings.data.name}, {arguments.rounds} rounds: one user in ten poisoned",
        [
            "poison",
            "guard",
            "HR@10",
            "to clean",
            "others",
            "to clean",
            "poisoned",
            "left out",
            "not finite",
        ],
    )
    for outcome in outcomes:
        table.add_row(
            outcome.poison,
            "on" if outcome.guard else "off",
            f"{outcome.hr:.4f}",
            f"{outcome.hr - clean.hr:+.4f}",
            f"{outcome.hr_others:.4f}",
            f"{outcome.hr_others - clean.hr_others:+.4f}",
            f"{outcome.poisoned:,}",
            f"{outcome.left_out:,}",
            "-" if outcome.stopped is None else f"round {outcome.stopped}",
        )
    notes = (
        "to clean: HR@10 less that of the run without poison; others: who are never poisoned\n"
        "poisoned, left out: updates, a batch that was trained again counted once more\n"
        "not finite: the round after which no parameter was a number"
    )
    path = Path(__file__).with_suffix(".json")
    report(path, table, notes, machine, [asdict(each) for each in outcomes])


if __name__ == "__main__":
    main()
