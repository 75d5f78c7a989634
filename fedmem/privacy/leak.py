"""Our own attack on our own uploads, in stage 1."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import reduce

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from scipy.stats import norm
from torch import Tensor

from fedmem.core.arrays import UserIndices
from fedmem.core.checkpoint import Checkpoint, checkpoint_path
from fedmem.core.console import make_table, say
from fedmem.core.data.sampling import participants
from fedmem.core.errors import FedmemError
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
from fedmem.core.privacy.plan import blocks, noise_multiplier
from fedmem.core.settings import Settings
from fedmem.core.stages import STAGES
from fedmem.core.training.batches import RoundKey
from fedmem.core.updates.filters import make_filters
from fedmem.core.updates.update import UserUpdates

STAGE = STAGES["pretrain_sasrec"]
ITEMS = "sasrec.item_emb.weight"
SUMS = (1, 2, 10, 100, 604)
KNOWN = 20
"""Users whose items the attacker knows, to build the matched filter from; nobody of those attacked.
"""
FRESH, TRAINED = "start", "trained"


@dataclass(frozen=True)
class Uploads:
    """What users change in the item embeddings, by the same parameters."""

    changes: list[Tensor]
    """[I + 1, D] of each user, through the filters at the user"""
    items: list[npt.NDArray[np.integer]]
    """each user's training items"""


def print_leak(settings: Settings, count: int) -> None:
    """Attack `count` users, and print how well each attack finds their training items.

    Raises:
        FedmemError: the data are not there, or have too few users.
    """
    users = participants(settings)
    if len(users) <= KNOWN:
        raise FedmemError(
            f"{len(users)} users are too few: the attack needs {KNOWN} to learn from."
        )
    console, node = Console(), Node(settings, users)
    generator = np.random.default_rng(settings.seed)
    order = generator.permutation(users)
    known, others = order[:KNOWN], order[KNOWN:]
    popularity = np.bincount(
        np.concatenate([node.interactions.training(int(user)) for user in users]),
        minlength=node.interactions.num_items + 1,
    )[1:].astype(float)
    table = make_table(
        "what is seen of stage 1",
        "AUC by\nlength",
        "\nmatched",
        "\nat best",
        "\npopularity",
        "precision",
        gap=3,
    )
    for title, parameters in _parameters(settings, node):
        node.load(STAGE, parameters, title)
        template = template_of(*_fields(_uploads(node, known)))
        uploads = _uploads(node, others[: max(count, SUMS[-1])])
        attacks = (row_lengths, lambda change, own=template: matched(change, own))
        targets = range(min(count, len(uploads.changes)))
        sizes = [size for size in SUMS if size <= len(uploads.changes)]
        for size in sizes if not settings.privacy.on else [1]:
            what = "one upload" if size == 1 else f"sum of {size} users"
            seen = _summed(uploads, targets, size)
            row = _row(seen, uploads, targets, attacks, popularity)
            table.add_row(f"{title}: {what}", *row[:2], "", *row[2:])
        if settings.privacy.on:
            noise, rounds = noise_multiplier(settings), _rounds(settings)
            drawn = torch.Generator().manual_seed(settings.seed)
            for taken, what in ((1.0, "one upload, noised"), (rounds, f"all {rounds:.0f} rounds")):
                seen = [
                    taken * uploads.changes[user]
                    + noise
                    * math.sqrt(taken)
                    * torch.randn(uploads.changes[user].shape, generator=drawn)
                    for user in targets
                ]
                row = _row(seen, uploads, targets, attacks, popularity)
                best = [
                    best_auc(uploads.changes[user], uploads.items[user], noise, taken)
                    for user in targets
                ]
                table.add_row(f"{title}: {what}", *row[:2], f"{np.mean(best):.3f}", *row[2:])
    console.print(table)
    _explain(settings, min(count, len(others)), console)


def _explain(settings: Settings, count: int, console: Console) -> None:
    lines = [
        f"\n{count} users; AUC: how often an item of the history comes before one that is not "
        "(.5: a guess);\nat best: for who knows how each item's row moves; precision: among as "
        "many items\nas the history has, by the length of rows."
    ]
    if settings.privacy.on:
        noise, rounds = noise_multiplier(settings), _rounds(settings)
        bound = float(norm.cdf(math.sqrt(rounds) / noise / math.sqrt(2)))
        lines.append(
            f"Noise of σ {noise:.3g}, as if a user took part in {rounds:.0f} rounds of the same "
            "parameters and nobody else did.\nNo attack on whether this user took part at all, who "
            f"is known but for that, has an AUC above {bound:.3f}."
        )
    say("\n".join(lines), console)


def _parameters(settings: Settings, node: Node) -> Iterator[tuple[str, Parameters]]:
    """The parameters that a federation starts from, and those of a checkpoint that is there."""
    rows = node.starting_rows() if settings.starts_from_content else None
    items = node.interactions.num_items
    yield FRESH, initial_parameters(settings.model, STAGE, items, (0, 0), settings.seed, {}, rows)
    path = checkpoint_path(settings.checkpoint, STAGE.name)
    if path.is_file():
        checkpoint = Checkpoint.load(path)
        fingerprint = node.interactions.fingerprint
        checkpoint.require_fit(path, STAGE.name, fingerprint, settings.model)
        yield TRAINED, checkpoint.parameters


def _uploads(node: Node, users: UserIndices) -> Uploads:
    filters, key = make_filters(node.settings), RoundKey(0, STAGE.name, 1)
    changes: list[Tensor] = []
    items: list[npt.NDArray[np.integer]] = []
    for user in users:
        update = node.trainer(STAGE).train_user(int(user), key)
        one = {name: value[None].cpu() for name, value in update.change.items()}
        updates = UserUpdates(np.array([user]), one, np.array([1]), np.array([0.0]))
        updates = reduce(lambda those, each: each.at_user(those), filters, updates)
        changes.append(updates.change[ITEMS][0])
        items.append(node.interactions.training(int(user)))
    return Uploads(changes, items)


def _fields(uploads: Uploads) -> tuple[list[Tensor], list[npt.NDArray[np.integer]]]:
    return uploads.changes, uploads.items


def _summed(uploads: Uploads, targets: range, size: int) -> list[Tensor]:
    """For each target the sum over the group of so many users that it is in."""
    groups = {
        start: torch.stack(uploads.changes[start : start + size]).sum(0)
        for start in {user - user % size for user in targets}
    }
    return [groups[user - user % size] for user in targets]


def _row(
    seen: list[Tensor],
    uploads: Uploads,
    targets: range,
    attacks: tuple[Callable[[Tensor], Scores], ...],
    popularity: Scores,
) -> list[str]:
    by_attack = [
        [
            auc(attack(change), uploads.items[user])
            for change, user in zip(seen, targets, strict=True)
        ]
        for attack in attacks
    ]
    by_popularity = [auc(popularity, uploads.items[user]) for user in targets]
    found = [
        precision(row_lengths(change), uploads.items[user])
        for change, user in zip(seen, targets, strict=True)
    ]
    return [f"{np.mean(values):.3f}" for values in (*by_attack, by_popularity, found)]


def _rounds(settings: Settings) -> float:
    """Rounds of stage 1 that a user takes part in, expected."""
    if STAGE.name not in settings.stage:
        raise FedmemError("The attack is on stage 1: add stage=pretrain_sasrec.")
    rounds = settings.of_stage(STAGE.name).rounds
    ordered = settings.privacy.schedule == "every_k"
    return max(1.0, rounds / blocks(settings) if ordered else rounds * settings.federation.fraction)
