"""Evaluation: leave one out by time, two rankings, and sums that add up over users and nodes.

- `sampled`: the held-out item among items that the user never touched, drawn once a seed and the
  same for every stage.
- `full`: the held-out item among all items but the user's own history.

A tie counts against the held-out item, and so does a score that is no number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fedmem.data import Interactions
from fedmem.dropout import NO_DROPOUT
from fedmem.model import Memories, Recommender
from fedmem.settings import Settings

Split = Literal["validation", "test"]
RANKINGS = ("sampled", "full")
CUTOFFS = (5, 10, 20)


@dataclass(frozen=True)
class Ranks:
    """Rank of each user's held-out item, 0 = first.

    Attributes:
        users: [U] user indices.
        ranks: by ranking, [U].
    """

    users: npt.NDArray[np.int32]
    ranks: dict[str, npt.NDArray[np.int32]]

    def sums(self) -> dict[str, float]:
        """`users` and, for each ranking, the sums over users of every metric."""
        totals: dict[str, float] = {"users": float(len(self.users))}
        for ranking, ranks in self.ranks.items():
            for name, values in metrics_of(ranks).items():
                totals[f"{ranking}/{name}"] = float(values.sum())
        return totals


def metrics_of(ranks: npt.NDArray[np.integer]) -> dict[str, npt.NDArray[np.floating]]:
    """Every metric of every user, from ranks [U] (0 = first).

    With one relevant item HR@k = [rank < k], NDCG@k = [rank < k] / log2(rank + 2) and
    MRR = 1 / (rank + 1).
    """
    gain = np.asarray(1.0 / np.log2(ranks + 2.0), dtype=np.float64)
    values: dict[str, npt.NDArray[np.floating]] = {}
    for k in CUTOFFS:
        hit = (ranks < k).astype(np.float64)
        values[f"HR@{k}"] = hit
        values[f"NDCG@{k}"] = hit * gain
    values["MRR"] = 1.0 / (ranks + 1.0)
    return values


def means(sums: dict[str, float]) -> dict[str, float]:
    """Metrics from sums that were added over any number of nodes."""
    users = max(sums["users"], 1.0)
    return {name: value / users for name, value in sums.items() if name != "users"}


def sampled_negatives(
    interactions: Interactions, user: int, seed: int, count: int
) -> npt.NDArray[np.int64]:
    """The items [count] that `sampled` sets beside the user's held-out item.

    They depend on the seed and the user alone. A user who has touched nearly everything gets as
    many as there are left.
    """
    untouched = np.ones(interactions.num_items + 1, dtype=np.bool_)
    untouched[0] = False
    untouched[interactions.history(user)] = False
    pool = np.flatnonzero(untouched)
    generator = np.random.Generator(np.random.PCG64([seed, user]))
    return generator.choice(pool, size=min(count, len(pool)), replace=False)


@torch.no_grad()
def rank_users(
    model: Recommender,
    settings: Settings,
    interactions: Interactions,
    users: npt.NDArray[np.integer],
    split: Split,
    rankings: tuple[str, ...] = RANKINGS,
    memory_reads: npt.NDArray[np.int32] | None = None,
) -> Ranks:
    """Rank the held-out item of each user.

    Args:
        model: the stage's model.
        settings: of the run.
        interactions: histories of (at least) these users.
        users: [U] user indices.
        split: `validation` is the item before the last, predicted from what came before it; `test`
            is the last.
        rankings: of `RANKINGS`.
        memory_reads: [U, M] items that each user's memory held just before the held-out item;
            required where the stage reads the memory.
    """
    projected = model.project() if model.stage.content else None
    ranks: dict[str, list[npt.NDArray[np.int32]]] = {ranking: [] for ranking in rankings}
    for start in range(0, len(users), settings.evaluation.batch_users):
        batch = users[start : start + settings.evaluation.batch_users]
        held_out = -2 if split == "validation" else -1
        histories = [interactions.history(int(user)) for user in batch]
        hidden = last_hidden(model, settings, [h[:held_out] for h in histories])  # [B, 1, D]
        device = hidden.device
        positives = torch.tensor([[int(h[held_out])] for h in histories], device=device)  # [B, 1]
        memories = None
        if memory_reads is not None:
            items = torch.from_numpy(memory_reads[start : start + len(batch)]).long().to(device)
            memories = Memories(items.unsqueeze(1), items.unsqueeze(1) > 0)  # [B, 1, M]
        if "sampled" in rankings:
            ids = np.zeros((len(batch), settings.evaluation.negatives), dtype=np.int64)
            for row, user in enumerate(batch):
                drawn = sampled_negatives(interactions, int(user), settings.seed, ids.shape[1])
                ids[row, : len(drawn)] = drawn
            negatives = torch.from_numpy(ids).to(device)  # [B, C]
            candidates = torch.cat([positives, negatives], dim=1)
            scores = model.score(hidden, candidates, memories, projected)[:, 0]  # [B, 1 + C]
            ranks["sampled"].append(_ranks(scores[:, :1], scores[:, 1:], negatives > 0))
        if "full" in rankings:
            everything = torch.arange(1, interactions.num_items + 1, device=device)
            scores = model.score(hidden, everything, memories, projected)[:, 0]  # [B, I]
            allowed = torch.ones_like(scores, dtype=torch.bool)
            for row, history in enumerate(histories):
                allowed[row, torch.from_numpy(history - 1).long().to(device)] = False
            ranks["full"].append(_ranks(scores.gather(1, positives - 1), scores, allowed))
    return Ranks(
        users.astype(np.int32),
        {name: np.concatenate(parts or [np.zeros(0, np.int32)]) for name, parts in ranks.items()},
    )


def last_hidden(
    model: Recommender, settings: Settings, histories: list[npt.NDArray[np.int32]]
) -> Tensor:
    """Hidden states [B, 1, D] after the latest window of each history."""
    windows = [h[-settings.model.max_length :] for h in histories]
    rows = np.zeros((len(windows), max(len(w) for w in windows)), dtype=np.int64)
    for row, window in enumerate(windows):
        rows[row, : len(window)] = window
    device = next(model.parameters()).device
    hidden = model.sasrec(torch.from_numpy(rows).to(device), NO_DROPOUT)  # [B, T, D]
    last = torch.tensor([len(w) - 1 for w in windows], device=device)
    latest: Tensor = hidden[torch.arange(len(windows), device=device), last]  # [B, D]
    return latest.unsqueeze(1)


def _ranks(positive: Tensor, scores: Tensor, counted: Tensor) -> npt.NDArray[np.int32]:
    """How many counted scores [B, C] are not surely below the positive's [B, 1]."""
    not_below = ~(scores < positive)
    return (not_below & counted).sum(1).to(torch.int32).cpu().numpy()
