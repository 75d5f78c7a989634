"""Where one item stands among others: ranks of U users, each by its own scores.

A tie counts against the item that is ranked, and so does a score that is no number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from fedmem.core.arrays import Ints
from fedmem.core.model import Recommender

OWN_AT_ONCE = {"cpu": 1 << 14, "cuda": 1 << 19}
"""Scores at a time where users have candidates of their own, whose vectors are gathered for each:
what fits the cache of a CPU, or fills a GPU."""
SHARED_AT_ONCE = {"cpu": 1 << 20, "cuda": 1 << 23}
"""The same where users share their candidates; so many are held before they are ranked."""
SHARED_READS_AT_ONCE = {"cpu": 1 << 22, "cuda": 1 << 19}
"""The same where each score also reads a memory. On CPUs a pair of candidate and entry costs the
less, the more users share it."""


@dataclass(frozen=True)
class Scorer:
    """Scores of candidates for U users.

    Attributes:
        of: scores [B, C] of candidates [B, C], or [C] shared by all, for the users of a slice.
        device: where candidates must be.
        reads: whether a score reads a memory.
    """

    of: Callable[[slice, Tensor], Tensor]
    device: torch.device
    reads: bool = False


def by_model(model: Recommender, hidden: Tensor, memory_reads: Ints | None) -> Scorer:
    """The stage's score, at states [U, D] of users whose memories give the items [U, M]."""
    tables = model.tables()

    def score(batch: slice, candidates: Tensor) -> Tensor:
        reads = None
        if memory_reads is not None:
            reads = on(hidden.device, memory_reads[batch]).unsqueeze(1)
        return model.score(hidden[batch].unsqueeze(1), candidates, tables, reads).total[:, 0]

    return Scorer(score, hidden.device, reads=memory_reads is not None)


def by_embeddings(hidden: Tensor, embeddings: Tensor) -> Scorer:
    """h·x of states [U, D] and embeddings x [I + 1, D]."""

    def score(batch: slice, candidates: Tensor) -> Tensor:
        if candidates.dim() == 1:
            return hidden[batch] @ embeddings[candidates].T
        vectors = F.embedding(candidates, embeddings)  # [B, C, D]
        return (vectors @ hidden[batch].unsqueeze(2)).squeeze(2)

    return Scorer(score, hidden.device)


@torch.no_grad()
def ranks_among(
    scorer: Scorer, positives: npt.NDArray[np.integer], negatives: npt.NDArray[np.integer]
) -> Ints:
    """Ranks [U], 0 = first, of items [U] among others [U, C], which are filled up with 0."""
    ranks = np.zeros(len(positives), dtype=np.int32)
    at_once = OWN_AT_ONCE[scorer.device.type]
    for batch in slices(len(positives), at_once // (1 + negatives.shape[1])):
        others = on(scorer.device, negatives[batch])  # [B, C]
        wanted = on(scorer.device, positives[batch])[:, None]
        scores = scorer.of(batch, torch.cat([wanted, others], dim=1))
        ranks[batch] = _ranks(scores[:, :1], scores[:, 1:], others > 0)
    return ranks


@torch.no_grad()
def ranks_among_all(
    scorer: Scorer,
    positives: npt.NDArray[np.integer],
    own: Sequence[npt.NDArray[np.integer]],
    num_items: int,
) -> Ints:
    """Ranks [U], 0 = first, of items [U] among all items but the users' own ones."""
    ranks = np.zeros(len(positives), dtype=np.int32)
    held = SHARED_AT_ONCE[scorer.device.type]
    at_once = SHARED_READS_AT_ONCE[scorer.device.type] if scorer.reads else held
    for batch in slices(len(positives), max(held, at_once) // num_items):
        scores = torch.empty(batch.stop - batch.start, num_items, device=scorer.device)
        for part in slices(num_items, at_once // len(scores)):
            everything = torch.arange(part.start + 1, part.stop + 1, device=scorer.device)
            scores[:, part] = scorer.of(batch, everything)
        counted = torch.ones_like(scores, dtype=torch.bool)
        lengths = np.array([len(items) for items in own[batch]])
        rows = on(scorer.device, np.repeat(np.arange(len(lengths)), lengths))
        counted[rows, on(scorer.device, np.concatenate(own[batch])) - 1] = False
        at_positive = scores.gather(1, on(scorer.device, positives[batch])[:, None] - 1)
        ranks[batch] = _ranks(at_positive, scores, counted)
    return ranks


def on(device: torch.device, array: npt.NDArray[np.integer]) -> Tensor:
    """Item ids as a tensor there."""
    return torch.from_numpy(array).long().to(device)


def slices(count: int, size: int) -> Iterator[slice]:
    """0 … count in stretches of at most `size`, at least 1."""
    size = max(size, 1)
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


def _ranks(positive: Tensor, scores: Tensor, counted: Tensor) -> Ints:
    """How many counted scores [B, C] are not surely below the positive's [B, 1]."""
    not_below = ~(scores < positive)
    return (not_below & counted).sum(1).to(torch.int32).cpu().numpy()
