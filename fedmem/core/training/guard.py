"""Which updates cannot be meant: not finite, out of all proportion, or the others' reversed.

A reversed change has the usual length, and a user's change is nearly orthogonal to the others'. But
it has a sign of its own, see `leaning`: the items of a user move far, along the states that they
were to be told from, and all other items a little, against them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

import torch
from torch import Tensor

ENOUGH = 3
"""Norms that a median is taken of: of two nobody can tell which is the odd one."""

VOTERS = 10
"""Leanings that a consensus is made of."""

LEANS = "sasrec.item_emb.weight"
"""The parameter whose change has a sign of its own."""


def norm_limit(norms: Sequence[float], ratio: float | None) -> float:
    """The norm up to which an update is in proportion to these.

    Args:
        norms: of updates of the like; those that are not finite do not count.
        ratio: `strategy.guard_ratio`.

    Returns:
        `ratio` times their median; infinite where the guard is off or the norms are too few.
    """
    finite = [norm for norm in norms if math.isfinite(norm)]
    if ratio is None or len(finite) < ENOUGH:
        return math.inf
    return ratio * median(finite)


def is_fit(norm: float, loss: float, limit: float = math.inf) -> bool:
    """Whether an update of this norm and loss can be averaged."""
    return math.isfinite(norm) and math.isfinite(loss) and norm <= limit


def leaning(change: Tensor) -> Tensor:
    """Where a change of the item embeddings [I + 1, D] leans to [D]: Σ_i |Δ_i| Δ_i.

    With the softmax over all items Σ_i Δ_i = 0: a target's row gains (1 − p) h, the others lose p h
    between them. Weighted by their lengths the few long rows outvote the many short ones, and the
    sum points along the hidden states h, which have much in common between users.
    """
    lean: Tensor = (torch.linalg.vector_norm(change, dim=1, keepdim=True) * change).sum(0)
    return lean


def reversed_among(leanings: Sequence[Tensor]) -> list[bool]:
    """Which leanings [D] have an angle above 90° to the median of all their directions.

    Fewer than `VOTERS` are no consensus: none is.
    """
    if len(leanings) < VOTERS:
        return [False] * len(leanings)
    directions = torch.nn.functional.normalize(torch.stack(list(leanings)), dim=1)
    consensus = directions.median(dim=0).values
    found: list[bool] = (directions @ consensus < 0).tolist()
    return found
