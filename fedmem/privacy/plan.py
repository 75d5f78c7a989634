"""What a budget buys, before any training."""

from __future__ import annotations

import math
from dataclasses import replace

from rich.console import Console

from fedmem.core.console import make_table, say
from fedmem.core.data.cold import load_histories
from fedmem.core.data.sampling import participants
from fedmem.core.errors import FedmemError
from fedmem.core.model.parameters import initial_parameters
from fedmem.core.privacy.discrete import honest_of
from fedmem.core.privacy.plan import noise_multiplier, planned
from fedmem.core.settings import Settings
from fedmem.core.stages import find_stage

BUDGETS = (1.0, 2.0, 4.0, 8.0, 16.0)


def print_plan(settings: Settings) -> None:
    """Print σ and the noise beside the signal for several ε, of the run that settings describe.

    Raises:
        FedmemError: the settings ask for no privacy, or the data are not there.
    """
    if not settings.privacy.on:
        raise FedmemError("These settings ask for no privacy: add privacy=central.")
    users = len(participants(settings))
    names = list(settings.stage)
    items = load_histories(settings).warm.num_items
    stage = find_stage(names[0])
    parameters = initial_parameters(settings.model, stage, items, (1, 1), settings.seed, {})
    numbers = sum(parameters[name].numel() for name in stage.split(parameters)[0])
    rounds = {name: settings.of_stage(name).rounds for name in names}
    taken = settings.federation.fraction * users
    table = make_table("ε", "σ", "noise of\na round", "noise of\nall rounds", gap=3)
    budgets = sorted({*BUDGETS, settings.privacy.epsilon or BUDGETS[0]})
    total = sum(rounds.values())
    for budget in budgets:
        asked = replace(settings.privacy, epsilon=budget, noise=None)
        noise = noise_multiplier(replace(settings, privacy=asked))
        of_round = noise * math.sqrt(numbers) / taken
        row = (f"{noise:.3f}", f"{of_round:.2f}", f"{of_round / math.sqrt(total):.2f}")
        table.add_row(f"{budget:g}", *row)
    console = Console()
    console.print(table)
    figures = planned(settings, 1.0)[1]
    counted = f" and {sum(each.times for each in figures)} noised figures" if figures else ""
    listed = ", ".join(f"{name} {count}" for name, count in rounds.items())
    say(
        f"\nδ {settings.privacy.delta:g}, {users} users, about {taken:.0f} of them in a round "
        f"({settings.privacy.schedule}); rounds: {listed}{counted}.\n"
        f"Noise is the length of what is added to a mean of {numbers:,} numbers, to which users "
        "whose\nupdates all pointed one way would give length 1; of all rounds: of their average.",
        console,
    )
    if settings.privacy.of_nodes:
        sums, nodes = settings.privacy.secure_sum, settings.federation.nodes
        nodes = settings.privacy.fewest_nodes if nodes == "auto" else nodes
        honest = honest_of(sums.needed(nodes))
        wider = math.sqrt(nodes / honest)
        say(
            f"\nNodes add it in shares, of which those of {honest} are enough: with all {nodes} "
            f"nodes there the\nnoise is {wider:.2f} times as much (privacy.secure_sum.threshold).",
            console,
        )
    if settings.privacy.delta >= 1 / users:
        raise FedmemError(
            f"privacy.delta={settings.privacy.delta:g} is no promise for {users} users: it must be "
            f"below {1 / users:.2g}."
        )
