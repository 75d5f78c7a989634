"""What needs no training: popularity, and the content of the latest items.

    python benchmarks/baselines.py data=ml-1m data.dir=FOLDER [--runs FOLDER] [--seeds 0,1,2]

`popularity` scores an item by its training interactions, `content` by the product of its row of the
start from content with the mean row of the user's latest items. With --runs, an arm of an
experiment (a folder with seed-0, seed-1, …), each is compared with it on the same users.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from fedmem.core.commands import command_parser
from fedmem.core.console import make_table
from fedmem.core.data.sampling import participants
from fedmem.core.errors import readable_exit
from fedmem.core.evaluation.outcomes import load_outcomes
from fedmem.core.evaluation.protocol import USERS, draw_negatives, metrics_of
from fedmem.core.evaluation.ranking import Scorer, by_embeddings, ranks_among, ranks_among_all
from fedmem.core.evaluation.statistics import paired_interval
from fedmem.core.node import Node
from fedmem.core.settings import Settings
from fedmem.runs.configuration import compose_settings

LATEST = 10
"""Items of a history that its mean is made of."""
METRICS = ("HR@10", "NDCG@10")


def scorers(node: Node) -> dict[str, Scorer]:
    """Both, at the users' test items."""
    found = node.interactions
    items = np.concatenate([found.training(int(user)) for user in node.users])
    counts = torch.from_numpy(np.bincount(items, minlength=found.num_items + 1)).float()
    rows = node.starting_rows()
    before = found.histories_before("test", node.users)
    latest = torch.stack([rows[own[-LATEST:].astype(np.int64)].mean(0) for own in before])
    popular = by_embeddings(torch.ones(len(node.users), 1), counts[:, None])
    return {"popularity": popular, "content": by_embeddings(latest, rows)}


def values(node: Node, scorer: Scorer) -> dict[str, np.ndarray]:
    """Every user's HR@10 and NDCG@10 [U], by `<ranking>/<metric>`."""
    found, users = node.interactions, node.users
    positives = found.held_out("test", users)
    negatives = draw_negatives(found, users, node.settings.seed, node.settings.evaluation.negatives)
    own = [found.history(int(user)) for user in users]
    ranks = {
        "sampled": ranks_among(scorer, positives, negatives),
        "full": ranks_among_all(scorer, positives, own, found.num_items),
    }
    return {
        f"{ranking}/{metric}": metrics_of(own_ranks)[metric]
        for ranking, own_ranks in ranks.items()
        for metric in METRICS
    }


def of_run(folder: Path) -> dict[str, np.ndarray]:
    """The same of a run's last stage."""
    ranks = list(load_outcomes(folder).values())[-1][USERS].ranks
    return {
        f"{ranking}/{metric}": metrics_of(ranks[ranking])[metric]
        for ranking in ("sampled", "full")
        for metric in METRICS
    }


def main() -> None:
    """The command."""
    parser = command_parser("baselines", __doc__)
    parser.add_argument("--runs", type=Path, help="folder of an arm, to compare with")
    parser.add_argument("--seeds", default="0,1,2", help="seeds (0,1,2)")
    parser.add_settings()
    asked = parser.parse_with_settings()
    with readable_exit():
        settings: Settings = compose_settings(asked.settings)
        seeds = [int(seed) for seed in asked.seeds.split(",")]
        per_seed: dict[str, list[dict[str, np.ndarray]]] = {}
        for seed in seeds:
            own = replace(settings, seed=seed)
            node = Node(own, participants(own))
            for name, scorer in scorers(node).items():
                per_seed.setdefault(name, []).append(values(node, scorer))
        names = list(next(iter(per_seed.values()))[0])
        table = make_table("", *names, gap=3)
        for name, found in per_seed.items():
            table.add_row(
                name, *(f"{np.mean([each[m].mean() for each in found]):.3f}" for m in names)
            )
        if asked.runs:
            runs = [of_run(asked.runs / f"seed-{seed}") for seed in seeds]
            for name, found in per_seed.items():
                cells = []
                for metric in names:
                    ours, theirs = (
                        np.mean([each[metric] for each in those], 0) for those in (runs, found)
                    )
                    less = paired_interval(ours, theirs)
                    cells.append(f"{less.mean:+.3f} [{less.low:+.3f}, {less.high:+.3f}]")
                table.add_row(f"{asked.runs.name} less {name}", *cells)
        Console(width=200).print(table)


if __name__ == "__main__":
    main()
