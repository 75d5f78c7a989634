"""Leaves out updates that point the wrong way.

A reversed change has the usual length, and a user's change is nearly orthogonal to the others'. But
it has a sign of its own, see `direction`: the items of a user move far, along the hidden states
that they were to be distinguished from, and all other items a little, against them.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from fedmem.core.updates.filter import Refusal, Reply, UpdateFilter
from fedmem.core.updates.update import UserUpdates

VOTERS = 10
"""Directions that a consensus is made of."""

SIGNED = "sasrec.item_emb.weight"
"""The parameter whose change has a sign of its own."""


class DirectionFilter(UpdateFilter):
    """Drops updates whose direction is beyond a right angle to the median of the others'.

    It applies where single updates are seen and the item embeddings train.
    """

    name = "direction"

    def __init__(self) -> None:
        self._directions: dict[int, Tensor] = {}

    def at_user(self, updates: UserUpdates) -> UserUpdates:
        """The updates as they are; their directions are kept for `outliers`."""
        if SIGNED in updates.change:
            for user, change in zip(updates.users.tolist(), updates.change[SIGNED], strict=True):
                self._directions[user] = direction(change)
        return updates

    def outliers(self) -> set[int]:
        """Users whose changes are reversed."""
        found = reversed_among(list(self._directions.values()))
        return set(itertools.compress(self._directions, found))

    def at_server(self, replies: Sequence[Reply]) -> tuple[list[Reply], list[Refusal]]:
        """The replies whose change points where the others' do."""
        trained = [each for each in replies if each.update.weight and SIGNED in each.update.change]
        found = reversed_among([direction(each.update.change[SIGNED]) for each in trained])
        nodes = {each.node for each in itertools.compress(trained, found)}
        reason = "its change points the wrong way (strategy.guard_direction)"
        return (
            [each for each in replies if each.node not in nodes],
            [Refusal(node, reason) for node in sorted(nodes)],
        )


def direction(change: Tensor) -> Tensor:
    """Where a change of the item embeddings [I + 1, D] points to [D]: Σ_i |Δ_i| Δ_i.

    With the softmax over all items Σ_i Δ_i = 0: a target's row gains (1 − p) h, the others lose p h
    between them. Weighted by their lengths the few long rows outvote the many short ones, and the
    sum points along the hidden states h, which have much in common between users.
    """
    total: Tensor = (torch.linalg.vector_norm(change, dim=1, keepdim=True) * change).sum(0)
    return total


def reversed_among(directions: Sequence[Tensor]) -> list[bool]:
    """Which directions [D] have an angle above 90° to the median of all, at equal length.

    Fewer than `VOTERS` are no consensus: then no direction counts as reversed.
    """
    if len(directions) < VOTERS:
        return [False] * len(directions)
    unit = torch.nn.functional.normalize(torch.stack(list(directions)), dim=1)
    consensus = unit.median(dim=0).values
    return (unit @ consensus < 0).tolist()
