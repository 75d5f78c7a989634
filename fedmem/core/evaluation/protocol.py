"""Evaluation: leave one out by time, two rankings, and sums that add up over users and nodes.

- `sampled`: the held-out item among items that the user never touched, drawn once a seed and the
  same for every stage.
- `full`: the held-out item among all items but the user's own history.

For a validation `content` is `sampled` as if none of these items had an ID embedding: by h·z̄ alone.
Items that were kept from training have rankings of their own, see `fedmem.core.evaluation.cold`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fedmem.core.arrays import Ints, UserIndices
from fedmem.core.data import Interactions, absent_items
from fedmem.core.data.interactions import Split
from fedmem.core.evaluation.ranking import by_embeddings, by_model, ranks_among, ranks_among_all
from fedmem.core.model import Recommender
from fedmem.core.settings import Settings
from fedmem.core.training.hidden_states import last_hidden

RANKINGS = ("sampled", "full")
CUTOFFS = (5, 10, 20)
COLD = "cold"
"""The rankings of cold items together; also what each of their names starts with."""
USERS, COLD_USERS = "users", "cold_users"
"""Names under which the users are counted that any sums are over."""


@dataclass(frozen=True)
class Ranks:
    """Rank of each user's held-out item, 0 = first.

    Attributes:
        users: [U] user indices.
        ranks: by ranking, [U].
    """

    users: Ints
    ranks: dict[str, Ints]

    def sums(self, count: str = USERS) -> dict[str, float]:
        """The users under the name `count`, and for each ranking the sums of every metric."""
        totals: dict[str, float] = {count: float(len(self.users))}
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
    """Metrics from sums that were added over any number of nodes.

    A sum is divided by its users: `cold_users` for the rankings of cold items, `users` for others.
    """
    counts = {count: max(sums.get(count, 0.0), 1.0) for count in (USERS, COLD_USERS)}
    return {n: value / counts[count_of(n)] for n, value in sums.items() if n not in counts}


def count_of(ranking: str) -> str:
    """The name under which the users of a ranking, or of one of its metrics, are counted."""
    return COLD_USERS if ranking.startswith(COLD) else USERS


def sampled_negatives(
    interactions: Interactions, user: int, seed: int, count: int
) -> npt.NDArray[np.int64]:
    """The items [count] that `sampled` sets beside the user's held-out item.

    They depend on the seed and the user alone. A user who has touched nearly everything gets as
    many as there are left.
    """
    touched = np.unique(interactions.history(user))
    untouched = interactions.num_items - len(touched)
    generator = np.random.Generator(np.random.PCG64([seed, user]))
    places = generator.choice(untouched, size=min(count, untouched), replace=False)
    return absent_items(touched, places)


def draw_negatives(interactions: Interactions, users: UserIndices, seed: int, count: int) -> Ints:
    """[U, count] `sampled_negatives` of each user, filled up with 0."""
    drawn = np.zeros((len(users), count), dtype=np.int32)
    for row, user in enumerate(users):
        of_user = sampled_negatives(interactions, int(user), seed, count)
        drawn[row, : len(of_user)] = of_user
    return drawn


@torch.no_grad()
def rank_users(
    model: Recommender,
    settings: Settings,
    interactions: Interactions,
    users: UserIndices,
    split: Split,
    rankings: tuple[str, ...] = RANKINGS,
    memory_reads: Ints | None = None,
    negatives: Ints | None = None,
    hidden: Tensor | None = None,
) -> Ranks:
    """Rank the held-out item of each user.

    Args:
        model: the stage's model.
        settings: of the run.
        interactions: histories of (at least) these users.
        users: [U] user indices.
        split: `validation` is the item before the last, predicted from what came before it; `test`
            is the last.
        rankings: of `RANKINGS`, or `content`.
        memory_reads: [U, M] items that each user's memory held just before the held-out item;
            required where the stage reads the memory.
        negatives: [U, C] from `draw_negatives`; None: drawn here.
        hidden: [U, D] from `last_hidden` before the held-out items; None: computed here.
    """
    if negatives is None and {"sampled", "content"} & set(rankings):
        count = settings.evaluation.negatives
        negatives = draw_negatives(interactions, users, settings.seed, count)
    if hidden is None:
        hidden = last_hidden(model, settings, interactions.histories_before(split, users))
    positives = interactions.held_out(split, users)  # [U]
    scorer = by_model(model, hidden, memory_reads)
    ranks = {}
    for ranking in rankings:
        if ranking == "full":
            own = [interactions.history(int(user)) for user in users]
            found = ranks_among_all(scorer, positives, own, interactions.num_items)
        else:
            assert negatives is not None
            by = scorer if ranking == "sampled" else by_embeddings(hidden, model.content())
            found = ranks_among(by, positives, negatives)
        ranks[ranking] = found
    return Ranks(users.astype(np.int32), ranks)
