"""How evenly the work of a round falls on simulated nodes: a round waits for the busiest.

    python benchmarks/homes.py [--nodes 2,4,16] [setting=value …]

Homes are chosen by the samples of the first rounds of the three stages, and, to compare, by the
expected work of a user alone, as they are for very many users. The excess is what the busiest node
has of a round's targets above the mean of all nodes, on average over these rounds.
"""

from __future__ import annotations

import argparse

import numpy as np
import numpy.typing as npt
from common import make_table
from rich.console import Console

from fedmem.core.arrays import UserIndices
from fedmem.core.data import load_histories
from fedmem.core.data.homes import share_out, work_by_round
from fedmem.core.data.sampling import participants, targets_in_windows
from fedmem.core.errors import FedmemError, readable_exit
from fedmem.runs.configuration import compose_settings


def excess(homes: list[UserIndices], work: npt.NDArray[np.floating]) -> float:
    """Of the busiest node over the mean, where users are rows of work in rounds [U, K]."""
    loads = np.array([work[home].sum(0) for home in homes])
    return float((loads.max(0) / loads.mean(0)).mean()) - 1


def counts(listed: str) -> list[int]:
    """Whole numbers joined by commas."""
    return [int(count) for count in listed.split(",")]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("settings", nargs="*", metavar="setting=value")
    parser.add_argument("--nodes", type=counts, default="2,4,16", help="joined by commas")
    asked = parser.parse_intermixed_args()
    with readable_exit():
        settings = compose_settings(asked.settings)
        warm = load_histories(settings).warm
        users = participants(settings)
        work = work_by_round(settings, users, targets_in_windows(settings, warm, users))
        if work.shape[1] == 1:
            raise FedmemError(
                f"{len(users):,} users are so many that homes go by expected work alone."
            )
        rows, rounds = np.arange(len(users)), work[:, 1:]
        trained = round(settings.federation.fraction * len(users))
        title = f"{settings.data.name}: excess of the busiest node, {trained:,} users a round"
        table = make_table(title, ["nodes", "by expected work", "by rounds"])
        for nodes in asked.nodes:
            by_chance, planned = (share_out(rows, each, nodes) for each in (work[:, :1], work))
            found = (f"{excess(homes, rounds):.1%}" for homes in (by_chance, planned))
            table.add_row(str(nodes), *found)
        Console().print(table)


if __name__ == "__main__":
    main()
