"""Finds histories in what users send of the item embeddings.

The rows of the items that a user has trained on move most, and along what the hidden states have in
common. Two attacks rank all items: by the length of their row, and by the product of the row with
the direction that the rows of known users' items move in (a matched filter).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import norm, rankdata
from torch import Tensor
from torch.nn import functional as F

Scores = npt.NDArray[np.float64]


def row_lengths(change: Tensor) -> Scores:
    """Lengths [I] of the rows of a change [I + 1, D], without the padding's."""
    return np.asarray(change[1:].norm(dim=1).double().numpy())


def matched(change: Tensor, template: Tensor) -> Scores:
    """Products [I] of the rows of a change [I + 1, D] with a template [D]."""
    return np.asarray((change[1:] @ template).double().numpy())


def template_of(changes: list[Tensor], items: list[npt.NDArray[np.integer]]) -> Tensor:
    """The mean direction [D] in which rows of items move, of users whose items are known."""
    rows = torch.cat(
        [
            change[torch.from_numpy(np.unique(own).astype(np.int64))]
            for change, own in zip(changes, items, strict=True)
        ]
    )
    return F.normalize(rows.sum(0), dim=0)


def best_auc(change: Tensor, members: npt.NDArray[np.integer], noise: float, times: float) -> float:
    """The AUC, in the mean over members, of who knows for each item how its row [D] would move.

    A row of length ℓ in each of n sums with noise σ: Φ(√n ℓ / σ / √2).
    """
    rows = change[torch.from_numpy(np.unique(members).astype(np.int64))]
    strength = rows.norm(dim=1).double().numpy() * np.sqrt(times) / noise
    return float(norm.cdf(strength / np.sqrt(2)).mean())


def auc(scores: Scores, members: npt.NDArray[np.integer]) -> float:
    """How often a member, an item from 1, has a higher score [I] than an item that is none."""
    inside = np.zeros(len(scores), dtype=bool)
    inside[np.unique(members) - 1] = True
    ranks, count = rankdata(scores), int(inside.sum())
    others = len(scores) - count
    return float((ranks[inside].sum() - count * (count + 1) / 2) / (count * others))


def precision(scores: Scores, members: npt.NDArray[np.integer]) -> float:
    """Share of members among as many items with the highest scores; recall is the same number."""
    own = np.unique(members)
    highest = np.argsort(-scores, kind="stable")[: len(own)] + 1
    return float(np.isin(highest, own).mean())
