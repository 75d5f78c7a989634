"""Seconds of a round of stage 1 with and without privacy, at one node.

    python benchmarks/private_rounds.py [--users N] [--repeats N] [setting=value …]

Trains the same users from the same start in one process, with `privacy=none`, `central` and
`distributed` in turn, and adds the noise as the server does, or as one of three nodes, to integers.
Shown are medians and their ratio.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import numpy as np
from rich.console import Console

from fedmem.core.commands import command_parser
from fedmem.core.console import make_table
from fedmem.core.data.sampling import participants
from fedmem.core.errors import readable_exit
from fedmem.core.model.parameters import initial_parameters
from fedmem.core.node import Node
from fedmem.core.privacy.discrete import NoiseShare
from fedmem.core.privacy.noise import GaussianMechanism, NoiseSeries
from fedmem.core.privacy.secret import SecretStreams, new_key
from fedmem.core.secure_sum.coded_update import encode_update
from fedmem.core.settings import Settings
from fedmem.core.stages import STAGES
from fedmem.core.training.batches import RoundKey
from fedmem.core.updates.cohort import train_cohort
from fedmem.core.updates.filters import filter_average, make_filters
from fedmem.runs.configuration import compose_settings

STAGE = STAGES["pretrain_sasrec"]
NOISE = 3.0
BITS, NODES = 32, 3


def rounds_of(settings: Settings, users: int) -> Callable[[int], None]:
    """A function that trains a round, by its number."""
    node = Node(settings, participants(settings))
    items = node.interactions.num_items
    start = initial_parameters(settings.model, STAGE, items, (0, 0), settings.seed, {})
    node.load(STAGE, start, "start")
    chosen = node.users[:: max(1, len(node.users) // users)][:users]
    scope = {name: start[name] for name in STAGE.split(start)[0]}
    series = NoiseSeries(SecretStreams(new_key()), STAGE.name, 1, scope)
    mechanism = GaussianMechanism(NOISE, float(users), series)
    size = sum(value.numel() for value in scope.values())
    streams, generator = SecretStreams(new_key()), np.random.default_rng()

    def train(number: int) -> None:
        key = RoundKey(settings.seed, STAGE.name, number)
        update = train_cohort(node.trainer(STAGE), chosen, key, make_filters(settings))
        if settings.privacy.of_nodes:
            share = NoiseShare.finest(NOISE, size, 2, BITS, NODES, users)
            noise = share.draw(streams, f"noise/{number}")
            encode_update(update, share.scale, BITS, NODES, generator, noise)
            return
        filters = make_filters(settings, mechanism=mechanism if settings.privacy.on else None)
        filter_average(filters, update.change, update.weight, number)

    return train


def main() -> None:
    """The command."""
    parser = command_parser("private_rounds", __doc__)
    parser.add_argument("--users", type=int, default=189, help="users of a round (189)")
    parser.add_argument("--repeats", type=int, default=5, help="rounds of each kind (5)")
    parser.add_settings()
    asked = parser.parse_with_settings()
    with readable_exit():
        kinds = {
            kind: rounds_of(
                compose_settings(["stage=pretrain_sasrec", f"privacy={kind}", *asked.settings]),
                asked.users,
            )
            for kind in ("none", "central", "distributed")
        }
        seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
        for number in range(asked.repeats + 1):
            for kind, train in kinds.items():
                began = time.perf_counter()
                train(number + 1)
                seconds[kind].append(time.perf_counter() - began)
        middle = {kind: median(own[1:]) for kind, own in seconds.items()}  # the first compiles
        table = make_table(f"{asked.users} users", "seconds", "times none", gap=3)
        for kind, own in middle.items():
            table.add_row(f"privacy={kind}", f"{own:.2f}", f"{own / middle['none']:.2f}")
        Console().print(table)


if __name__ == "__main__":
    main()
