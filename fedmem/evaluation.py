"""Evaluation: leave one out by time, two rankings, and sums that add up over users and nodes.

- `sampled`: the held-out item among items that the user never touched, drawn once a seed and the
  same for every stage.
- `full`: the held-out item among all items but the user's own history.

A tie counts against the held-out item, and so does a score that is no number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fedmem.data import Interactions, absent_items, by_length
from fedmem.device import positions_at_once
from fedmem.dropout import NO_DROPOUT
from fedmem.model import Recommender
from fedmem.settings import Settings

Split = Literal["validation", "test"]
RANKINGS = ("sampled", "full")
CUTOFFS = (5, 10, 20)
HELD_OUT: dict[Split, int] = {"test": 1, "validation": 2}
"""Where the held-out item stands, from the end of the history."""
SCORES_AT_ONCE = {"cpu": 1 << 20, "cuda": 1 << 26}
"""Scores that are held at a time: what fits the cache of a CPU, or fills a GPU."""
READS_AT_ONCE = {"cpu": 1 << 15, "cuda": 1 << 21}
"""The same where each score reads a memory."""


@dataclass(frozen=True)
class Ranks:
    """Rank of each user's held-out item, 0 = first.

    Attributes:
        users: [U] user indices.
        ranks: by ranking, [U].
    """

    users: npt.NDArray[np.int32]
    ranks: dict[str, npt.NDArray[np.int32]]

    @classmethod
    def joined(cls, parts: Sequence[Ranks]) -> Ranks | None:
        """Those of several nodes together, users ascending; None where no node told any."""
        if not parts:
            return None
        users = np.concatenate([part.users for part in parts])
        order = np.argsort(users)
        return cls(
            users[order],
            {n: np.concatenate([p.ranks[n] for p in parts])[order] for n in parts[0].ranks},
        )

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
    touched = np.unique(interactions.history(user))
    untouched = interactions.num_items - len(touched)
    generator = np.random.Generator(np.random.PCG64([seed, user]))
    places = generator.choice(untouched, size=min(count, untouched), replace=False)
    return absent_items(touched, places)


def draw_negatives(
    interactions: Interactions, users: npt.NDArray[np.integer], seed: int, count: int
) -> npt.NDArray[np.int32]:
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
    users: npt.NDArray[np.integer],
    split: Split,
    rankings: tuple[str, ...] = RANKINGS,
    memory_reads: npt.NDArray[np.int32] | None = None,
    negatives: npt.NDArray[np.int32] | None = None,
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
        rankings: of `RANKINGS`.
        memory_reads: [U, M] items that each user's memory held just before the held-out item;
            required where the stage reads the memory.
        negatives: [U, C] from `draw_negatives`; None: drawn here.
        hidden: [U, D] from `last_hidden` before the held-out items; None: computed here.
    """
    device, held_out = model.sasrec.norm.weight.device, HELD_OUT[split]
    if negatives is None and "sampled" in rankings:
        count = settings.evaluation.negatives
        negatives = draw_negatives(interactions, users, settings.seed, count)
    if hidden is None:
        histories = [interactions.history(int(user))[:-held_out] for user in users]
        hidden = last_hidden(model, settings, histories)

    def on_device(array: npt.NDArray[np.integer]) -> Tensor:
        return torch.from_numpy(array).long().to(device)

    positives = on_device(interactions.items[interactions.offsets[users + 1] - held_out])  # [U]
    tables = model.tables()
    ranks = {ranking: np.zeros(len(users), dtype=np.int32) for ranking in rankings}

    def score(batch: slice, candidates: Tensor) -> Tensor:
        reads = None if memory_reads is None else on_device(memory_reads[batch]).unsqueeze(1)
        return model.score(hidden[batch].unsqueeze(1), candidates, tables, reads).total[:, 0]

    at_once = SCORES_AT_ONCE[device.type]
    pairs = at_once if memory_reads is None else READS_AT_ONCE[device.type]
    if "sampled" in rankings:
        assert negatives is not None
        for batch in _slices(len(users), pairs // (1 + negatives.shape[1])):
            others = on_device(negatives[batch])  # [B, C]
            scores = score(batch, torch.cat([positives[batch, None], others], dim=1))
            ranks["sampled"][batch] = _ranks(scores[:, :1], scores[:, 1:], others > 0)
    if "full" in rankings:
        items = interactions.num_items
        for batch in _slices(len(users), at_once // items):
            scores = torch.empty(batch.stop - batch.start, items, device=device)
            for part in _slices(items, pairs // len(scores)):
                everything = torch.arange(part.start + 1, part.stop + 1, device=device)
                scores[:, part] = score(batch, everything)
            counted = torch.ones_like(scores, dtype=torch.bool)
            lengths = interactions.lengths[users[batch]]
            own = np.concatenate([interactions.history(int(user)) for user in users[batch]])
            counted[on_device(np.repeat(np.arange(len(lengths)), lengths)), on_device(own - 1)] = 0
            at_positive = scores.gather(1, positives[batch, None] - 1)
            ranks["full"][batch] = _ranks(at_positive, scores, counted)
    return Ranks(users.astype(np.int32), ranks)


@torch.no_grad()
def last_hidden(
    model: Recommender, settings: Settings, histories: list[npt.NDArray[np.int32]]
) -> Tensor:
    """Hidden states [U, D] after the latest window of each history."""
    device, width = model.sasrec.norm.weight.device, settings.model.dim
    hidden = torch.empty(len(histories), width, device=device)
    lengths = np.array([min(len(h), settings.model.max_length) for h in histories], dtype=np.int64)
    for rows in by_length(lengths, positions_at_once(settings.client.micro_batch, device)):
        items = np.zeros((len(rows), lengths[rows[0]]), dtype=np.int64)
        for place, row in enumerate(rows):
            items[place, : lengths[row]] = histories[row][-lengths[row] :]
        states = model.sasrec(torch.from_numpy(items).to(device), NO_DROPOUT)  # [B, T, D]
        hidden[rows] = states[torch.arange(len(rows)), lengths[rows] - 1]
    return hidden


def _slices(count: int, size: int) -> Iterator[slice]:
    """0 … count in stretches of at most `size`, at least 1."""
    size = max(size, 1)
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


def _ranks(positive: Tensor, scores: Tensor, counted: Tensor) -> npt.NDArray[np.int32]:
    """How many counted scores [B, C] are not surely below the positive's [B, 1]."""
    not_below = ~(scores < positive)
    return (not_below & counted).sum(1).to(torch.int32).cpu().numpy()
