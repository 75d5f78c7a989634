"""Our own attack on our own uploads, stage by stage."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from scipy.stats import norm
from torch import Tensor

from fedmem.core.arrays import UserIndices
from fedmem.core.checkpoint import Checkpoint, checkpoint_path, load_parents
from fedmem.core.console import make_table, say
from fedmem.core.data.sampling import participants
from fedmem.core.errors import FedmemError
from fedmem.core.memory import auto_threshold
from fedmem.core.model.parameters import Parameters, initial_parameters
from fedmem.core.node import Node
from fedmem.core.privacy.attack import (
    Scores,
    auc,
    best_auc,
    matched,
    precision,
    row_lengths,
    template_of,
)
from fedmem.core.privacy.item_rows import ItemRows
from fedmem.core.privacy.plan import blocks, noise_multiplier
from fedmem.core.settings import Settings
from fedmem.core.stages import Stage, find_stage
from fedmem.core.training.batches import RoundKey
from fedmem.core.updates.filters import make_filters
from fedmem.core.updates.update import UserUpdates

SUMS = (1, 2, 10, 100, 604)
KNOWN = 20
"""Users whose items the attacker knows, to build the matched filter from; nobody of those attacked.
"""
FRESH, TRAINED = "start", "trained"
Attacks = tuple[Callable[[Tensor], Scores], ...]


@dataclass(frozen=True)
class Uploads:
    """What users change in the parameters that say something of items, by the same parameters."""

    changes: list[Parameters]
    """of each user, through the filters at the user"""
    items: list[npt.NDArray[np.integer]]
    """each user's training items"""


def print_leak(settings: Settings, count: int) -> None:
    """Attack `count` users in each stage, and print how well their training items are found.

    A stage whose parents have not been trained is left out.

    Raises:
        FedmemError: the data are not there, or have too few users, or no stage is left.
    """
    users = participants(settings)
    if len(users) <= KNOWN:
        raise FedmemError(
            f"{len(users)} users are too few: the attack needs {KNOWN} to learn from."
        )
    console, node = Console(), Node(settings, users)
    stages = [find_stage(name) for name in settings.stage]
    lacking = {
        stage.name: parent
        for stage in stages
        for parent in stage.requires
        if not checkpoint_path(settings.checkpoint, parent).is_file()
    }
    for stage in stages:
        if stage.name not in lacking:
            _print_stage(node, stage, count, console)
    if lacking:
        listed = "; ".join(f"{name} starts from {parent}" for name, parent in lacking.items())
        left_out = f"{listed}, of which checkpoint.dir={settings.checkpoint.dir} has no checkpoint."
        if len(lacking) == len(stages):
            raise FedmemError(left_out)
        say(f"\nLeft out: {left_out}", console)
    _explain(settings, min(count, len(users) - KNOWN), console)


def _print_stage(node: Node, stage: Stage, count: int, console: Console) -> None:
    settings = node.settings
    order = np.random.default_rng(settings.seed).permutation(node.users)
    known, others = order[:KNOWN], order[KNOWN:]
    popularity = np.bincount(
        np.concatenate([node.interactions.training(int(user)) for user in node.users]),
        minlength=node.interactions.num_items + 1,
    )[1:].astype(float)
    table = make_table(
        f"what is seen of\n{stage.name}",
        "AUC by\nlength",
        "\nmatched",
        "\nat best",
        "\npopularity",
        "\nprecision",
        gap=3,
    )
    for title, parameters in _parameters(settings, node, stage):
        node.load(stage, parameters, f"{stage.name}, {title}")
        rows = ItemRows(stage, parameters, node.content if stage.content else None)
        learnt = _uploads(node, stage, rows.names, known)
        template = template_of([rows(change) for change in learnt.changes], learnt.items)
        uploads = _uploads(node, stage, rows.names, others[: max(count, SUMS[-1])])
        attacks = (row_lengths, lambda found, own=template: matched(found, own))
        targets = range(min(count, len(uploads.changes)))
        sizes = [size for size in SUMS if size <= len(uploads.changes)]
        for size in sizes if not settings.privacy.on else [1]:
            what = "one upload" if size == 1 else f"sum of {size} users"
            seen = (rows(change) for change in _summed(uploads, targets, size))
            row = _row(seen, uploads, targets, attacks, popularity)
            table.add_row(f"{title}: {what}", *row[:2], "", *row[2:])
        if settings.privacy.on:
            noise, rounds = noise_multiplier(settings), _rounds(settings, stage)
            drawn = torch.Generator().manual_seed(settings.seed)
            for taken, what in ((1.0, "one with noise"), (rounds, f"all {rounds:.0f} rounds")):
                seen = (
                    rows(_noised(uploads.changes[user], taken, noise, drawn)) for user in targets
                )
                row = _row(seen, uploads, targets, attacks, popularity)
                best = ""
                if rows.of_table:
                    each = [
                        best_auc(rows(uploads.changes[user]), uploads.items[user], noise, taken)
                        for user in targets
                    ]
                    best = f"{np.mean(each):.3f}"
                table.add_row(f"{title}: {what}", *row[:2], best, *row[2:])
    console.print(table)


def _noised(change: Parameters, taken: float, noise: float, drawn: torch.Generator) -> Parameters:
    """The sum of so many rounds of the same change, each with its noise."""
    width = noise * math.sqrt(taken)
    return {
        name: taken * value + width * torch.randn(value.shape, generator=drawn)
        for name, value in change.items()
    }


def _explain(settings: Settings, count: int, console: Console) -> None:
    lines = [
        f"\n{count} users; AUC: how often an item of the history comes before one that is not "
        "(.5: a guess);\nat best: for who knows how each item's row moves; precision: among as "
        "many items\nas the history has, by the length of rows."
    ]
    if settings.privacy.on:
        noise = noise_multiplier(settings)
        rounds = sum(_rounds(settings, find_stage(name)) for name in settings.stage)
        bound = float(norm.cdf(math.sqrt(rounds) / noise / math.sqrt(2)))
        lines.append(
            f"Noise of σ {noise:.3g}, as if a user took part in all of its rounds with the same "
            "parameters\nand nobody else did. No attack on whether this user took part at all, "
            f"who is known but\nfor that, in {rounds:.0f} rounds has an AUC above {bound:.3f}."
        )
    say("\n".join(lines), console)


def _parameters(settings: Settings, node: Node, stage: Stage) -> Iterator[tuple[str, Parameters]]:
    """The parameters that a stage starts from, and those of its checkpoint where there is one."""
    interactions = node.interactions
    content = node.corpus.content_files if stage.content else ""
    parents = load_parents(settings, stage, interactions.fingerprint, content)
    earlier = {name: parent.parameters for name, parent in parents.items()}
    rows = node.starting_rows() if settings.starts_from_content and not parents else None
    widths = (0, 0)
    if stage.content:
        widths = (node.content.visual.shape[1], node.content.text.shape[1])
    items, seed = interactions.num_items, settings.seed
    yield FRESH, initial_parameters(settings.model, stage, items, widths, seed, earlier, rows)
    path = checkpoint_path(settings.checkpoint, stage.name)
    if path.is_file():
        checkpoint = Checkpoint.load(path)
        checkpoint.require_fit(path, stage.name, interactions.fingerprint, settings.model, content)
        yield TRAINED, checkpoint.parameters


def _uploads(node: Node, stage: Stage, names: Sequence[str], users: UserIndices) -> Uploads:
    filters, key = make_filters(node.settings), RoundKey(0, stage.name, 1)
    if stage.memory:
        memory = node.settings.memory
        threshold = memory.threshold
        if threshold == "auto":
            threshold = auto_threshold(node.novelty_histogram(), memory.write_ratio)
        node.open_bank(float(threshold))
        node.ingest(stage, "validation")
    changes: list[Parameters] = []
    items: list[npt.NDArray[np.integer]] = []
    trainer = node.trainer(stage)
    for user in users:
        update = trainer.train_user(int(user), key)
        one = {name: value[None].cpu() for name, value in update.change.items()}
        updates = UserUpdates(np.array([user]), one, np.array([1]), np.array([0.0]))
        updates = reduce(lambda those, each: each.at_user(those), filters, updates)
        changes.append({name: updates.change[name][0].clone() for name in names})
        items.append(node.interactions.training(int(user)))
    return Uploads(changes, items)


def _summed(uploads: Uploads, targets: range, size: int) -> Iterator[Parameters]:
    """For each target the sum over the group of so many users that it is in."""
    groups = {
        start: {
            name: torch.stack([each[name] for each in uploads.changes[start : start + size]]).sum(0)
            for name in uploads.changes[start]
        }
        for start in {user - user % size for user in targets}
    }
    return (groups[user - user % size] for user in targets)


def _row(
    seen: Iterator[Tensor],
    uploads: Uploads,
    targets: range,
    attacks: Attacks,
    popularity: Scores,
) -> list[str]:
    """Means over targets: the AUC of each attack and of popularity, and the first's precision."""
    found = []
    for rows, user in zip(seen, targets, strict=True):
        items = uploads.items[user]
        scores = [attack(rows) for attack in attacks]
        by_attack = [auc(each, items) for each in (*scores, popularity)]
        found.append([*by_attack, precision(scores[0], items)])
    return [f"{value:.3f}" for value in np.mean(found, axis=0)]


def _rounds(settings: Settings, stage: Stage) -> float:
    """Rounds of a stage that a user takes part in, expected."""
    rounds = settings.of_stage(stage.name).rounds
    ordered = settings.privacy.schedule == "every_k"
    return max(1.0, rounds / blocks(settings) if ordered else rounds * settings.federation.fraction)
